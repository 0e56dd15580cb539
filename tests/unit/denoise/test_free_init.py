"""FreeInit: its filters, and the walk again."""

from __future__ import annotations

import math

import pytest
import torch

from infinite_talk.denoise.free_init import NOISY, low_pass, mixed
from infinite_talk.denoise.loop import walk
from infinite_talk.denoise.sample import iterations, sample
from infinite_talk.denoise.sampler import Sampler
from infinite_talk.denoise.start import Start
from infinite_talk.sampling import FreeInit, Sampling, ScheduleChoice
from tests.unit.denoise.test_loop import Answering, some_guide

SHAPE = (5, 4, 6)


def by_hand(choice: FreeInit, t: int, h: int, w: int) -> float:
    frames, height, width = SHAPE
    square = (
        (choice.d_s / choice.d_t * (2 * t / frames - 1)) ** 2
        + (2 * h / height - 1) ** 2
        + (2 * w / width - 1) ** 2
    )
    match choice.method:
        case "gaussian":
            return math.exp(-square / (2 * choice.d_s**2))
        case "butterworth":
            return 1 / (1 + (square / choice.d_s**2) ** choice.n)
        case "ideal":
            return float(square <= 2 * choice.d_s)
        case _:
            return 1.0


@pytest.mark.parametrize("method", ["gaussian", "butterworth", "ideal", "none"])
@pytest.mark.parametrize(("d_s", "d_t"), [(1.0, 1.0), (0.25, 1.0), (0.5, 0.2)])
def test_the_filters_have_their_cut_offs(method: str, d_s: float, d_t: float) -> None:
    choice = FreeInit(method=method, d_s=d_s, d_t=d_t, n=3)
    found = low_pass(SHAPE, choice)
    expected = torch.tensor(
        [[[by_hand(choice, t, h, w) for w in range(6)] for h in range(4)] for t in range(5)]
    )
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)


def test_cut_offs_matter() -> None:
    """In the pack they are always 1, as they are read under other names."""
    wide, narrow = (low_pass(SHAPE, FreeInit(method="ideal", d_s=d)).sum() for d in (1.0, 0.1))
    assert narrow < wide
    assert not low_pass(SHAPE, FreeInit(d_t=0.0)).any()


def test_low_of_one_and_high_of_the_other() -> None:
    low, high = torch.randn(2, 16, *SHAPE, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(mixed(low, high, torch.ones(SHAPE)), low, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(mixed(low, high, torch.zeros(SHAPE)), high, atol=1e-5, rtol=1e-5)
    half = mixed(low, high, torch.full(SHAPE, 0.5))
    torch.testing.assert_close(half, (low + high) / 2, atol=1e-5, rtol=1e-5)
    # The mean of a latent is its lowest frequency: a filter that lets only the middle through keeps just that.
    middle = torch.zeros(SHAPE)
    middle[SHAPE[0] // 2, SHAPE[1] // 2, SHAPE[2] // 2] = 1
    found = mixed(low, high, middle)
    torch.testing.assert_close(found.mean((1, 2, 3)), low.mean((1, 2, 3)), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("method", ["gaussian", "none"])
def test_the_walk_again_against_its_slow_twin(method: str) -> None:
    guide, choice = some_guide(frames=17), FreeInit(iterations=3, method=method, d_s=0.5)
    normal = [torch.randn(guide.latent_shape, generator=torch.Generator().manual_seed(i)) for i in range(4)]
    rule = Sampler.of_sampling(Sampling(schedule=ScheduleChoice(name="euler", steps=2), free_init=choice))
    denoiser, told = Answering(lambda latent, question: 0.2 * latent + 0.5), []
    found = sample(
        denoiser,
        rule,
        guide,
        Start(normal[0]),
        on_step=told.append,
        fresh=lambda iteration: normal[iteration],
    )
    passing = low_pass(tuple(guide.latent_shape[1:]), choice)
    start = normal[0]
    for iteration in range(3):
        latent = walk(denoiser, rule, guide, start).latent
        start = mixed((1 - NOISY) * latent + NOISY * normal[0], normal[iteration + 1], passing)
    torch.testing.assert_close(found.latent, latent, atol=1e-5, rtol=1e-5)
    assert told == list(range(6))
    assert iterations(rule.sampling) == 3


def test_a_video_is_begun_again_with_the_noise_of_its_first_step() -> None:
    """Where the schedule starts at a sigma below 1: both parts have that much noise, or the first step is misled."""
    guide, choice = some_guide(frames=17), FreeInit(iterations=2, method="gaussian", d_s=0.5)
    video, noise, fresh = (
        torch.randn(guide.latent_shape, generator=torch.Generator().manual_seed(i)) for i in range(3)
    )
    schedule = ScheduleChoice(name="euler", steps=4, start=2)
    rule = Sampler.of_sampling(Sampling(schedule=schedule, free_init=choice))
    sigma = rule.sigmas[0]
    assert sigma < 0.9
    denoiser, begun = (
        Answering(lambda latent, question: 0.2 * latent + 0.5),
        Start(noise, video, add_noise=True),
    )
    found = sample(denoiser, rule, guide, begun, fresh=lambda _: fresh)
    first = walk(denoiser, rule, guide, (1 - sigma) * video + sigma * noise).latent
    low, high = ((1 - sigma) * first + sigma * one for one in (noise, fresh))
    again = mixed(low, high, low_pass(tuple(guide.latent_shape[1:]), choice))
    torch.testing.assert_close(found.latent, walk(denoiser, rule, guide, again).latent, atol=1e-5, rtol=1e-5)


def test_a_walk_that_ends_early_is_begun_again_from_the_picture_it_saw() -> None:
    guide, choice = some_guide(frames=17), FreeInit(iterations=2, method="none")
    noise = torch.randn(guide.latent_shape, generator=torch.Generator().manual_seed(0))
    rule = Sampler.of_sampling(
        Sampling(schedule=ScheduleChoice(name="euler", steps=4, end=2), free_init=choice)
    )
    denoiser = Answering(lambda latent, question: 0.2 * latent + 0.5)
    found = sample(denoiser, rule, guide, Start(noise), fresh=lambda _: noise)
    estimate = walk(denoiser, rule, guide, noise).estimate
    start = (1 - NOISY) * estimate + NOISY * noise
    torch.testing.assert_close(found.latent, walk(denoiser, rule, guide, start).latent, atol=1e-4, rtol=1e-4)


def test_once_is_the_plain_walk() -> None:
    guide = some_guide()
    noise = torch.randn(guide.latent_shape, generator=torch.Generator().manual_seed(0))
    denoiser = Answering(lambda latent, question: latent)
    schedule = ScheduleChoice(name="euler", steps=2)
    once = Sampler.of_sampling(Sampling(schedule=schedule, free_init=FreeInit(iterations=1)))
    off = Sampler.of_sampling(Sampling(schedule=schedule))
    found = [
        sample(denoiser, rule, guide, Start(noise), fresh=lambda _: noise).latent for rule in (once, off)
    ]
    assert torch.equal(*found)
    assert iterations(Sampling()) == 1
