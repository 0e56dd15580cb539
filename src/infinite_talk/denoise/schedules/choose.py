"""From a choice to a ``Schedule``: look the name up, lay the grid, cut it."""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable

import numpy as np
import torch

from infinite_talk.denoise.schedules.entries import ENTRIES, NOT_OFFERED, Entry
from infinite_talk.denoise.schedules.grids import Levels, Wish
from infinite_talk.denoise.schedules.schedule import Schedule
from infinite_talk.denoise.steppers import StepNoise, Stepper, Walk
from infinite_talk.denoise.times import NOISE_TIME
from infinite_talk.errors import UsageError
from infinite_talk.sampling import ScheduleChoice


def schedule_of(choice: ScheduleChoice, width: int = 5120) -> Schedule:
    """The schedule that ``choice`` names, for a transformer of ``width`` (CausVid has another grid for 1.3B).

    Raises:
        UsageError: an unknown name, a number of steps that the scheduler does not have, or a cut that leaves nothing.
    """
    entry = _entry(choice.name)
    notes: tuple[str, ...] = ()
    if entry.closed and entry.exactly is not None:
        choice, notes = _shift_only(choice, entry.exactly)
    levels, more = _whole(choice, entry, width)
    times = _times(levels, "own" if choice.sigmas is not None else entry.times)
    if choice.enhance_hf:
        levels, times = _with_even_tail(levels, times)
    start, stop = _cut(choice, levels)
    return Schedule(
        name=choice.name,
        sigmas=torch.from_numpy(levels[start : stop + 1].copy()),
        times=torch.from_numpy(times[start:stop].astype(np.float32)),
        solver=_solver(entry, levels, start, stop),
        notes=notes + more,
        first=start,
        noise_scale=float(levels[start]) if entry.scales_noise and start == 0 else 1.0,
        by_frame=entry.by_frame,
    )


def _entry(name: str) -> Entry:
    if name in ENTRIES:
        return ENTRIES[name]
    if (known := NOT_OFFERED.get(name)) is not None:
        raise UsageError(
            f"The scheduler {name!r} is not offered: {known.why}. The nearest one that is: {known.nearest!r}."
        )
    near = difflib.get_close_matches(name, ENTRIES, 1)
    hint = f"Did you mean {near[0]!r}? " if near else ""
    raise UsageError(f"There is no scheduler {name!r}. {hint}The schedulers are: {', '.join(ENTRIES)}.")


def _whole(choice: ScheduleChoice, entry: Entry, width: int) -> tuple[Levels, tuple[str, ...]]:
    """All levels of the uncut schedule with the last one, and what was chosen without effect."""
    _check_numbers(choice)
    notes = []
    if not entry.shifts and choice.shift != 1:
        notes.append(f"shift = {choice.shift:g} has no effect with the scheduler {choice.name}.")
    if choice.sigmas is not None:
        levels = _own(choice, entry)
        if choice.steps != len(levels) - 1:
            notes.append(f"The sigmas make {len(levels) - 1} steps; steps = {choice.steps} has no effect.")
        if entry.shifts:
            notes.append(f"shift = {choice.shift:g} has no effect on sigmas that are given.")
        return levels, tuple(notes)
    _check_steps(choice, entry, width)
    if entry.fixed and choice.enhance_hf:
        raise UsageError(f"The scheduler {choice.name!r} has a fixed grid; enhance_hf does not go with it.")
    wish = Wish(choice.steps, choice.shift, choice.shift_once, choice.denoise_strength, width)
    return np.append(entry.grid(wish), 0.0), tuple(notes)


def _check_numbers(choice: ScheduleChoice) -> None:
    if not (choice.shift > 0 and math.isfinite(choice.shift)):
        raise UsageError(f"shift must be a number above 0; got {choice.shift:g}. 1 leaves the grid as it is.")
    if not 0 <= choice.denoise_strength <= 1:
        raise UsageError(f"denoise_strength must be between 0 and 1; got {choice.denoise_strength:g}.")
    if choice.name == "flowmatch_pusa" and choice.denoise_strength == 0:
        raise UsageError(
            "denoise_strength must be above 0 with flowmatch_pusa: it is the level that it begins at."
        )


def _check_steps(choice: ScheduleChoice, entry: Entry, width: int) -> None:
    small_causvid = choice.name == "flowmatch_causvid" and width == 1536
    exactly = 4 if small_causvid else entry.exactly
    if exactly is not None and choice.steps != exactly:
        model = " of a 1.3B model" if small_causvid else ""
        raise UsageError(
            f"The scheduler {choice.name!r}{model} has {exactly} steps; got steps = {choice.steps}."
        )
    if not 1 <= choice.steps <= entry.most:
        raise UsageError(
            f"The scheduler {choice.name!r} takes 1 to {entry.most} steps; got steps = {choice.steps}."
        )


