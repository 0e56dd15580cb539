"""What a walk starts from, and what is written over it."""

from __future__ import annotations

import pytest
import torch

from infinite_talk.denoise.keeping import All, Motion, NoisedMotion, Pinned, Unmasked, noised, nothing
from infinite_talk.denoise.loop import walk
from infinite_talk.denoise.noise import carried_on, free_noise
from infinite_talk.denoise.sample import sample
from infinite_talk.denoise.sampler import Sampler
from infinite_talk.denoise.start import Start, mask_on_latent
from infinite_talk.errors import UsageError
from infinite_talk.sampling import Sampling, ScheduleChoice
from tests.unit.denoise.test_loop import Answering, some_guide

GUIDE = some_guide(frames=17)
SHAPE = GUIDE.latent_shape


def normal(seed: int, shape: tuple[int, ...] = SHAPE) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def rule(steps: int = 4, **choices: object) -> Sampler:
    return Sampler.of_sampling(Sampling(schedule=ScheduleChoice(name="euler", steps=steps, **choices)))


NOISE, VIDEO = normal(1), normal(2)


def test_noise_is_added_to_a_video_as_much_as_the_first_step_has() -> None:
    late = rule(6, start=3)
    sigma = late.sigmas[0]
    assert 0.1 < sigma < 0.95
    found = Start(NOISE, VIDEO, add_noise=True).latent(late)
    torch.testing.assert_close(found, sigma * NOISE + (1 - sigma) * VIDEO)
    assert torch.equal(Start(NOISE, VIDEO).latent(late), VIDEO)
    assert torch.equal(Start(NOISE).latent(late), NOISE)


def test_a_video_of_another_shape_is_refused() -> None:
    with pytest.raises(UsageError, match="samples are a latent"):
        Start(NOISE, VIDEO[:, :2]).latent(rule())


def test_two_samplers_one_after_the_other_walk_the_whole_way() -> None:
    """Noise at the beginning, steps 0 to 2 in the first, 2 to 4 in the second, whose samples are taken as they are."""
    denoiser = Answering(lambda latent, question: 0.3 * latent + question.time / 1000)
    whole = sample(denoiser, rule(4), GUIDE, Start(NOISE)).latent
    half = sample(denoiser, rule(4, end=2), GUIDE, Start(NOISE)).latent
    rest = sample(denoiser, rule(4, start=2), GUIDE, Start(NOISE, half)).latent
    torch.testing.assert_close(rest, whole)


def test_motion_of_multitalk_has_the_noise_of_its_moment() -> None:
    motion, eps = normal(3, (16, 2, 4, 4)), normal(4)
    seen = []
    denoiser = Answering(lambda latent, question: (seen.append(latent), torch.zeros_like(latent))[1])
    asked = rule(3)
    latent = walk(denoiser, asked, GUIDE, NOISE, keep=NoisedMotion(motion, eps)).latent
    for shown, sigma in zip([*seen, latent], asked.sigmas, strict=True):
        torch.testing.assert_close(shown[:, :2], (1 - sigma) * motion + sigma * eps[:, :2])
        assert torch.equal(shown[:, 2:], NOISE[:, 2:])
    torch.testing.assert_close(latent[:, :2], motion)


@pytest.mark.parametrize(("first", "place"), [(0, 0), (2, 2), (-1, 4), (-2, 3)])
def test_given_latents_stay_where_they_are(first: int, place: int) -> None:
    known = normal(5, (16, 1, 4, 4))
    found = Pinned(known, first)(NOISE, 0, 0.5)
    assert torch.equal(found[:, place : place + 1], known)
    others = [frame for frame in range(SHAPE[1]) if frame != place]
    assert torch.equal(found[:, others], NOISE[:, others])
    assert Pinned(normal(6, (16, 3, 4, 4)), -1)(NOISE, 0, 0.5).shape == NOISE.shape


def test_a_mask_lets_go_step_by_step() -> None:
    mask = torch.tensor([0.0, 0.4, 0.6, 1.0]).expand(1, 1, 4, 4)
    keep = Unmasked(VIDEO, NOISE, mask, steps=4)
    other = normal(7)
    for step, sigma in [(0, 0.7), (1, 0.5), (2, 0.2), (3, 0.0)]:
        found = keep(other, step, sigma)
        for column, share in enumerate([0.0, 0.4, 0.6, 1.0]):
            stays = 1 - share > step / 4
            expected = (1 - sigma) * VIDEO + sigma * NOISE if stays else other
            torch.testing.assert_close(found[..., column], expected[..., column])
    assert keep(other, -1, 1.0) is other


def test_under_a_mask_of_zero_the_video_comes_back() -> None:
    denoiser = Answering(lambda latent, question: normal(9))
    mask = torch.zeros(1, 1, 4, 4)
    mask[..., 2:] = 1
    start = Start(NOISE, VIDEO, add_noise=True, mask=mask)
    latent = sample(denoiser, rule(3), GUIDE, start, keep=nothing).latent
    torch.testing.assert_close(latent[..., :2], VIDEO[..., :2])
    assert not torch.allclose(latent[..., 2:], VIDEO[..., 2:], atol=0.1)


def test_the_last_of_several_has_the_last_word() -> None:
    both = All((Unmasked(VIDEO, NOISE, torch.zeros(1, 1, 4, 4), 4), Motion(GUIDE.motion)))
    found = both(NOISE, 3, 0.0)
    assert torch.equal(found[:, :1], GUIDE.motion)
    torch.testing.assert_close(found[:, 1:], noised(VIDEO, NOISE, 0.0)[:, 1:])


def test_masks_of_pictures_come_to_the_grid_of_the_latent() -> None:
    picture = torch.zeros(32, 32)
    picture[:, 16:] = 1
    one = mask_on_latent(picture, SHAPE)
    assert one.shape == (1, 1, 4, 4)
    assert torch.equal(one[0, 0, 0], torch.tensor([0.0, 0.0, 1.0, 1.0]))
    assert mask_on_latent(picture.expand(17, 32, 32), SHAPE).shape == (1, *SHAPE[1:])


def test_noise_between_steps_goes_on_where_a_generator_stood() -> None:
    first = torch.Generator().manual_seed(7)
    torch.randn(SHAPE, generator=first)
    noise = carried_on(first.get_state())
    expected = [torch.randn(SHAPE, generator=first) for _ in range(2)]
    assert torch.equal(noise(2, SHAPE), expected[0]) and torch.equal(noise(3, SHAPE), expected[1])
    assert torch.equal(noise(2, SHAPE), expected[0])  # the same each time it is asked for a step
    with pytest.raises(UsageError, match="generator_state"):
        carried_on(torch.zeros(3))


@pytest.mark.parametrize(("latents", "frames", "overlap"), [(13, 5, 2), (12, 4, 1), (4, 5, 2)])
def test_free_noise_repeats_what_was_in_another_order(latents: int, frames: int, overlap: int) -> None:
    noise = normal(1, (2, latents, 2, 2))
    found = free_noise(noise, frames=frames, overlap=overlap, seed=3)
    assert torch.equal(found[:, :frames], noise[:, :frames])
    delta = frames - overlap
    for place in range(frames, latents, delta):
        block = found[:, place : place + delta]
        source = found[:, place - frames : place - frames + block.shape[1]]
        assert sorted(block[0, :, 0, 0].tolist()) == sorted(source[0, :, 0, 0].tolist())
    assert torch.equal(found, free_noise(noise, frames=frames, overlap=overlap, seed=3))
    if latents > frames:
        assert not torch.equal(found, free_noise(noise, frames=frames, overlap=overlap, seed=4))
