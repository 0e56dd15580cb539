"""Entry point of the ``infinite-talk`` command: runs a command and turns every ending into an exit code."""

from __future__ import annotations

import io
import logging
import sys
import traceback
from collections.abc import Sequence

from .exits import explain


def main() -> None:
    """Console script."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: Sequence[str]) -> int:
    """Run the command line and return its exit code; nothing is raised."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(
            stream, io.TextIOWrapper
        ):  # a terminal that cannot show a character is no reason to stop
            stream.reconfigure(errors="backslashreplace")
    try:
        _start_logging(arguments)
        return _run(arguments)
    except BrokenPipeError:  # the reader of our output has left
        sys.stderr.close()
        return 1
    except BaseException as error:
        return _fail(error, arguments)


def _run(arguments: Sequence[str]) -> int:
    import typer

    from .app import app

    code = typer.main.get_command(app).main(list(arguments), prog_name="infinite-talk", standalone_mode=False)
    return code if isinstance(code, int) else 0


def _fail(error: BaseException, arguments: Sequence[str]) -> int:
    if isinstance(error, SystemExit):
        return error.code if isinstance(error.code, int) else 1
    failure = explain(error)
    if "--debug" in arguments or (_verbosity(arguments) and not failure.expected):
        traceback.print_exception(error)
    from .show import clean, json_text

    if "--json" in arguments:
        sys.stdout.write(json_text(failure.as_dict()) + "\n")
    if failure.message:  # none where a bare command has shown its help
        sys.stderr.write(f"infinite-talk: {clean(failure.message)}\n")
    return failure.exit_code


def _verbosity(arguments: Sequence[str]) -> int:
    return sum({"-v": 1, "--verbose": 1, "-vv": 2}.get(argument, 0) for argument in arguments)


def _start_logging(arguments: Sequence[str]) -> None:
    """The library logs with the standard module; here it is decided who hears it."""
    level = {0: logging.WARNING, 1: logging.INFO}.get(_verbosity(arguments), logging.DEBUG)
    logging.basicConfig(
        level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s", stream=sys.stderr
    )
    logging.getLogger("infinite_talk").setLevel(level)
