"""Context windows, the Mobius loop and asking backwards: one denoiser that asks in views."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from infinite_talk.denoise.caches import SkipCount
from infinite_talk.denoise.compose import compose
from infinite_talk.denoise.context import stretches, weights
from infinite_talk.denoise.denoiser import Plain, Question
from infinite_talk.denoise.guidance import Branch
from infinite_talk.denoise.loop import denoise
from infinite_talk.denoise.sampler import Sampler
from infinite_talk.denoise.views import OfViews, View, guide_of, shift_of, views
from infinite_talk.errors import UsageError
from infinite_talk.request import EasyCache, MagCache, StepCache, TeaCache
from infinite_talk.sampling import (
    ContextWindows,
    GuidanceChoice,
    MobiusLoop,
    Sampling,
    ScheduleChoice,
    Share,
)
from infinite_talk.types import Guide
from tests.unit.denoise.test_loop import Answering, some_guide, tiny_transformer

LONG = some_guide(frames=33)  # 9 latent frames
CONTEXT = ContextWindows(schedule="static_standard", frames=4, overlap=2)


def sampling(steps: int = 3, **choices: object) -> Sampling:
    return Sampling(schedule=ScheduleChoice(name="euler", steps=steps, shift=3.0), **choices)


def normal(seed: int, guide: Guide = LONG) -> torch.Tensor:
    return torch.randn(guide.latent_shape, generator=torch.Generator().manual_seed(seed))


def question(branch: Branch = Branch.COND, step: int = 0) -> Question:
    return Question(step, torch.tensor([600.0]), branch, None)


def asked(denoiser: OfViews, latent: torch.Tensor, guide: Guide = LONG, step: int = 0) -> torch.Tensor:
    with torch.inference_mode():
        denoiser.condition(guide, Branch.COND)
        return denoiser.velocity(latent, question(step=step))


def answer(plain: Plain, latent: torch.Tensor, guide: Guide) -> torch.Tensor:
    with torch.inference_mode():
        own = replace(question(), condition=plain.condition(guide, Branch.COND))
        return plain.velocity(latent, own)


# What a view sees


def test_a_stretch_hears_its_own_speech_and_sees_the_picture_first() -> None:
    view = View((3, 4, 5), (3, 4, 5), (1.0,) * 3)
    guide = guide_of(LONG, view)
    assert torch.equal(guide.speech, LONG.speech[:, 12:21])
    assert torch.equal(guide.reference[:, 0], LONG.reference[:, 0])
    assert torch.equal(guide.reference[:, 1:], LONG.reference[:, 4:6])
    assert guide_of(LONG, View((0, 1), (0, 1), (1.0,) * 2)).speech.shape[1] == 5


def test_a_picture_for_later_stretches() -> None:
    picture = torch.ones(16, 1, 4, 4)
    later = guide_of(LONG, View((3, 4), (3, 4), (1.0,) * 2), picture=picture)
    assert torch.equal(later.reference[4:, :1], picture)
    assert torch.equal(later.reference[:4, 0], LONG.reference[:4, 0])
    first = guide_of(LONG, View((0, 1), (0, 1), (1.0,) * 2), picture=picture)
    assert torch.equal(first.reference, LONG.reference[:, :2])


def test_backwards_turns_speech_and_picture_around() -> None:
    places = tuple(range(9))[::-1]
    guide = guide_of(LONG, View(places, places, (1.0,) * 9, backwards=True))
    assert torch.equal(guide.reference, LONG.reference.flip(1))
    # The last video frame stands alone; then groups of four, backwards, and each neighbourhood too.
    assert torch.equal(guide.speech[:, :1], LONG.speech[:, [32]].flip(2))
    assert torch.equal(guide.speech[:, 1:5], LONG.speech[:, [28, 27, 26, 25]].flip(2))
    assert guide.speech.shape == LONG.speech.shape


# Context windows


def test_stretches_against_their_slow_twin() -> None:
    """Each stretch is asked by itself, and the answers are added up, frame by frame."""
    plain, latent = Plain(tiny_transformer()), normal(1)
    context = ContextWindows(frames=4, overlap=2, stride=2)
    for step in (0, 1, 3):
        sums, shares = torch.zeros_like(latent), [0.0] * 9
        for stretch in stretches(context, step, 9):
            numbers = [
                4 * stretch[0],
                *(n for frame in stretch[1:] for n in range(4 * frame - 3, 4 * frame + 1)),
            ]
            reference = LONG.reference[:, stretch].clone()
            reference[:, 0] = LONG.reference[:, 0]
            own = replace(LONG, reference=reference, speech=LONG.speech[:, numbers])
            found = answer(plain, latent[:, stretch], own)
            for i, (frame, weight) in enumerate(zip(stretch, weights(context, stretch, 9), strict=True)):
                sums[:, frame] += weight * found[:, i]
                shares[frame] += weight
        expected = sums / torch.tensor(shares)[:, None, None]
        denoiser = OfViews(lambda: plain, sampling(context=context), 4)
        torch.testing.assert_close(asked(denoiser, latent, step=step), expected, atol=1e-5, rtol=1e-5)


def test_a_context_that_holds_all_is_no_context() -> None:
    plain, latent = Plain(tiny_transformer()), normal(1)
    denoiser = OfViews(lambda: plain, sampling(context=ContextWindows(frames=9)), 3)
    torch.testing.assert_close(asked(denoiser, latent), answer(plain, latent, LONG))


def test_a_model_of_single_frames_does_not_see_the_stretches() -> None:
    """Whatever stretches overlap how: where each frame is answered by itself, the whole is as without them."""
    for schedule in ("uniform_standard", "uniform_looped", "static_standard"):
        for fuse in ("linear", "pyramid"):
            context = ContextWindows(schedule=schedule, frames=4, overlap=2, fuse=fuse)
            denoiser = OfViews(lambda: Answering(lambda x, _: 2 * x + 1), sampling(context=context), 4)
            for step in range(4):
                latent = normal(step)
                torch.testing.assert_close(asked(denoiser, latent, step=step), 2 * latent + 1)


def test_every_stretch_has_the_prompt_of_its_time() -> None:
    prompts = [torch.full((2, 8), float(i)) for i in range(3)]
    seen: list[tuple[float, tuple[int, ...]]] = []

    class Reads:
        def condition(self, guide: Guide, branch: Branch) -> Guide:
            return guide

        def velocity(self, latent: torch.Tensor, question: Question) -> torch.Tensor:
            seen.append((float(question.condition.text[0, 0]), question.frames))
            return latent

    denoiser = OfViews(Reads, sampling(context=CONTEXT), 3, prompts=prompts)
    asked(denoiser, normal(1))
    assert seen == [(1.0, (0, 1, 2, 3)), (1.0, (2, 3, 4, 5)), (2.0, (4, 5, 6, 7)), (2.0, (5, 6, 7, 8))]


# Loop


def test_the_loop_begins_elsewhere_at_each_step() -> None:
    loop = MobiusLoop(shift_skip=4, share=Share(start=0.25, end=0.75))
    assert [shift_of(loop, step, 8, 9) for step in range(8)] == [0, 0, 0, 4, 8, 3, 7, 0]


def test_the_loop_against_its_slow_twin() -> None:
    """Latents and speech are rolled, the picture stays at the beginning, and the answer is rolled back."""
    plain, latent = Plain(tiny_transformer()), normal(1)
    denoiser = OfViews(lambda: plain, sampling(loop=MobiusLoop(shift_skip=2)), 4)
    for step, shift in enumerate([0, 2, 4, 6]):
        order = [(place + shift) % 9 for place in range(9)]
        numbers = [4 * order[0], *(max(0, n) for f in order[1:] for n in range(4 * f - 3, 4 * f + 1))]
        found = answer(plain, latent.roll(-shift, 1), replace(LONG, speech=LONG.speech[:, numbers]))
        torch.testing.assert_close(
            asked(denoiser, latent, step=step), found.roll(shift, 1), atol=1e-5, rtol=1e-5
        )


def test_a_loop_and_a_context_go_together() -> None:
    both = sampling(loop=MobiusLoop(shift_skip=2), context=CONTEXT)
    found = views(both, 1, 4, 9)
    assert [view.places for view in found] == stretches(CONTEXT, 1, 9)
    assert found[-1].frames == (7, 8, 0, 1)
    denoiser = OfViews(lambda: Answering(lambda x, _: 2 * x), both, 4)
    torch.testing.assert_close(asked(denoiser, normal(2), step=1), 2 * normal(2))


# Both ways


def test_backwards_is_the_mean_of_both_ways() -> None:
    plain, latent = Plain(tiny_transformer()), normal(1)
    numbers = [32, *(n for frame in range(7, -1, -1) for n in range(4 * frame, 4 * frame - 4, -1))]
    speech = LONG.speech[:, [max(0, n) for n in numbers]].flip(2)
    turned = replace(LONG, reference=LONG.reference.flip(1), speech=speech)
    back = answer(plain, latent.flip(1), turned).flip(1)
    expected = (answer(plain, latent, LONG) + back) / 2
    denoiser = OfViews(lambda: plain, sampling(bidirectional=True), 3)
    torch.testing.assert_close(asked(denoiser, latent), expected, atol=1e-5, rtol=1e-5)
    assert not torch.allclose(back, answer(plain, latent, LONG), atol=1e-3)


# Together


def walked(
    cache: StepCache | None, count: SkipCount | None = None, steps: int = 6, **choices: object
) -> torch.Tensor:
    transformer = tiny_transformer()
    rule = Sampler.of_sampling(sampling(steps, **choices))
    denoiser = compose(Plain(transformer), rule, cache=cache, count=count)
    return denoise(denoiser, rule, LONG, normal(4))


TEA = TeaCache(threshold=0.5, coefficients=(1.0, 0.0), first=1)
MAG = MagCache(threshold=0.3, ratios=(1.0, *[0.98] * 7), shift=3.0, first=1)
EASY = EasyCache(threshold=0.5, first=2)


@pytest.mark.parametrize("cache", [TEA, EASY])
def test_a_cache_that_skips_nothing_changes_nothing(cache: StepCache) -> None:
    choices: dict[str, object] = {
        "context": CONTEXT,
        "bidirectional": True,
        "guidance": GuidanceChoice(text=(3.0, 1.0, 2.0), audio=(1.5, 1.0)),
    }
    torch.testing.assert_close(
        walked(replace(cache, threshold=0.0), steps=3, **choices),
        walked(None, steps=3, **choices),
        atol=1e-5,
        rtol=1e-5,
    )


@pytest.mark.parametrize("cache", [MAG, EASY])
def test_context_scales_by_step_and_a_cache_go_together(cache: StepCache) -> None:
    """Every stretch remembers for itself, and a branch that missed a step is computed with the others."""
    count = SkipCount()
    scales = GuidanceChoice(text=(3.0, 3.0, 3.0, 1.0, 1.0, 3.0), audio=(1.0, 1.0, 1.0, 1.0, 2.0, 2.0))
    exact = walked(None, context=CONTEXT, guidance=scales)
    found = walked(cache, count, context=CONTEXT, guidance=scales)
    skipped = count.take()
    assert skipped["cond"] > 0
    assert not torch.equal(found, exact)
    assert torch.isfinite(found).all()


def test_a_loop_with_a_cache_is_refused() -> None:
    with pytest.raises(UsageError, match="shift the video"):
        walked(TEA, loop=MobiusLoop())


def test_what_no_view_asks_is_let_go() -> None:
    made: list[object] = []

    def make() -> Answering:
        made.append(Answering(lambda x, _: x))
        return made[-1]

    denoiser = OfViews(make, sampling(context=ContextWindows(frames=4, overlap=2)), 8)
    for step in range(4):
        asked(denoiser, normal(1), step=step)
        assert len(denoiser._inner) <= len(stretches(ContextWindows(frames=4, overlap=2), step, 9)) + 1
    assert len(made) > 4


def test_off_is_the_plain_denoiser() -> None:
    plain = Plain(tiny_transformer())
    assert compose(plain, Sampler.of_sampling(sampling())) is plain


def test_what_is_put_around_hears_which_frames_it_is_about() -> None:
    heard: list[tuple[int, ...] | None] = []

    def around(inner: Plain) -> Answering:
        return Answering(lambda latent, one: (heard.append(one.frames), latent)[1])

    rule = Sampler.of_sampling(sampling(1, context=CONTEXT))
    denoise(compose(Plain(tiny_transformer()), rule, around=around), rule, LONG, normal(1))
    assert heard == stretches(CONTEXT, 0, 9)
