"""The commands. What a command does is in the file of its name, which is imported when it runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from infinite_talk import UsageError, __version__

from .config import Options, load_options, parse_assignments
from .flags import (
    CHART,
    CONTROL,
    DEMO_OUTPUT,
    DEVICE,
    FILES,
    FORCE,
    JSON,
    MODEL,
    PLACE,
    REQUEST,
    TALK,
    with_flags,
)
from .requests import Files
from .talk import Run

app = typer.Typer(
    name="infinite-talk",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
MAKE, SEE = "Make a video", "Look"


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"infinite-talk {__version__}")
        raise typer.Exit


@app.callback()
def _common(
    version: Annotated[
        bool, typer.Option("--version", help="Show the version.", callback=_show_version, is_eager=True)
    ] = False,
) -> None:
    """A portrait and a recording of speech become a talking video."""


@app.command(rich_help_panel=MAKE)
@with_flags(*FILES, *REQUEST, *MODEL, *PLACE, *DEVICE, *CONTROL, FORCE, *TALK)
def generate(**flags: Any) -> int:  # noqa: ANN401 - the rows of the table
    """Make a talking video from a portrait (or a video) and speech."""
    options = load_options(_options(flags), config=flags["config"])
    lists = (tuple(flags[name] or ()) for name in ("audio", "box", "mask"))
    files = Files(flags["image"], flags["video"], *lists)

    from .generate import Job, generate

    job = Job(
        output=flags["output"],
        official=flags["job"],
        again=flags["again"],
        resume=flags["resume"],
        force=flags["force"],
        dry_run=flags["dry_run"],
    )
    return generate(files, options, job, Run.of(flags))


@app.command(rich_help_panel=MAKE)
@with_flags(DEMO_OUTPUT, *DEVICE, *TALK)
def demo(**flags: Any) -> int:  # noqa: ANN401
    """Let the sample portrait speak the sample recording with the embedded model."""
    options = load_options(_options(flags))

    from .demo import demo

    return demo(options, flags["output"] or Path("outputs/demo.mp4"), Run.of(flags))


@app.command(rich_help_panel=SEE)
@with_flags(CHART, *TALK)
def lipsync(
    video: Annotated[Path, typer.Argument(help="A talking video of a drawn portrait.", show_default=False)],
    **flags: Any,  # noqa: ANN401
) -> int:
    """Measure how well the mouth follows the sound."""
    from .lipsync import lipsync

    return lipsync(video, flags["chart"], Run.of(flags))


@app.command(rich_help_panel=SEE)
@with_flags(*TALK)
def doctor(**flags: Any) -> int:  # noqa: ANN401
    """Say what this machine has and what will run on it."""
    from .doctor import doctor

    return doctor(Run.of(flags))


@app.command(rich_help_panel=SEE)
@with_flags(JSON)
def version(**flags: Any) -> int:  # noqa: ANN401
    """Show the versions of this program and of what it stands on."""
    from .version import version

    return version(Run.of(flags))


def _options(flags: dict[str, Any]) -> dict[str, Any]:
    """What the command line says about options that a file may set too."""
    said = {
        name: value for name, value in flags.items() if name in Options.model_fields and value is not None
    }
    more = parse_assignments(flags.get("assignments") or [])
    if twice := sorted(set(said) & set(more)):
        raise UsageError(f"{twice[0]} is given twice: as a flag and with --set.")
    return said | more
