"""The steps of a window never make the program wait for the GPU, and ask its driver for no memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest
import torch

from infinite_talk.denoise import loop
from infinite_talk.denoise.denoiser import Plain
from infinite_talk.denoise.guidance import Branch
from infinite_talk.denoise.sampler import Sampler
from infinite_talk.denoise.schedules import timesteps
from infinite_talk.ops.host import to_device, to_host
from infinite_talk.request import APG
from tests.guides import moved
from tests.unit.denoise.test_loop import some_guide, tiny_transformer

DEVICE = torch.device("cuda")
pytestmark = pytest.mark.gpu


@contextmanager
def forbidden_to_wait() -> Iterator[None]:
    before = torch.cuda.get_sync_debug_mode()
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode(before)


def test_waiting_would_be_noticed() -> None:
    with pytest.raises(RuntimeError), forbidden_to_wait():
        torch.ones(1, device=DEVICE).item()


@pytest.mark.parametrize("people", [1, 2])
@pytest.mark.parametrize("batched", [True, False])
@pytest.mark.parametrize("apg", [None, APG()])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_no_step_waits(
    monkeypatch: pytest.MonkeyPatch, people: int, batched: bool, apg: APG | None, dtype: torch.dtype
) -> None:
    """From the first step to the last; before are the conditions, behind is the one look at the result."""
    guide = moved(some_guide(people), DEVICE)
    denoiser = Plain(tiny_transformer().to(DEVICE, dtype), batched=batched)
    sampler = Sampler(timesteps(6, 3.0), 3.0, 2.0, apg)
    noise = torch.randn(guide.latent_shape)
    steps: list[int] = []

    def watch(step: int) -> None:
        """The first step makes what all later ones keep; the second has to do without waiting."""
        steps.append(step)
        if step == 0:
            torch.cuda.set_sync_debug_mode("error")
        if step == sampler.steps - 1:
            torch.cuda.set_sync_debug_mode("default")

    try:
        loop.denoise(denoiser, sampler, guide, noise)  # kernels are loaded, time embeddings made
        allocated = torch.cuda.memory_stats()["num_device_alloc"]
        torch.cuda.synchronize()
        found = loop.denoise(denoiser, sampler, guide, noise, watch)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert steps == list(range(sampler.steps))
    assert found.isfinite().all()
    assert torch.cuda.memory_stats()["num_device_alloc"] == allocated


def test_conditions_of_a_later_window_wait_for_nothing_either() -> None:
    denoiser = Plain(tiny_transformer().to(DEVICE))
    guide = moved(some_guide(), DEVICE)
    for branch in Branch:
        denoiser.condition(guide, branch)
    speech = some_guide(seed=1).speech
    with forbidden_to_wait(), torch.inference_mode():
        later = replace(guide, speech=to_device(speech, DEVICE))
        for branch in Branch:
            denoiser.condition(later, branch)
    assert torch.equal(later.speech.cpu(), speech)


def test_copies_to_the_host_are_complete() -> None:
    big = torch.randn(4000, 4000, device=DEVICE)
    for _ in range(20):
        big = big @ big / 64  # the copy has to wait for this
    small = torch.arange(5, device=DEVICE)
    found, also = to_host(big, small)
    assert found.is_pinned() and torch.equal(found, big.cpu()) and also.tolist() == [0, 1, 2, 3, 4]
