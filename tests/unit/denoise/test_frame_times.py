"""Latent frames that are known are asked at times of their own: the formula, and what the walk makes of it."""

from __future__ import annotations

from dataclasses import replace

import torch

from infinite_talk.denoise.caches import step_cache
from infinite_talk.denoise.denoiser import Plain, Question
from infinite_talk.denoise.extras import WithExtras
from infinite_talk.denoise.frame_times import KnowingMotion, TimesByFrame, factors_of
from infinite_talk.denoise.guidance import Branch
from infinite_talk.denoise.keeping import All, Motion, NoisedMotion, Pinned, nothing
from infinite_talk.denoise.loop import denoise
from infinite_talk.denoise.sampler import Sampler
from infinite_talk.models.dit import Extras, FrameTimes
from infinite_talk.request import TeaCache
from infinite_talk.sampling import GuidanceChoice, Sampling, ScheduleChoice
from tests.unit.denoise.test_loop import some_guide, tiny_transformer

GUIDE = some_guide()  # three latent frames, one of them known
NOISE = torch.randn(GUIDE.latent_shape, generator=torch.Generator().manual_seed(1))


def rule(steps: int = 3, name: str = "flowmatch_pusa", text: float = 3.0) -> Sampler:
    return Sampler.of_sampling(
        Sampling(
            schedule=ScheduleChoice(name=name, steps=steps, shift=3.0),
            guidance=GuidanceChoice(text=(text,)),
        )
    )


def test_what_is_known_says_which_frames_have_which_factor() -> None:
    given = Pinned(torch.zeros(16, 2, 4, 4), -2, multiplier=0.5, noisy_steps=1, noise=NOISE)
    both = factors_of(All((Motion(torch.zeros(16, 1, 4, 4)), given)), 5)
    assert both(0) == {0: 0.0, 3: 0.5, 4: 0.5} and both(1) == {0: 0.0, 3: 0.0, 4: 0.0}
    assert factors_of(nothing, 5)(0) == {}
    assert factors_of(NoisedMotion(torch.zeros(16, 1, 4, 4), NOISE), 5)(0) == {}


def test_a_multiplier_is_a_share_of_the_noise_and_then_the_latents_are_clean() -> None:
    known = torch.ones(16, 1, 4, 4)
    held = Pinned(known, 1, multiplier=0.5, noisy_steps=2, noise=NOISE)
    for step, share in ((-1, 0.5 * 0.8), (0, 0.5 * 0.8), (1, 0.0)):
        found = held(NOISE, step, 0.8)
        torch.testing.assert_close(found[:, 1:2], (1 - share) * known + share * NOISE[:, 1:2])
        assert torch.equal(found[:, 0], NOISE[:, 0]) and torch.equal(found[:, 2], NOISE[:, 2])


@torch.inference_mode()
def test_times_follow_the_frames_of_a_question() -> None:
    """In a stretch, and in the order in which it has the frames; alike for all branches; nothing without known ones."""
    transformer = tiny_transformer()
    source = TimesByFrame(transformer.embed_time)
    plain = Plain(transformer)
    asked = Question(0, torch.tensor([500.0]), Branch.COND, plain.condition(GUIDE, Branch.COND))
    assert source.extras(NOISE, asked, 3) == Extras() or source.extras(NOISE, asked, 3).times is None
    source.know(lambda _: {0: 0.0, 2: 0.5})
    whole = source.extras(NOISE, asked, 3)
    assert whole.times is not None and whole.times.of_frame == (1, 0, 2)
    for time, (e, e0) in zip((0.0, 250.0), whole.times.others, strict=True):
        expected = transformer.embed_time(torch.tensor([time]))
        torch.testing.assert_close((e, e0), expected)
    assert source.extras(NOISE, replace(asked, branch=Branch.UNCOND), 3) is whole
    part = source.extras(NOISE[:, :2], replace(asked, frames=(2, 1)), 3)
    assert part.times is not None and part.times.of_frame == (1, 0)
    assert source.extras(NOISE[:, :1], replace(asked, frames=(1,)), 3).times is None


def written_out(sampler: Sampler, transformer) -> torch.Tensor:
    """Euler with the first latent frame clean, and the model told so."""
    latent, plain = torch.cat([GUIDE.motion, NOISE[:, 1:]], 1), Plain(transformer)
    for step in range(sampler.steps):
        clean = FrameTimes(of_frame=(1, 0, 0), others=(transformer.embed_time(torch.zeros(1)),))
        time, answers = sampler.times[step : step + 1], {}
        for branch in (Branch.COND, Branch.DROP_TEXT):
            condition = replace(plain.condition(GUIDE, branch), extras=Extras(times=clean))
            answers[branch] = transformer(latent[None], time, condition)[0]
        velocity = answers[Branch.DROP_TEXT] + 3.0 * (answers[Branch.COND] - answers[Branch.DROP_TEXT])
        latent = latent + (sampler.sigmas[step + 1] - sampler.sigmas[step]) * velocity
        latent = torch.cat([GUIDE.motion, latent[:, 1:]], 1)
    return latent


@torch.inference_mode()
def test_pusa_asks_clean_frames_at_time_zero() -> None:
    transformer, sampler = tiny_transformer(), rule()
    assert sampler.by_frame and not rule(name="euler").by_frame
    found = denoise(KnowingMotion(Plain(transformer), transformer, sampler.steps), sampler, GUIDE, NOISE)
    torch.testing.assert_close(found, written_out(sampler, transformer), atol=5e-6, rtol=1e-5)
    assert not torch.allclose(found, denoise(Plain(transformer), sampler, GUIDE, NOISE), atol=1e-4)


def test_a_step_cache_that_skips_nothing_changes_nothing() -> None:
    transformer, sampler = tiny_transformer(), rule()
    never = TeaCache(threshold=0.0, coefficients=(1.0, 0.0))
    cache = step_cache(Plain(transformer), sampler, never)
    source = TimesByFrame(transformer.embed_time)
    source.know(factors_of(Motion(GUIDE.motion), 3))
    one = denoise(WithExtras(cache, (source,), sampler.steps), sampler, GUIDE, NOISE)
    other = denoise(KnowingMotion(Plain(transformer), transformer, sampler.steps), sampler, GUIDE, NOISE)
    torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)
