"""Step caches on a GPU: threshold 0 to the bit with its kernels, a repeated step, and no waiting for the device."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest
import torch

from bench.approximations import random_guide, random_transformer
from infinite_talk.denoise.caches import SkipCount, StepCache, step_cache
from infinite_talk.denoise.denoiser import Plain, Question
from infinite_talk.denoise.loop import denoise
from infinite_talk.models.dit import DiTConfig, WanTransformer
from infinite_talk.ops.attention import sdpa
from infinite_talk.types import Guide
from tests.unit.denoise.test_caches import ALWAYS, CACHES, STEPS
from tests.unit.denoise.test_loop import CONFIG, sampler

DEVICE = torch.device("cuda")
WIDE: DiTConfig = replace(
    CONFIG, dim=256, ffn_dim=512, num_heads=2, freq_dim=256
)  # heads of 128, as fused kernels want
pytestmark = pytest.mark.gpu
each_cache = pytest.mark.parametrize("name", CACHES)


@pytest.fixture(scope="module")
def model() -> WanTransformer:
    return random_transformer(WIDE, torch.Generator(DEVICE).manual_seed(0), sdpa)


@pytest.fixture(scope="module")
def guide() -> Guide:
    return random_guide(WIDE, (3, 16, 16), torch.Generator(DEVICE).manual_seed(1), torch.bfloat16)


def noise_for(guide: Guide) -> torch.Tensor:
    return torch.randn(guide.latent_shape, generator=torch.Generator().manual_seed(2)).to(DEVICE)


@each_cache
def test_threshold_zero_is_the_plain_denoiser(model: WanTransformer, guide: Guide, name: str) -> None:
    rule, noise = sampler(7), noise_for(guide)
    cache = step_cache(Plain(model), rule, replace(CACHES[name], threshold=0.0))
    assert torch.equal(denoise(cache, rule, guide, noise), denoise(Plain(model), rule, guide, noise))


@each_cache
def test_a_repeated_step_is_the_computed_one(model: WanTransformer, guide: Guide, name: str) -> None:
    """At the same latent and time. It fails where the blocks write into the tokens that they are given."""
    rule = sampler(STEPS, 1.0, 1.0)
    cache, latent, time = (
        step_cache(Plain(model), rule, CACHES[name]),
        noise_for(guide),
        torch.tensor([400.0]).to(DEVICE),
    )
    (branch,) = rule.guidance().branches
    with torch.inference_mode():
        condition = cache.condition(guide, branch)
        answers = [
            cache.velocity(
                latent * (1 + max(0, ALWAYS[name] - 1 - step)), Question(step, time, branch, condition)
            )
            for step in range(ALWAYS[name] + 1)
        ]
    difference = (answers[-1] - answers[-2]).norm() / answers[-2].norm()
    assert float(difference) < 2e-2  # a bfloat16 sum of the tokens and their change


@contextmanager
def waiting_is_an_error() -> Iterator[None]:
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("name", ["teacache", "magcache"])
def test_planned_caches_never_wait_for_the_device(model: WanTransformer, guide: Guide, name: str) -> None:
    rule, skips = sampler(STEPS), SkipCount()
    cache: StepCache = step_cache(Plain(model), rule, CACHES[name], skips)
    latent, times = noise_for(guide), rule.times.to(DEVICE)
    conditions = {branch: cache.condition(guide, branch) for branch in rule.guidance().branches}
    with torch.inference_mode(), waiting_is_an_error():
        for step in range(STEPS):
            for branch, condition in conditions.items():
                cache.velocity(latent, Question(step, times[step : step + 1], branch, condition))
    assert set(skips.take().values()) == {STEPS - ALWAYS[name]}
