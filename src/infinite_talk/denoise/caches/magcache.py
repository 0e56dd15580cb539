"""MagCache (Ma et al., 2025): skip while what the blocks add to the tokens is known to keep its size.

The size of that change falls from step to step by ratios that depend on the model and the noise, hardly on the
picture. Reusing a change whose size would have become ``r`` times the old one makes an error of about ``|1 - r|``;
the errors of the steps skipped in a row are added up, and a step is computed when the sum reaches a threshold or
too many were skipped. All is known before the first step.

The ratios were measured on one schedule, and the run has another. The paper takes the nearest step by its number.
That counts too little where a step of the run spans several measured ones, and compares different noise where the
shifts differ. Here the logarithms of the ratios are added up to sizes over the time, which are interpolated.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from infinite_talk.denoise.caches.cache import Planned, may_skip
from infinite_talk.denoise.sampler import Sampler
from infinite_talk.denoise.schedules import timesteps
from infinite_talk.request import MagCache


def policy(sampler: Sampler, cache: MagCache) -> Planned:
    """The policy of one run; ``cache`` has its ratios (``presets.resolve``).

    Where the ratios of the passes without the prompt are known too, a step is skipped when both allow it. They count
    only if there are such passes.
    """
    assert cache.ratios and cache.shift is not None, "resolve the request first"
    columns = [cache.ratios]
    if cache.other_ratios and any(not branch.has_text for branch in sampler.guidance().branches):
        columns.append(cache.other_ratios)
    times = sampler.times[:-1].tolist()
    found = [
        ratios_at(times, ratios, timesteps(len(ratios), cache.shift)[:-1].tolist()) for ratios in columns
    ]
    first = math.ceil(cache.retention * sampler.steps) if cache.first is None else cache.first
    return Planned(skipped_steps(found, cache.threshold, cache.longest, first, cache.last))


def ratios_at(times: Sequence[float], ratios: Sequence[float], measured: Sequence[float]) -> list[float]:
    """Ratios between the steps at ``times`` from those measured at other times; both fall from 1000.

    Where the run comes closer to the picture than the measurement, the last measured slope goes on.
    """
    sizes = np.cumsum([0.0, *np.log(ratios[1:])])
    found = np.interp(times, measured[::-1], sizes[::-1])
    if len(measured) > 1:
        slope = (sizes[-1] - sizes[-2]) / (measured[-1] - measured[-2])
        beyond = np.minimum(0.0, np.asarray(times) - measured[-1])
        found += slope * beyond
    return [1.0, *np.exp(np.diff(found)).tolist()]


def skipped_steps(
    columns: Sequence[Sequence[float]], threshold: float, longest: int, first: int, last: int | None = None
) -> tuple[bool, ...]:
    """Which steps of a window are skipped. The first one never is: there is nothing to reuse.

    Args:
        columns: ratios by step, of each kind of pass; the greatest error decides.
    """
    skips: list[bool] = []
    ratio, error, row = [1.0] * len(columns), [0.0] * len(columns), 0
    for step, own in enumerate(zip(*columns, strict=True)):
        ratio, row = [before * one for before, one in zip(ratio, own, strict=True)], row + 1
        error = [before + abs(1.0 - one) for before, one in zip(error, ratio, strict=True)]
        skip = may_skip(step, max(1, first), last) and max(error) < threshold and row <= longest
        if not skip:
            ratio, error, row = [1.0] * len(columns), [0.0] * len(columns), 0
        skips.append(skip)
    return tuple(skips)
