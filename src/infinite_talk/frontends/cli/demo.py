"""``infinite-talk demo``: the sample portrait speaks the sample recording."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from time import monotonic

import infinite_talk
from infinite_talk import CheckpointError, Request, Speaker

from .config import Options
from .generate import listener, preview_line, result_values, watching
from .requests import build_settings
from .show import duration
from .talk import Run

EMBEDDED = Path(infinite_talk.__file__).parent / "bundled" / "embedded"
PICTURES, RECORDINGS = ("portrait.png",), ("speech.wav", "speech.flac")


def demo(options: Options, output: Path, run: Run) -> int:
    """Make the video, its contact sheet and its lip-sync figures."""
    request = _request(options)
    settings = dataclasses.replace(build_settings(options), model=None)
    began = monotonic()
    output.parent.mkdir(parents=True, exist_ok=True)
    with watching(run) as (show, stop):
        from infinite_talk import Engine

        engine = Engine(settings, progress=listener(show, stop))
        show.note(preview_line(engine.preview(request)))
        result = engine.write(request, output, resume=False, overwrite=True)
    _look(result, output, run, monotonic() - began)
    return 0


def _request(options: Options) -> Request:
    """The sample picture and recording of the package; only the seed is the user's."""
    speaker = Speaker(audio=_bundled(RECORDINGS))
    request = Request(image=_bundled(PICTURES), speakers=(speaker,))
    return request if options.seed is None else dataclasses.replace(request, seed=options.seed)


def _bundled(names: tuple[str, ...]) -> Path:
    for name in names:
        if (EMBEDDED / name).is_file():
            return EMBEDDED / name
    raise CheckpointError(
        f"{EMBEDDED / names[0]} is missing: the package is incomplete. Install it again.",
        code="checkpoint_missing",
    )


def _look(result: infinite_talk.Result, output: Path, run: Run, seconds: float) -> None:
    """Say where the file is, what it shows and how well it does."""
    from infinite_talk import contact_sheet, window_seams
    from infinite_talk.lipsync import measure

    sheet, chart = output.with_suffix(".png"), output.with_name(f"{output.stem}-lipsync.png")
    contact_sheet(output, sheet)
    report = measure(output, chart=chart, seams=window_seams(output))
    values = result_values(result) | {"sheet": str(sheet), "chart": str(chart), "lipsync": report.summary()}
    text = (
        f"video:  {output}  ({duration(report.summary()['seconds'])}, made in {duration(seconds)})\n"
        f"        the sample portrait says the sample recording; every picture of it comes from the embedded model\n"
        f"sheet:  {sheet}  (twelve moments of it)\n"
        f"chart:  {chart}  (loudness and mouth opening)\n"
        f"sync:   {report.sentence()}"
    )
    run.result(values, text)
