"""``infinite-talk generate``: from options to a finished file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from time import monotonic

from infinite_talk import Progress, Request, Settings

from .config import Options
from .requests import Files, build_request, build_settings
from .show import Show, duration
from .stop import polite_stop
from .talk import Run

PHOTO_NOTE = (
    "The embedded model knows drawn portraits; a photograph comes out as a soft drawing at best. "
    "For photographs use the real weights: --model FOLDER."
)


@dataclass(frozen=True, slots=True)
class Job:
    """How this call is to be carried out; what it makes is in the request."""

    output: Path | None = None
    official: Path | None = None
    again: Path | None = None
    resume: bool = True
    force: bool = False
    dry_run: bool = False


def generate(files: Files, options: Options, job: Job, run: Run) -> int:
    """Make the video. Everything that can be refused cheaply is refused before a model loads."""
    request, settings = build_request(files, options, _base(job)), build_settings(options)
    output = job.output or _default_output(request)
    if job.dry_run:
        return _preview(request, settings, run)
    check_output(output, force=job.force)
    return make(request, settings, output, job, run)


def make(request: Request, settings: Settings, output: Path, job: Job, run: Run) -> int:
    """Run the engine and report. Returns the exit code."""
    from infinite_talk import Engine

    with polite_stop() as stop, Show(quiet=run.quiet) as show:

        def listen(event: Progress) -> None:
            stop.check()
            show.progress(event, monotonic())

        began = monotonic()
        engine = Engine(settings, progress=listen)
        preview = engine.preview(request)
        show.note(preview_line(preview))
        for note in preview.notes:
            show.warn(note)
        if settings.model is None and request.image is not None and preview.photo:
            show.warn(PHOTO_NOTE)
        result = engine.write(request, output, resume=job.resume, overwrite=job.force, progress=listen)
        show.note(f"{duration(result.seconds)} of video in {duration(monotonic() - began)}")
    run.result({"ok": True, "output": str(result.path), "recipe": result.recipe}, str(result.path))
    return 0
