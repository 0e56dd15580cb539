"""The page about the schedulers: ``python -m infinite_talk.denoise.schedules.reference > docs/schedulers.md``."""

from __future__ import annotations

import sys

from infinite_talk.denoise.schedules.entries import ENTRIES, NOT_OFFERED, Entry

_HEAD = """# Schedulers

<!-- Made by `python -m infinite_talk.denoise.schedules.reference > docs/schedulers.md`; change it there. -->

A scheduler is a grid of noise levels and the solver that walks them. It is chosen by name: in
`WanVideoSampler.process(scheduler=...)`, in the scheduler nodes, and in `ScheduleChoice`.

`n` is the number of steps, which are numbered `i` from 0; `s` is the noise level of a step, from 1 (noise) to 0
(picture), and `s'` that of the next. The last level is followed by 0. At level `s` the latent is `x = (1 - s) picture +
s noise`; the model is asked at the time `1000 s` and answers with the velocity `v = noise - picture`. `S` is the shift,
`S(u) = shift u / (1 + (shift - 1) u)`.

| name | grid | shift | times | steps | update | source |
|---|---|---|---|---|---|---|
"""

_TAIL = """
**shift**: where it says twice, the ends of the grid are shifted first and all of it after that, as the node pack does
under these names. `shift_once` of `ScheduleChoice`, and in the dictionary that `WanVideoSchedulerv2` makes, leaves the
first of the two away.

**times**: where it says whole, the model is asked at the whole part of `1000 s`, while the solver walks the exact
levels; Wan2.1's own solvers and diffusers' do so.

**sigmas** that are given replace the grid, and the shift with it; the model is then asked at whole times. Schedulers
with a fixed grid (longcat_distill_euler, flowmatch_causvid, flowmatch_distill) refuse them.

**start and end** cut the schedule. A whole number is a step, the end being the step before which to stop; a float from
0 to 1 is a level: the first step with `s <= start`, the last with `s >= end`. A solver that adds noise adds that of the
step's place in the whole schedule, so that two runs that share a schedule never add the same.

**denoise_strength** `d` below 1 sets the start to `n - floor(n d) - 1`; it does not go with another start.
flowmatch_pusa begins its grid at it instead.

**enhance_hf** keeps the times above half of the highest and walks from there to 0 in even steps, a fifth of `n` but 3
to 15.

**multitalk** takes its four steps whatever else is said; what has no effect is told in one line.

## Names that are not offered

These are in the list of the seed application. Choosing one is an error that says why, and names the nearest scheduler.

| name | why | nearest |
|---|---|---|
"""


def page() -> str:
    """The whole page."""
    rows = "".join(_row(name, entry) for name, entry in ENTRIES.items())
    return (
        _HEAD
        + rows
        + _TAIL
        + "".join(f"| {name} | {known.why} | {known.nearest} |\n" for name, known in NOT_OFFERED.items())
    )


def _row(name: str, entry: Entry) -> str:
    shift = "none" if not entry.shifts else "twice" if entry.twice else "once"
    times = {"exact": "exact", "whole": "whole", "bridge": "1000 s - 1"}[entry.times]
    steps = str(entry.exactly) if entry.exactly else f"1 to {entry.most}"
    cells = (name, entry.grid_text, shift, times, steps, entry.update_text, entry.source)
    return f"| {' | '.join(cells)} |\n"


if __name__ == "__main__":
    sys.stdout.write(page())
