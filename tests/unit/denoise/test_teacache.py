"""TeaCache: which steps it skips; what is common to all caches is in ``test_caches.py``."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from infinite_talk.denoise.caches.teacache import WARM_UP_STEPS, ByCallNumber, skipped_steps
from infinite_talk.denoise.denoiser import Question
from infinite_talk.denoise.guidance import Branch


@settings(max_examples=25)
@given(
    moves=st.lists(st.floats(0, 2), min_size=6, max_size=40),
    threshold=st.floats(0, 3),
)
def test_skips_never_add_up_to_the_threshold(moves: list[float], threshold: float) -> None:
    skips = skipped_steps(len(moves), threshold, lambda x: x, lambda step, _: moves[step])
    assert not any(skips[:WARM_UP_STEPS])
    total = 0.0
    for move, skip in zip(moves[WARM_UP_STEPS:], skips[WARM_UP_STEPS:], strict=True):
        total += move
        assert skip == (total < threshold)
        total = total if skip else 0.0


@settings(max_examples=30)
@given(moves=st.lists(st.floats(0, 2), min_size=6, max_size=20), threshold=st.floats(0, 3))
def test_official_bookkeeping_agrees_when_three_branches_are_asked(
    moves: list[float], threshold: float
) -> None:
    """The two differ only in the cases that the official program gets wrong."""
    steps = len(moves)
    schedule = ByCallNumber(steps, threshold, lambda x: x, lambda step, _: moves[step])
    for _window in range(2):
        for step, skip in enumerate(
            skipped_steps(steps, threshold, lambda x: x, lambda step, _: moves[step])
        ):
            for slot, branch in enumerate((Branch.COND, Branch.DROP_TEXT, Branch.UNCOND)):
                decision = schedule.next(torch.zeros(1), Question(step, torch.zeros(1), branch, None))
                assert (decision.slot, decision.skip) == (slot, skip)
