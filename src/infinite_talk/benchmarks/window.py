"""Whole windows: from the media to the mp4 on disk, through the engine."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, replace
from time import perf_counter
from typing import Any

from infinite_talk.benchmarks.clock import Spread, peak_memory, settle
from infinite_talk.benchmarks.stand import Bench, Prepared, Stand
from infinite_talk.benchmarks.watch import Watch
from infinite_talk.engine import Result
from infinite_talk.memory.flops import window_flops
from infinite_talk.presets import given
from infinite_talk.progress import Listener, Phase, Progress, silent
from infinite_talk.request import Request
from infinite_talk.types import FPS
from infinite_talk.weights.checkpoint import Part

WINDOWS = 2
"""In the runs that do not count."""


class Phases:
    """Seconds of each phase of a run.

    Waits for the device at each change of phase, so that its work counts where it was asked for. What would
    overlap does not then: whole times come from runs without it.
    """

    def __init__(self, wait: Callable[[], None]) -> None:
        self._wait = wait
        self._now: tuple[Phase, float] | None = None
        self.seconds: dict[str, float] = {}

    def listen(self, event: Progress) -> None:
        """Progress listener."""
        if event.note or (self._now is not None and self._now[0] is event.phase):
            return
        self._wait()
        now = perf_counter()
        if self._now is not None:
            phase, began = self._now
            self.seconds[phase] = self.seconds.get(phase, 0.0) + now - began
        self._now = event.phase, now


def measure_window(prepared: Prepared, stand: Stand) -> dict[str, Any]:
    """A first run that loads everything, one that lists its phases, then those that count.

    The first two are short: two windows and two steps at most.
    """
    case, device, work = prepared.case, prepared.device, prepared.work
    short = shortened(prepared)
    stand.say("first run, which loads the models")
    first = perf_counter()
    run(prepared, stand, short)
    loading = perf_counter() - first
    phases = Phases(lambda: settle(device))
    stand.say("phases")
    run(prepared, stand, short, phases.listen)
    whole, pace = [], []
    with Watch(device) as watch, peak_memory(device) as peak:
        for number in range(case.repeats):
            stand.say(f"run {number + 1} of {case.repeats}")
            began = perf_counter()
            result = run(prepared, stand, prepared.job.request)
            whole.append(perf_counter() - began)
            pace.append(result.timings.windows)
    spread = Spread.of(whole)
    parts = prepared.runtime.model.parts
    flops = dict(window_flops(prepared.config, parts[Part.VAE].config, work))
    return {
        "windows": work.windows,
        "steps": work.steps,
        "branches": work.branches,
        "layers": prepared.config.num_layers,
        "of_layers": prepared.layers,
        "frames": result.frames,
        "bytes": result.path.stat().st_size,
        "seconds": spread.as_dict(),
        "first_seconds": loading,
        "seconds_per_window": [list(one) for one in pace],
        "seconds_per_second_of_video": spread.median * FPS / result.frames,
        "phases": {
            "windows": min(WINDOWS, work.windows),
            "steps": short.steps,
            "seconds": {str(phase): seconds for phase, seconds in phases.seconds.items()},
        },
        "flops_per_window": flops,
        "memory": asdict(peak[0]),
        "power": watch.summary(),
        "notes": list(result.notes),
    }


def run(prepared: Prepared, stand: Stand, request: Request, listen: Listener = silent) -> Result:
    """Make the video once."""
    engine = Bench(prepared.runtime, listen)
    output = stand.folder / "window.mp4"
    return engine.write(request, output, resume=False, overwrite=True, progress=listen)


def shortened(prepared: Prepared) -> Request:
    """The request with two windows and two steps at most."""
    request, work = prepared.job.request, prepared.work
    frames = work.frames + (min(WINDOWS, work.windows) - 1) * work.new_frames
    return replace(request, steps=min(2, given(request.steps)), max_frames=frames)
