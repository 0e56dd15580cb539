"""Views on a GPU: the numbers of the CPU, and what a step cache keeps in the host's memory."""

from __future__ import annotations

import pytest
import torch

from infinite_talk.denoise.compose import compose
from infinite_talk.denoise.denoiser import Plain
from infinite_talk.denoise.loop import denoise
from infinite_talk.denoise.sampler import Sampler
from infinite_talk.request import TeaCache
from infinite_talk.sampling import ContextWindows, GuidanceChoice, Sampling, ScheduleChoice
from tests.guides import moved
from tests.unit.denoise.test_loop import some_guide, tiny_transformer

pytestmark = pytest.mark.gpu
LONG = some_guide(frames=33)


def walked(device: str, cache: TeaCache | None = None, keep_on: torch.device | None = None) -> torch.Tensor:
    sampling = Sampling(
        schedule=ScheduleChoice(name="euler", steps=6, shift=3.0),
        guidance=GuidanceChoice(
            text=(3.0, 1.0), audio=(2.0,), zero_star=True, tangential=True, raag_alpha=0.2
        ),
        context=ContextWindows(schedule="static_standard", frames=4, overlap=2),
        bidirectional=True,
    )
    rule, transformer = Sampler.of_sampling(sampling), tiny_transformer().to(device)
    denoiser = compose(Plain(transformer), rule, cache=cache, keep_on=keep_on)
    noise = torch.randn(LONG.latent_shape, generator=torch.Generator().manual_seed(0))
    return denoise(denoiser, rule, moved(LONG, device), noise).cpu()


def test_the_numbers_are_those_of_the_cpu() -> None:
    torch.testing.assert_close(walked("cuda"), walked("cpu"), atol=1e-3, rtol=1e-3)


def test_memories_on_the_host_are_the_same_numbers() -> None:
    cache = TeaCache(threshold=1.0, coefficients=(1.0, 0.0), first=1)
    on_host = walked("cuda", cache, torch.device("cpu"))
    torch.testing.assert_close(on_host, walked("cuda", cache), atol=1e-6, rtol=1e-6)
    assert not torch.equal(on_host, walked("cuda"))
