"""From what the engine tells to the progress of a job."""

from __future__ import annotations

from dataclasses import replace

from infinite_talk.jobs.types import JobProgress
from infinite_talk.progress import Phase, Progress

PREPARED = 2.0
"""Percent for everything before the first window."""
MADE = 99.0
"""Percent when all windows are made; the rest is writing the file."""
DENOISED = 0.9
"""Share of a window's work that denoising is; decoding is the rest."""
_IN_WINDOWS = (Phase.SAMPLING, Phase.DECODING, Phase.WRITING)
_NOTES = 20


def follow(before: JobProgress, event: Progress) -> JobProgress:
    """The progress after an event of the engine; ``percent`` never falls, not even when work begins again."""
    inside = event.windows > 0 and event.phase in _IN_WINDOWS
    notes = before.notes
    if event.note and event.note not in notes:
        notes = (*notes, event.note)[-_NOTES:]
    return replace(
        before,
        phase=event.phase,
        window=event.window if inside else before.window,
        windows=event.windows or before.windows,
        step=event.step if inside else 0,
        steps=event.steps or before.steps,
        seconds_per_step=event.seconds_per_step or before.seconds_per_step,
        eta=event.eta if inside else None,
        percent=max(before.percent, _percent(event) if inside else 0.0),
        runs=event.runs or before.runs,
        notes=notes,
    )


def _percent(event: Progress) -> float:
    inside = DENOISED if event.phase is Phase.DECODING else 0.0
    if event.phase is Phase.SAMPLING and event.steps:
        inside = DENOISED * event.step / event.steps
    done = min(1.0, (event.window + inside) / event.windows)
    return PREPARED + (MADE - PREPARED) * done
