"""MagCache: its rule, step by step, and ratios carried from one schedule to another."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infinite_talk.denoise.caches.magcache import policy, ratios_at, skipped_steps
from infinite_talk.denoise.sampler import Sampler
from infinite_talk.denoise.schedules import timesteps
from infinite_talk.presets import OFFICIAL, resolve
from infinite_talk.request import MagCache, Request

ratios = st.lists(st.floats(0.5, 1.2), min_size=2, max_size=40).map(lambda rest: [1.0, *rest[1:]])


def by_the_paper(ratios: list[float], threshold: float, longest: int, first: int) -> list[bool]:
    """The slow twin: looks back to the last computed step each time."""
    skips: list[bool] = []
    for step in range(len(ratios)):
        last = max((i for i in range(step) if not skips[i]), default=-1)
        if step < first:
            skips.append(False)
            continue
        error = sum(abs(1 - math.prod(ratios[last + 1 : upto + 1])) for upto in range(last + 1, step + 1))
        skips.append(error < threshold and step - last <= longest)
    return skips


@settings(max_examples=40)
@given(ratios, st.floats(0, 1), st.integers(0, 5), st.floats(0, 1))
def test_the_rule_against_its_twin(
    ratios: list[float], threshold: float, longest: int, retention: float
) -> None:
    first = max(1, math.ceil(retention * len(ratios)))
    assert list(
        skipped_steps([ratios], threshold, longest, math.ceil(retention * len(ratios)))
    ) == by_the_paper(ratios, threshold, longest, first)


def test_a_schedule_by_hand() -> None:
    measured = [1.0, 1.0, 0.95, 0.95, 0.9, 0.9]
    # From step 2: 0.05 (skip), 0.05 + 0.0975 >= 0.12 (compute), 0.1 (skip), 0.1 + 0.19 (compute).
    assert skipped_steps([measured], 0.12, 4, first=2) == (False, False, True, False, True, False)
    assert skipped_steps([measured], 1.0, 1, first=2) == (False, False, True, False, True, False)
    assert not any(skipped_steps([measured], 1.0, 0, first=0))
    assert not any(skipped_steps([measured], 0.0, 4, first=0))


@settings(max_examples=40)
@given(ratios, st.floats(0.5, 12))
def test_on_its_own_schedule_a_ratio_stays_as_measured(ratios: list[float], shift: float) -> None:
    times = timesteps(len(ratios), shift)[:-1].tolist()
    assert ratios_at(times, ratios, times) == pytest.approx(ratios, rel=1e-6)


@settings(max_examples=40)
@given(ratios, st.integers(2, 80), st.floats(0.5, 12), st.floats(0.5, 12))
def test_other_steps_span_the_same_sizes(
    ratios: list[float], steps: int, shift: float, measured_shift: float
) -> None:
    """The product over a window does not depend on how many steps it is walked in, while in the measured range."""
    measured = timesteps(len(ratios), measured_shift)[:-1].tolist()
    inside = [time for time in timesteps(steps, shift)[:-1].tolist() if time >= measured[-1]]
    times = [*inside[: max(1, len(inside) - 1)], measured[-1]]
    found = ratios_at(times, ratios, measured)
    assert math.prod(found) == pytest.approx(math.prod(ratios), rel=1e-5)
    assert all(ratio > 0 for ratio in found)


def test_half_the_steps_see_the_product_of_two_ratios() -> None:
    measured = [1000.0, 800.0, 600.0, 400.0, 200.0]
    assert ratios_at([1000.0, 600.0, 200.0], [1.0, 0.9, 0.8, 0.7, 0.6], measured) == pytest.approx(
        [1.0, 0.72, 0.42]
    )


def test_beyond_the_measured_times_the_last_slope_goes_on() -> None:
    found = ratios_at([1000.0, 500.0, 400.0], [1.0, 0.9], [1000.0, 500.0])
    assert found == pytest.approx([1.0, 0.9, 0.9 ** (100 / 500)])


@pytest.mark.parametrize("size", ["480", "720"])
@pytest.mark.parametrize("steps", [8, 20, 40])
def test_the_published_ratios_skip_a_quarter_to_a_half(size: str, steps: int) -> None:
    asked = resolve(Request(size=size, steps=steps, step_cache=MagCache()), OFFICIAL)
    skips = policy(Sampler.of(asked), asked.step_cache).skips
    assert not any(skips[: math.ceil(0.2 * steps)])
    assert 0.25 <= sum(skips) / steps <= 0.55
    assert len(asked.step_cache.ratios) == 40
