"""``infinite-talk lipsync``: how well the mouth of a video follows its sound."""

from __future__ import annotations

from pathlib import Path

from infinite_talk import InputError

from .talk import Run


def lipsync(video: Path, chart: Path | None, run: Run) -> int:
    """Measure, and draw a chart when asked."""
    if not video.is_file():
        raise InputError(f"{video}: there is no such file.", code="file_not_found")
    from infinite_talk import window_seams
    from infinite_talk.lipsync import measure, shortcomings

    report = measure(video, chart=chart, seams=window_seams(video))
    short = shortcomings(report)
    found = "".join(f"\nfalls short: {words}" for words in short)
    drawn = f"\nchart: {chart}" if chart else ""
    notes = "".join(f"\nnote: {note}" for note in report.notes)
    values = {"ok": True, "video": str(video), "chart": chart, **report.summary(), "shortcomings": short}
    run.result(values, f"lip sync: {report.sentence()}{found}{notes}{drawn}")
    return 0
