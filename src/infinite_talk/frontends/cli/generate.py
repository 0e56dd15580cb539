"""``infinite-talk generate``: from options to a finished file."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any

from infinite_talk import (
    Attention,
    NoSpaceError,
    Precision,
    Progress,
    Quantization,
    Request,
    Settings,
    UsageError,
)

from .config import Options
from .requests import Files, build_request, build_settings
from .show import Show, clean, duration, size
from .stop import Stop, polite_stop
from .talk import Run

if TYPE_CHECKING:
    from infinite_talk import Preview, Result

EMBEDDED_NOTE = (
    "the embedded model knows drawn portraits; a photo comes out soft and drawn. For photos get the real weights "
    "(infinite-talk models list, infinite-talk models pull NAME), then use --model NAME."
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
    """Make the video. What can be refused cheaply is refused before anything heavy is imported."""
    base = _base(job)
    request, settings = build_request(files, options, base.request), build_settings(options, base.settings)
    output = job.output or _default_output(request)
    if not job.dry_run:
        check_output(output, force=job.force)
    from infinite_talk import Engine, with_distilled

    settings = with_distilled(settings, request.distilled)
    with watching(run) as (show, stop):
        engine = Engine(settings, progress=listener(show, stop))
        preview = engine.preview(request)
        if engine.embedded:
            show.warn(EMBEDDED_NOTE)
        for note in preview.notes:
            show.warn(note)
        if job.dry_run:
            show.close()
            run.result(_preview_values(preview, output), f"{output}: {preview_line(preview)}")
            return 0
        show.note(preview_line(preview))
        show.note(f"{preview.runs}; {preview.strategy}")
        result = engine.write(request, output, resume=job.resume, overwrite=job.force)
        if left_out := skipped_line(result):
            show.note(left_out)
        if base.model and base.model != result.recipe["model"]:
            show.warn(
                f"{job.again} was made with another model, {base.model.get('name')}"
                f"{' and LoRAs' if base.model.get('loras') else ''}: give it with --model and --lora."
            )
    run.result(result_values(result), clean(str(result.path)))
    return 0


@dataclass(frozen=True, slots=True)
class _Base:
    """What flags change: a job file, an earlier video, or nothing."""

    request: Request | None = None
    settings: Settings | None = None
    model: dict[str, str] | None = None  # name, version and hash of the model that the recipe was made with


@contextmanager
def watching(run: Run) -> Iterator[tuple[Show, Stop]]:
    """Progress on stderr, and a polite end on Ctrl-C and SIGTERM."""
    with polite_stop() as stop, Show(quiet=run.quiet) as show:
        yield show, stop


def listener(show: Show, stop: Stop) -> Any:  # noqa: ANN401 - a function
    """What hears the engine: shows each event, and ends the run when that was asked for."""

    def listen(event: Progress) -> None:
        stop.check()
        show.progress(event, monotonic())

    return listen


def check_output(output: Path, *, force: bool) -> None:
    """Refuse a place that cannot be written, before the work instead of after it.

    A file that is complete but whose run was killed before it had tidied up is no hindrance: the engine
    recognises it and does the rest.

    Raises:
        NoSpaceError: the file exists, or its folder is not there or not writable.
    """
    folder = output.resolve().parent
    if output.is_dir():
        raise NoSpaceError(
            f"{output} is a folder; -o wants the name of a file such as {output / 'talk.mp4'}."
        )
    untidied = output.with_name(f"{output.name}.take").exists()
    if output.exists() and not force and not untidied:
        raise NoSpaceError(f"{output} exists already; --force replaces it.", code="output_exists")
    if not folder.is_dir():
        raise NoSpaceError(f"The folder {folder} does not exist; make it or choose another -o.")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise NoSpaceError(f"The folder {folder} cannot be written to; choose another -o.")


def preview_line(preview: Preview) -> str:
    """``192x192, 0:13 (330 frames) in 5 windows; roughly 1.1 GB of memory and 1:10 of work``."""
    windows = f"{preview.windows} window" + "s" * (preview.windows != 1)
    what = (
        f"{preview.size.width}x{preview.size.height}, {duration(preview.seconds)} ({preview.frames} frames)"
    )
    cost = f"{size(preview.memory)} of memory and {duration(preview.estimated_seconds)} of work"
    return f"{what} in {windows}; roughly {cost}"


def result_values(result: Result) -> dict[str, Any]:
    """For ``--json``."""
    values = {"ok": True, "output": str(result.path), "recipe": result.recipe}
    return values | ({"skipped": [dict(window) for window in result.skipped]} if any(result.skipped) else {})


def skipped_line(result: Result) -> str:
    """``the step cache left out 72 of 240 passes of the model (30%); the picture is approximate``, or nothing."""
    counts = [count for window in result.skipped for count in window.values()]
    passes = len(counts) * int(result.recipe["request"]["steps"])
    if not passes:
        return ""
    share = f"{sum(counts)} of {passes} passes of the model ({sum(counts) / passes:.0%})"
    return f"the step cache left out {share}; the picture is approximate"


def _preview_values(preview: Preview, output: Path) -> dict[str, Any]:
    return {
        "ok": True,
        "output": str(output),
        "width": preview.size.width,
        "height": preview.size.height,
        "frames": preview.frames,
        "seconds": preview.seconds,
        "windows": preview.windows,
        "passes": preview.passes,
        "memory_bytes": round(preview.memory),
        "host_bytes": round(preview.host),
        "runs": preview.runs,
        "strategy": preview.strategy,
        "estimated_seconds": round(preview.estimated_seconds, 3),
        "notes": list(preview.notes),
    }


def _base(job: Job) -> _Base:
    if job.official and job.again:
        raise UsageError("Give --job or --from, not both.")
    if job.official:
        from infinite_talk import read_job_file

        return _Base(read_job_file(job.official))
    if job.again:
        from infinite_talk import Recipe

        recipe = Recipe.from_file(job.again)
        machine = recipe.machine
        settings = Settings(
            precision=Precision(machine.precision),
            quantization=Quantization(machine.quantization),
            attention=Attention(machine.attention),
            threads=machine.threads,
            crf=machine.crf,
        )
        return _Base(recipe.to_request([job.again.parent]), settings, dict(recipe.model))
    return _Base()


def _default_output(request: Request) -> Path:
    """``PICTURE-talking.mp4`` in the current folder."""
    picture = request.image or request.video
    assert picture is not None, "build_request saw to it"
    return Path(f"{picture.stem}-talking.mp4")
