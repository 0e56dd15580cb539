"""Processes that begin with everything imported, so that many real runs take little time."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from pathlib import Path

import pyloudnorm  # noqa: F401 - like the next ones: already there when a process begins
import torch  # noqa: F401

import infinite_talk.engine
import infinite_talk.generate
import infinite_talk.media.take
import infinite_talk.runtime  # noqa: F401
from infinite_talk.frontends.cli import generate  # noqa: F401
from infinite_talk.frontends.cli.main import run

# Forked from a small process that runs no threads: quick, and safe with torch.
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload([__name__])
KILLED = -signal.SIGKILL


def attempt(arguments: list[str], errors: Path, moment: float | None = None) -> int | None:
    """Run the command line in a process; kill it after ``moment`` seconds (``None``: never).

    Returns:
        the exit code, negative for a signal. What it said on stderr is in the file ``errors``.
    """
    process = PROCESSES.Process(target=command, args=(arguments, errors))
    process.start()
    process.join(moment)
    process.kill()  # nothing happens to a process that has ended
    process.join()
    return process.exitcode


def attempt_until(arguments: list[str], errors: Path, there: Path) -> int | None:
    """The same, killed at the first thing it does with a file after ``there`` has appeared."""
    process = PROCESSES.Process(target=dying_when, args=(arguments, errors, there))
    process.start()
    process.join()
    return process.exitcode


def dying_when(arguments: list[str], errors: Path, there: Path) -> None:
    """The body of a process: Python announces every opening and removing of a file."""

    def hook(event: str, _arguments: tuple[object, ...]) -> None:
        if event in ("open", "os.remove", "os.rmdir") and there.exists():
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)
    command(arguments, errors)


def command(arguments: list[str], errors: Path) -> None:
    """The body of a process: the program as a user starts it, with no configuration of the user."""
    os.environ["XDG_CONFIG_HOME"] = str(errors.parent / "none")
    with errors.open("w") as sys.stderr, Path(os.devnull).open("w") as sys.stdout:
        code = run(arguments)
    sys.exit(code)
