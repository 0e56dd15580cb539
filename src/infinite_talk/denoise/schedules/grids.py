"""Grids of noise levels: where each scheduler asks the model. All give the levels before each step, without the last 0.

``shifted`` is the shift of flow matching, ``S(u, s) = s u / (1 + (s - 1) u)``. The node pack shifts many grids twice,
once for their ends and once for all of their levels; ``once`` leaves the first of the two away.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from infinite_talk.denoise.times import NOISE_TIME, timesteps

Levels = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Wish:
    """What a grid is made for."""

    steps: int
    shift: float
    once: bool = False
    strength: float = 1.0
    """Denoise strength, for grids that begin at it."""
    width: int = 5120
    """Width of the transformer: 5120 is 14B, 1536 is 1.3B."""


def shifted(levels: Levels, shift: float) -> Levels:
    """``S(levels, shift)``: bent towards noise for a shift above 1; pure noise stays 1, whatever the rounding."""
    return np.minimum(shift * levels / (1 + (shift - 1) * levels), 1.0)


def _end(level: float, wish: Wish) -> float:
    """An end of a grid, with the first of the two shifts; in float32, as the reference has it."""
    end, factor = np.float32(level), np.float32(wish.shift)
    return float(end if wish.once else min(factor * end / (1 + (factor - 1) * end), np.float32(1)))


def _falling(start: float, steps: int) -> Levels:
    """``steps`` even levels from ``start`` towards 0, without it."""
    levels: Levels = np.linspace(start, 0.0, steps + 1)[:-1]
    return levels


def unipc(wish: Wish) -> Levels:
    """Wan's own: even from 0.999, shifted, towards 0, shifted."""
    return shifted(_falling(_end(0.999, wish), wish.steps), wish.shift)


def euler(wish: Wish) -> Levels:
    """diffusers' flow matching: even from 1 to 0.001, shifted, both included; shifted again."""
    even: Levels = np.linspace(_end(1.0, wish), _end(0.001, wish), wish.steps)
    return shifted(even, wish.shift)


def deis(wish: Wish) -> Levels:
    """Even from 0.999 towards 0, shifted once; as 1 minus the signal, so that whole times are cut as in diffusers."""
    even: Levels = 1 - np.linspace(1.0, 0.001, wish.steps + 1)
    return shifted(even[:0:-1], wish.shift)


def vibt(wish: Wish) -> Levels:
    """The same in whole times, and 1 more of 1000, as the bridge counts its time."""
    return (np.trunc(deis(wish) * NOISE_TIME) + 1) / NOISE_TIME


def res(wish: Wish) -> Levels:
    """Every ``1000 / steps``-th of 1000 even levels from 1 to 0.003 / 1.002, shifted once."""
    table: Levels = np.linspace(1.0, 0.003 / 1.002, 1000)
    picked = [round(step * 1000 / wish.steps) for step in range(wish.steps)]
    return shifted(table[picked], wish.shift)


def longcat(wish: Wish) -> Levels:
    """Of 1000, 980, ... 20, ``steps`` evenly spread ones, shifted once."""
    picked = [1 - (step * 50 // wish.steps) / 50 for step in range(wish.steps)]
    return shifted(np.array(picked), wish.shift)


def causvid(wish: Wish) -> Levels:
    """CausVid's nine times for 14B, of which the first ``steps`` are taken; its four for 1.3B."""
    wide = (0.999, 0.934, 0.862, 0.756, 0.603, 0.41, 0.25, 0.14, 0.074)
    return np.array((1.0, 0.75, 0.5, 0.25) if wish.width == 1536 else wide[: wish.steps], dtype=np.float64)


def distill(wish: Wish) -> Levels:
    """Self-forcing's four times, shifted once."""
    return shifted(np.array([0.999, 0.75, 0.5, 0.25]), wish.shift)


def pusa(wish: Wish) -> Levels:
    """Even from the denoise strength towards 0, shifted once."""
    return shifted(_falling(wish.strength, wish.steps), wish.shift)


def multitalk(wish: Wish) -> Levels:
    """InfiniteTalk's own, shifted once: even from 1 to 0.001, both included (``times.timesteps``)."""
    levels: Levels = timesteps(wish.steps, wish.shift)[:-1].double().numpy()
    return levels / NOISE_TIME


def stable(wish: Wish) -> Levels:
    """Even from 1 towards 0, or along a cosine in more than 10 steps; shifted once."""
    even = _falling(1.0, wish.steps)
    cosine: Levels = (1 - np.cos(math.pi * even)) / 2
    return shifted(even if wish.steps <= 10 else cosine, wish.shift)


def ode_plus(wish: Wish) -> Levels:
    """Even from 1 towards 0, shifted once; the last level is raised by up to 0.003, not above the one before."""
    levels = shifted(_falling(1.0, wish.steps), wish.shift)
    if wish.steps > 1:
        raised = levels[-1] + 0.003 * math.sin(math.pi * (wish.steps - 1) / wish.steps)
        levels[-1] = min(raised, (levels[-1] + levels[-2]) / 2)
    return levels


def rcm(wish: Wish) -> Levels:
    """The angles atan(120), 1.5, 1.4 and 1.0 as levels of the flow, of which the first ``steps`` are taken."""
    tangents = (120.0, math.tan(1.5), math.tan(1.4), math.tan(1.0))
    return np.array([tangent / (1 + tangent) for tangent in tangents[: wish.steps]])


def beta(levels: Levels) -> Levels:
    """Between the ends of a grid, levels at even quantiles of Beta(0.6, 0.6) (arXiv 2407.12173)."""
    if len(levels) == 1:
        return levels
    top, low, last = float(levels[0]), float(levels[-1]), len(levels) - 1
    return np.array([low + beta_quantile(1 - step / last) * (top - low) for step in range(last + 1)])


def beta_quantile(share: float, a: float = 0.6) -> float:
    """Where the distribution Beta(a, a) has this share below: by bisection, and by symmetry about 1/2.

    Below 1/2 its distribution function is ``x^a / (a B(a, a))`` times the hypergeometric series ``F(a, 1 - a; a + 1;
    x)`` (DLMF 8.17.7), which gains a bit per term there.
    """
    if share > 0.5:
        return 1 - beta_quantile(1 - share, a)
    area = math.gamma(a) ** 2 / math.gamma(2 * a)
    low, high = 0.0, 0.5
    for _ in range(60):
        middle = (low + high) / 2
        term = total = 1.0
        for index in range(60):
            term *= (index + 1 - a) / (index + 1) * middle
            total += term * a / (a + index + 1)
        if middle**a / (a * area) * total < share:
            low = middle
        else:
            high = middle
    return high
