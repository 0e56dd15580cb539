"""Stretches of a long latent, and their weights."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from infinite_talk.denoise.context import halving, prompt_of, stretches, weights
from infinite_talk.errors import UsageError
from infinite_talk.sampling import ContextWindows


def context(**choices: object) -> ContextWindows:
    return ContextWindows(**{"frames": 5, "overlap": 2, **choices})


schedules = st.sampled_from(["uniform_standard", "uniform_looped", "static_standard"])


@settings(max_examples=60)
@given(
    schedules,
    st.integers(2, 12),
    st.integers(1, 6),
    st.integers(1, 40),
    st.integers(1, 4),
    st.integers(0, 30),
)
def test_every_frame_is_asked_at_every_step(
    schedule: str, frames: int, overlap: int, latents: int, stride: int, step: int
) -> None:
    assume(overlap < frames)
    choice = context(schedule=schedule, frames=frames, overlap=overlap, stride=stride)
    found = stretches(choice, step, latents)
    assert {frame for stretch in found for frame in stretch} == set(range(latents))
    assert len(set(found)) == len(found)
    for stretch in found:
        assert len(stretch) == min(frames, latents)
        assert len(set(stretch)) == len(stretch)
        assert len(weights(choice, stretch, latents)) == len(stretch)
        assert all(0 < weight <= 1 for weight in weights(choice, stretch, latents))
        if schedule != "uniform_looped":
            assert all(a < b for a, b in pairwise(stretch))


def test_the_static_schedule_by_hand() -> None:
    found = stretches(context(schedule="static_standard"), 3, 12)
    assert found == [tuple(range(s, s + 5)) for s in (0, 3, 6, 7)]


def test_the_uniform_schedules_by_hand() -> None:
    looped = stretches(context(schedule="uniform_looped"), 0, 9)
    assert looped == [(0, 1, 2, 3, 4), (3, 4, 5, 6, 7), (6, 7, 8, 0, 1)]
    # Step 1 begins at round(9 / 2) = 4.
    assert stretches(context(schedule="uniform_looped"), 1, 9) == [
        (4, 5, 6, 7, 8),
        (7, 8, 0, 1, 2),
        (1, 2, 3, 4, 5),
    ]
    # (7, 8, 0, 1, 2) rolls over: it is moved to the end, where (4, ..., 8) is already, and 0 is asked anew.
    assert stretches(context(), 1, 9) == [(4, 5, 6, 7, 8), (0, 1, 2, 3, 4), (1, 2, 3, 4, 5)]
    wide = stretches(context(schedule="uniform_looped", stride=2), 0, 12)
    assert (0, 2, 4, 6, 8) in wide


def test_bits_reversed() -> None:
    assert [halving(step) for step in range(6)] == [0, 0.5, 0.25, 0.75, 0.125, 0.625]


def test_what_fits_is_asked_at_once() -> None:
    assert stretches(context(), 3, 5) == [tuple(range(5))]
    assert weights(context(), tuple(range(5)), 5) == (1.0,) * 5


def test_linear_weights_add_up_to_one() -> None:
    choice = context(schedule="static_standard", frames=6, overlap=3)
    total = [0.0] * 12
    for stretch in stretches(choice, 0, 12):
        for frame, weight in zip(stretch, weights(choice, stretch, 12), strict=True):
            total[frame] += weight
    assert total == pytest.approx([1.0] * 12, abs=1e-5)


def test_weights_by_hand() -> None:
    middle = (3, 4, 5, 6, 7)
    assert weights(context(overlap=3), middle, 20) == pytest.approx((1e-6, 0.5, 1, 0.5, 1e-6))
    assert weights(context(overlap=2), (0, 1, 2, 3, 4), 20) == pytest.approx((1, 1, 1, 1, 1e-6))
    pyramid = context(fuse="pyramid")
    assert weights(pyramid, (0, 1, 2, 3, 4), 20) == pytest.approx((1 / 3, 2 / 3, 1, 1, 1 / 3))
    assert weights(pyramid, middle, 20) == pytest.approx((1 / 3, 1, 1, 1, 1 / 3))


def test_a_looped_video_has_no_ends() -> None:
    assert weights(context(schedule="uniform_looped"), (6, 7, 8, 0, 1), 9)[0] == pytest.approx(1e-6)


def test_prompts_are_spread_over_the_time() -> None:
    assert [prompt_of(tuple(range(s, s + 5)), 20, 3) for s in (0, 3, 6, 9, 12, 15)] == [0, 1, 1, 1, 2, 2]
    assert prompt_of((0, 1), 20, 1) == 0


def test_an_overlap_that_does_not_advance_is_refused() -> None:
    with pytest.raises(UsageError, match="context_overlap smaller"):
        stretches(context(frames=4, overlap=4), 0, 20)
