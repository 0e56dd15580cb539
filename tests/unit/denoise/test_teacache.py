"""The step cache: what it skips, and that skipping nothing changes nothing."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from infinite_talk.denoise.caches.teacache import (
    WARM_UP_STEPS,
    ByCallNumber,
    skipped_steps,
    step_cache,
)
from infinite_talk.denoise.denoiser import Plain, Question
from infinite_talk.denoise.guidance import Branch
from infinite_talk.denoise.loop import denoise
from infinite_talk.errors import UsageError
from infinite_talk.request import Compat, TeaCache
from tests.unit.denoise.test_loop import sampler, some_guide, tiny_transformer

LINE = (1.0, 0.0)  # the polynomial x


class Counting:
    """Counts how often the blocks run."""

    def __init__(self, transformer) -> None:
        self.runs = 0
        transformer.blocks[0].register_forward_hook(self)

    def __call__(self, *_) -> None:
        self.runs += 1


@pytest.mark.parametrize("compat", list(Compat))
@pytest.mark.parametrize(("text", "audio"), [(3.0, 2.0), (1.0, 2.0), (1.0, 1.0)])
def test_threshold_zero_is_the_plain_denoiser(compat: Compat, text: float, audio: float) -> None:
    transformer, rule = tiny_transformer(), sampler(8, text, audio, compat)
    cache = step_cache(transformer, rule, TeaCache(threshold=0.0), LINE)
    for seed in (0, 1):
        guide = some_guide(seed=seed)
        noise = torch.randn(guide.latent_shape, generator=torch.Generator().manual_seed(seed))
        assert torch.equal(
            denoise(cache, rule, guide, noise), denoise(Plain(transformer), rule, guide, noise)
        )


@pytest.mark.parametrize(("text", "audio", "passes"), [(3.0, 2.0, 3), (1.0, 2.0, 2), (1.0, 1.0, 1)])
def test_every_guidance_layout_skips_the_same_steps(text: float, audio: float, passes: int) -> None:
    transformer, rule = tiny_transformer(), sampler(9, text, audio)
    count = Counting(transformer)
    cache = step_cache(transformer, rule, TeaCache(threshold=1e9), LINE)
    for window in range(2):  # a new window starts with computed steps again
        denoise(cache, rule, some_guide(), torch.zeros(some_guide().latent_shape))
        assert count.runs == (window + 1) * passes * WARM_UP_STEPS


def test_a_skipped_step_adds_what_the_blocks_of_its_own_branch_did() -> None:
    transformer, rule = tiny_transformer(), sampler(7)
    cache = step_cache(transformer, rule, TeaCache(threshold=1e9), LINE)
    guide = some_guide()
    latent = torch.randn(guide.latent_shape, generator=torch.Generator().manual_seed(3))
    with torch.inference_mode():
        for step in (WARM_UP_STEPS - 1, WARM_UP_STEPS):
            answers = {
                branch: cache.velocity(
                    latent, Question(step, torch.tensor([400.0]), branch, cache.condition(guide, branch))
                )
                for branch in (Branch.COND, Branch.DROP_TEXT, Branch.UNCOND)
            }
            if step < WARM_UP_STEPS:
                computed = answers
    # Same latent, same time: then the stored change is exactly what the blocks would do.
    for branch, answer in answers.items():
        torch.testing.assert_close(answer, computed[branch])


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
                assert schedule.next(Question(step, torch.zeros(1), branch, None)) == (slot, skip)


def test_a_model_without_measured_polynomial_is_refused() -> None:
    with pytest.raises(UsageError, match="coefficients"):
        step_cache(tiny_transformer(), sampler(), TeaCache(), None)