def _own(choice: ScheduleChoice, entry: Entry) -> Levels:
    """The levels that were given instead of a grid's."""
    if entry.fixed:
        raise UsageError(
            f"The scheduler {choice.name!r} has a fixed grid; sigmas do not go with it. Take 'euler' for them."
        )
    levels = np.array(choice.sigmas, dtype=np.float64)
    falling = levels.ndim == 1 and len(levels) > 1 and bool(np.all(np.diff(levels) < 0))
    if not (falling and levels[0] <= 1 and levels[-1] >= 0):
        raise UsageError(
            f"sigmas must be steps + 1 falling numbers between 1 and 0; got {np.round(levels, 4).tolist()}."
        )
    return levels


def _times(levels: Levels, rule: str) -> Levels:
    """The time of each step, ``(n,)``."""
    times = levels[:-1] * NOISE_TIME
    if rule == "bridge":
        return np.round(times) - 1
    if rule == "own":
        # Sigmas from elsewhere are float32, and 0.329 of them is a little less; times 1000 in float32 it is 329.
        times = (levels[:-1].astype(np.float32) * np.float32(NOISE_TIME)).astype(np.float64)
    return times if rule == "exact" else np.trunc(times)


def _with_even_tail(levels: Levels, times: Levels) -> tuple[Levels, Levels]:
    """Keep the steps with times above half of the highest one, and walk from there to 0 in even steps.

    A fifth of the steps, but 3 to 15 of them, are even (the node pack's ``enhance_hf``). The levels that stay are
    exact; the node pack makes them of its whole times, several of which are the same where the shift is large.
    """
    half = float(times.max()) / 2
    kept = times > half
    tail = np.linspace(half, 0.0, max(3, min(15, len(times) // 5)), endpoint=False)
    return (
        np.concatenate([levels[:-1][kept], tail / NOISE_TIME, [0.0]]),
        np.concatenate([times[kept], tail]),
    )


def _cut(choice: ScheduleChoice, levels: Levels) -> tuple[int, int]:
    """First step, and the step before which to stop."""
    steps = len(levels) - 1
    start, stop = _start(choice, levels), _stop(choice, levels)
    strength = choice.denoise_strength
    if strength < 1 and not (choice.name == "flowmatch_pusa" and choice.sigmas is None):
        if start != 0:
            raise UsageError(
                f"denoise_strength = {strength:g} sets the first step itself; got start_step = {choice.start:g} too. "
                "Leave one of them away."
            )
        start = steps - int(steps * strength) - 1
    if not 0 <= start < stop:
        raise UsageError(
            f"No step is left: start_step = {choice.start:g}, end_step = {choice.end:g} and denoise_strength = "
            f"{strength:g} cut {steps} steps to {start}..{stop}. The start must be before the end, and at most "
            f"{steps - 1}."
        )
    return start, stop


def _start(choice: ScheduleChoice, levels: Levels) -> int:
    if not isinstance(choice.start, float):
        return choice.start
    below = np.flatnonzero(levels[:-1] <= choice.start)
    if not len(below):
        raise UsageError(
            f"No step has a sigma of {choice.start:g} or less; the last step's is {levels[-2]:.4g}. "
            "An integer start is the number of a step."
        )
    return int(below[0])


def _stop(choice: ScheduleChoice, levels: Levels) -> int:
    steps = len(levels) - 1
    if choice.end == -1:
        return steps
    if not isinstance(choice.end, float):
        return min(choice.end, steps)
    above = np.flatnonzero(levels[:-1] >= choice.end)
    if not len(above):
        raise UsageError(
            f"No step has a sigma of {choice.end:g} or more; the first step's is {levels[0]:.4g}. "
            "An integer end is the number of the step to stop before."
        )
    return int(above[-1]) + 1


def _solver(entry: Entry, levels: Levels, start: int, stop: int) -> Callable[[StepNoise], Stepper]:
    """What makes the solver of a window; its noise is that of the steps' places in the whole schedule."""
    sigmas = tuple(levels[start : stop + 1].tolist())

    def solver(noise: StepNoise) -> Stepper:
        return entry.solver(Walk(sigmas, lambda step, shape: noise(start + step, shape), len(levels) - 1))

    return solver


def _shift_only(choice: ScheduleChoice, steps: int) -> tuple[ScheduleChoice, tuple[str, ...]]:
    """The choice without all that has no effect on a closed schedule, and one line for what that was."""
    kept = ScheduleChoice(name=choice.name, steps=steps, shift=choice.shift)
    notes = []
    if choice.steps != steps:
        notes.append(
            f"The scheduler {choice.name} always takes {steps} steps; steps = {choice.steps} has no effect."
        )
    names = ("start", "end", "denoise_strength", "sigmas", "enhance_hf")
    called = {"start": "start_step", "end": "end_step"}
    changed = [called.get(name, name) for name in names if getattr(choice, name) != getattr(kept, name)]
    if changed:
        notes.append(f"With the scheduler {choice.name} these have no effect: {', '.join(changed)}.")
    return kept, tuple(notes)
