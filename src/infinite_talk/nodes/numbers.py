"""Numbers among the sampler's arguments: scales by step, lists of steps, sigmas, and the schedule made of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Literal

import torch

from infinite_talk.errors import UsageError
from infinite_talk.nodes.args import Args, args_of
from infinite_talk.sampling import ScheduleChoice


def scales(what: str, given: float | Sequence[float], most: float) -> tuple[float, ...]:
    """A scale, or one for each step, as a tuple.

    Raises:
        UsageError: nothing, or a number outside of 0 to ``most``.
    """
    found = tuple(float(one) for one in (given if isinstance(given, (list, tuple)) else (given,)))
    if not found or not all(0 <= one <= most for one in found):
        raise UsageError(f"{what} is {list(found)}; give a number from 0 to {most:g}, or one for each step.")
    return found


def whole_numbers(what: str, given: str | int | Sequence[int]) -> tuple[int, ...]:
    """Numbers from a text with commas, one number, or a list.

    Raises:
        UsageError: something in it is not a whole number.
    """
    parts = [given] if isinstance(given, int) else given.split(",") if isinstance(given, str) else list(given)
    try:
        return tuple(int(part) for part in parts if str(part).strip())
    except (TypeError, ValueError):
        raise UsageError(
            f"{what} is {given!r}; give whole numbers with commas between, as in '9, 10'."
        ) from None


def sigmas_of(sigmas: torch.Tensor | Sequence[float] | None) -> tuple[float, ...] | None:
    """A schedule of one's own: a tensor or list of falling numbers from 1 to 0.

    Raises:
        UsageError: fewer than two numbers, rising ones, or numbers outside of 0 to 1.
    """
    if sigmas is None:
        return None
    found = tuple(
        float(one) for one in (sigmas.flatten().tolist() if isinstance(sigmas, torch.Tensor) else sigmas)
    )
    falling = all(one > other for one, other in pairwise(found))
    if len(found) < 2 or not falling or not all(0 <= one <= 1 for one in found):
        raise UsageError(
            f"sigmas are {[round(one, 4) for one in found[:8]]}{'...' if len(found) > 8 else ''}; give at least two "
            "numbers that fall, from at most 1 to at least 0."
        )
    return found


def position_of(what: str, given: float, none: Literal[0, -1]) -> int | float:
    """``start_step`` or ``end_step``: a step, or as a float with a fraction or in 0..1 a sigma.

    A float is a threshold of sigma; a ``1.0`` is one too, as the node WanVideoSigmaToStep gives it.

    Raises:
        UsageError: a number that is neither.
    """
    if isinstance(given, bool) or not isinstance(given, (int, float)):
        raise UsageError(f"{what} is {given!r}; give a step (int), or a sigma from 0 to 1 (float).")
    if isinstance(given, int) or given == none:
        if given < none:
            raise UsageError(f"{what} is {given}; give {none} or more.")
        return int(given)
    if not 0 <= given <= 1:
        raise UsageError(
            f"{what} is the float {given:g}, a sigma, which lies from 0 to 1; for a step give an int."
        )
    return given


def schedule_of(
    scheduler: str | Args | ScheduleChoice,
    *,
    steps: int,
    shift: float,
    start_step: float,
    end_step: float,
    denoise_strength: float,
    sigmas: torch.Tensor | Sequence[float] | None,
) -> ScheduleChoice:
    """The schedule that the sampler's arguments ask for.

    Args:
        scheduler: a name, or what WanVideoScheduler has put together: that says all but ``denoise_strength``.
    """
    if isinstance(scheduler, ScheduleChoice):
        return replace(scheduler, denoise_strength=float(denoise_strength))
    beyond: Args = {}
    if isinstance(scheduler, Mapping):
        beyond = args_of("scheduler", scheduler, "WanVideoScheduler", beside=("scheduler", "shift_once"))
        steps, shift, sigmas = beyond["steps"], beyond["shift"], beyond["sigmas"]
        start_step, end_step = beyond["start_step"], beyond["end_step"]
    return ScheduleChoice(
        name=beyond.get("scheduler", scheduler),
        steps=int(steps),
        shift=float(shift),
        start=position_of("start_step", start_step, 0),
        end=position_of("end_step", end_step, -1),
        denoise_strength=float(denoise_strength),
        sigmas=sigmas_of(sigmas),
        enhance_hf=bool(beyond.get("enhance_hf", False)),
        shift_once=bool(beyond.get("shift_once", False)),
    )
