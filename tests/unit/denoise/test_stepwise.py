"""Guidance by step: the four formulas, the two names of the audio scale, and what is done to differences."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from infinite_talk.denoise.denoiser import Plain, Question
from infinite_talk.denoise.differences import (
    adaptive_scale,
    rescaled_frequencies,
    rescaled_score,
    tangential,
    zero_star_scale,
)
from infinite_talk.denoise.guidance import Branch, ClassifierFree
from infinite_talk.denoise.loop import denoise, walk
from infinite_talk.denoise.sampler import Sampler
from infinite_talk.denoise.schedules import timesteps
from infinite_talk.denoise.stepwise import Stepwise, factor_of
from infinite_talk.sampling import FreSca, GuidanceChoice, Sampling, ScheduleChoice, ScoreRescaling
from tests.unit.denoise.test_loop import Answering, some_guide, tiny_transformer

SHAPE = (16, 3, 4, 6)
ANSWERS = {
    branch: torch.randn(SHAPE, generator=torch.Generator().manual_seed(i)) for i, branch in enumerate(Branch)
}
C, N, U, A = (ANSWERS[b] for b in (Branch.COND, Branch.DROP_TEXT, Branch.UNCOND, Branch.DROP_AUDIO))


def sampling(steps: int = 4, shift: float = 3.0, **choices: object) -> Sampling:
    return Sampling(schedule=ScheduleChoice(name="euler", steps=steps, shift=shift), **choices)


def guided(step: int = 0, steps: int = 4, **choice: object) -> torch.Tensor:
    rule = Stepwise(GuidanceChoice(**choice), steps).at(step)
    return rule.combine({branch: ANSWERS[branch] for branch in rule.branches})


def noise(guide: object, seed: int = 3) -> torch.Tensor:
    return torch.randn(guide.latent_shape, generator=torch.Generator().manual_seed(seed))


def test_the_four_rows() -> None:
    close = torch.testing.assert_close
    close(guided(), C)
    close(guided(audio=(3.0,)), A + 3 * (C - A))
    close(guided(text=(5.0,)), N + 5 * (C - N))
    close(guided(text=(5.0,), audio=(0.8,)), U + 5 * ((C - N) + 0.8 * (N - U)))


@settings(max_examples=30)
@given(st.sampled_from([1.0, 2.0, 4.0, 7.5]), st.sampled_from([1.0, 2.0, 4.0, 7.5]))
def test_the_official_scale_is_converted_in_one_place(text: float, audio: float) -> None:
    """The same answers and the same number of passes, also where the official scale is the text's (factor 1)."""
    rule = Stepwise(GuidanceChoice(text=(text,), audio=(audio,), official_audio=True), 1).at(0)
    official = ClassifierFree(text, audio)
    assert rule.branches == official.branches
    answers = {branch: ANSWERS[branch] for branch in rule.branches}
    torch.testing.assert_close(rule.combine(answers), official.combine(answers), atol=1e-4, rtol=1e-5)
    assert factor_of(text, audio) == (audio if text == 1 else audio / text)


def test_both_names_make_the_same_latent() -> None:
    guide, plain = some_guide(), Plain(tiny_transformer())
    ours = Sampler.of_sampling(
        sampling(guidance=GuidanceChoice(text=(5.0,), audio=(4.0,), official_audio=True))
    )
    pack = Sampler.of_sampling(sampling(guidance=GuidanceChoice(text=(5.0,), audio=(0.8,))))
    official = Sampler(ours.times, 5.0, 4.0)
    found = [denoise(plain, one, guide, noise(guide)) for one in (ours, pack, official)]
    torch.testing.assert_close(found[0], found[1], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(found[0], found[2], atol=1e-4, rtol=1e-4)


def test_scales_go_by_step_and_the_last_holds() -> None:
    guide = some_guide()
    denoiser = Answering(lambda latent, question: latent)
    choice = GuidanceChoice(text=(5.0, 1.0), audio=(1.0, 1.0, 2.0))
    denoise(denoiser, Sampler.of_sampling(sampling(4, guidance=choice)), guide, noise(guide))
    asked: dict[int, list[Branch]] = {}
    for question, _ in denoiser.seen:
        asked.setdefault(question.step, []).append(question.branch)
    assert asked == {
        0: [Branch.COND, Branch.DROP_TEXT],
        1: [Branch.COND],
        2: [Branch.COND, Branch.DROP_AUDIO],
        3: [Branch.COND, Branch.DROP_AUDIO],
    }


@pytest.mark.parametrize(("text", "audio"), [(1.0, 1.0), (3.0, 1.0), (1.0, 2.0)])
def test_without_choices_it_is_what_the_engine_makes(text: float, audio: float) -> None:
    guide, plain = some_guide(), Plain(tiny_transformer())
    asked = Sampling(
        schedule=ScheduleChoice(name="multitalk", steps=4, shift=3.0),
        guidance=GuidanceChoice(text=(text,), audio=(audio,)),
    )
    nodes = denoise(plain, Sampler.of_sampling(asked), guide, noise(guide))
    engine = denoise(plain, Sampler(timesteps(4, 3.0), text, audio), guide, noise(guide))
    torch.testing.assert_close(nodes, engine, atol=1e-6, rtol=1e-6)


def test_batched_branches_answer_alike() -> None:
    guide, transformer = some_guide(), tiny_transformer()
    asked = Sampler.of_sampling(
        sampling(3, guidance=GuidanceChoice(text=(5.0, 3.0, 1.0), audio=(2.0,), zero_star=True))
    )
    found = [denoise(Plain(transformer, batched=b), asked, guide, noise(guide)) for b in (False, True)]
    torch.testing.assert_close(found[0], found[1], atol=1e-4, rtol=1e-4)


# What is done to answers


def test_zero_star_scales_the_unconditional_answer() -> None:
    alpha = float((C * N).sum() / (N.norm() ** 2 + 1e-8))
    assert float(zero_star_scale(C, N)) == pytest.approx(alpha, rel=1e-4)
    torch.testing.assert_close(guided(text=(5.0,), zero_star=True), alpha * N + 5 * (C - alpha * N))


def test_zero_star_brings_both_of_three_to_the_conditional_answer() -> None:
    n, u = (float((C * x).sum() / x.norm() ** 2) * x for x in (N, U))
    found = guided(text=(5.0,), audio=(2.0,), zero_star=True)
    torch.testing.assert_close(found, u + 5 * ((C - n) + 2 * (n - u)), atol=1e-4, rtol=1e-4)


def test_zero_init_stands_still_and_asks_nothing() -> None:
    """The pack crashes here, as it returns two values where three are wanted."""
    guide, picture = some_guide(), torch.zeros(some_guide().latent_shape)
    denoiser = Answering(lambda latent, question: torch.ones_like(latent))
    choice = GuidanceChoice(text=(5.0,), zero_star=True, zero_steps=2)
    rule = Sampler.of_sampling(sampling(4, guidance=choice))
    walked = walk(denoiser, rule, guide, picture)
    assert {question.step for question, _ in denoiser.seen} == {2, 3}
    assert torch.equal(denoiser.seen[0][1][:, 1:], picture[:, 1:])
    moved = rule.sigmas[4] - rule.sigmas[2]
    torch.testing.assert_close(walked.latent[:, 1:], picture[:, 1:] + moved)


def test_standing_still_in_all_steps_changes_nothing() -> None:
    guide = some_guide()
    choice = GuidanceChoice(zero_star=True, zero_steps=9)
    denoiser = Answering(lambda latent, question: latent)
    walked = walk(denoiser, Sampler.of_sampling(sampling(4, guidance=choice)), guide, noise(guide))
    assert not denoiser.seen
    assert torch.equal(walked.latent[:, 1:], noise(guide)[:, 1:])


def test_tangential_against_singular_values() -> None:
    found = tangential(C, N)
    for channel in range(SHAPE[0]):
        rows = torch.stack([C[channel].flatten(), N[channel].flatten()]).double()
        u, s, v = torch.linalg.svd(rows, full_matrices=False)
        kept = u[:, :1] * s[:1] @ v[:1]
        torch.testing.assert_close(found[channel].flatten(), kept[1].float(), atol=1e-5, rtol=1e-4)


def test_tangential_keeps_what_points_the_same_way() -> None:
    torch.testing.assert_close(tangential(C, 0.5 * C), 0.5 * C)


def test_raag_weakens_where_the_answers_differ() -> None:
    ratio = torch.stack([(C[k] - N[k]).norm() / N[k].norm() for k in range(SHAPE[0])]).mean()
    weight = 1 + 4 * torch.exp(-0.7 * ratio)
    torch.testing.assert_close(adaptive_scale(C, N, 5.0, 0.7), weight)
    torch.testing.assert_close(guided(text=(5.0,), raag_alpha=0.7), N + weight * (C - N))
    torch.testing.assert_close(adaptive_scale(C, C, 5.0, 0.7), torch.tensor(5.0))


def slow_fresca(x: torch.Tensor, choice: FreSca) -> torch.Tensor:
    """One frame and one frequency after the other."""
    out = torch.zeros_like(x)
    height, width = x.shape[-2:]
    for channel in range(x.shape[0]):
        for frame in range(x.shape[1]):
            spectrum = torch.fft.fft2(x[channel, frame])
            for row in range(height):
                for column in range(width):
                    y = (row + height // 2) % height  # where it stands when zero is in the middle
                    z = (column + width // 2) % width
                    near = all(
                        side // 2 - choice.cutoff <= at < side // 2 + choice.cutoff
                        for at, side in ((y, height), (z, width))
                    )
                    spectrum[row, column] *= choice.low if near else choice.high
            out[channel, frame] = torch.fft.ifft2(spectrum).real
    return out


@pytest.mark.parametrize("cutoff", [0, 1, 2, 20])
def test_fresca_against_its_slow_twin(cutoff: int) -> None:
    choice = FreSca(low=0.8, high=1.5, cutoff=cutoff)
    x = C[:2]
    torch.testing.assert_close(rescaled_frequencies(x, choice), slow_fresca(x, choice), atol=1e-5, rtol=1e-5)


def test_a_cutoff_beyond_the_frame_means_that_all_is_low() -> None:
    """A negative slice in the pack."""
    torch.testing.assert_close(rescaled_frequencies(C, FreSca(low=0.5, high=9.0, cutoff=99)), 0.5 * C)
    torch.testing.assert_close(guided(fresca=FreSca(low=0.5, cutoff=99)), 0.5 * C)


def test_everything_in_its_order() -> None:
    """CFG-Zero*, TCFG, RAAG, FreSca."""
    fresca = FreSca(low=0.9, high=1.3, cutoff=1)
    alpha = zero_star_scale(C, N)
    near = tangential(C, alpha * N)
    weight = adaptive_scale(C, near, 5.0, 0.3)
    expected = near + weight * rescaled_frequencies(C - near, fresca) * alpha
    found = guided(text=(5.0,), zero_star=True, tangential=True, raag_alpha=0.3, fresca=fresca)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("sigma", "k", "s"), [(0.3, 0.95, 1.0), (0.8, 0.5, 0.4), (0.999, 2.0, 1.0)])
def test_score_rescaling(sigma: float, k: float, s: float) -> None:
    snr = (1 - sigma) ** 2 / sigma**2
    rho = (snr * s**2 + 1) / (snr * s**2 / k + 1)
    expected = (rho * ((1 - sigma) * C + N) - N) / (1 - sigma)
    found = rescaled_score(C, N, sigma, ScoreRescaling(k=k, sigma=s))
    torch.testing.assert_close(found, expected, atol=1e-3, rtol=1e-4)


def test_score_rescaling_at_the_ends() -> None:
    assert rescaled_score(C, N, 1.0, ScoreRescaling(k=0.5)) is C
    torch.testing.assert_close(rescaled_score(C, N, 0.0, ScoreRescaling(k=0.5)), 0.5 * (C + N) - N)
    torch.testing.assert_close(rescaled_score(C, N, 0.4, ScoreRescaling(k=1.0)), C, atol=1e-5, rtol=1e-5)


def test_score_rescaling_is_part_of_the_walk() -> None:
    guide = some_guide()
    velocity = torch.randn(guide.latent_shape, generator=torch.Generator().manual_seed(5))
    denoiser = Answering(lambda latent, question: velocity)
    choice = ScoreRescaling(k=0.7, sigma=0.9)
    rule = Sampler.of_sampling(sampling(3, score_rescaling=choice))
    found = walk(denoiser, rule, guide, noise(guide)).latent
    latent = noise(guide)
    for step in range(3):
        latent = torch.cat([guide.motion, latent[:, 1:]], 1)
        moved = rescaled_score(velocity, latent, rule.sigmas[step], choice)
        latent = latent + (rule.sigmas[step + 1] - rule.sigmas[step]) * moved
    torch.testing.assert_close(found[:, 1:], latent[:, 1:], atol=1e-5, rtol=1e-5)


def test_the_estimate_is_the_picture_as_the_last_step_saw_it() -> None:
    guide = some_guide()
    picture = torch.randn(guide.latent_shape, generator=torch.Generator().manual_seed(8))
    true = Answering(lambda latent, question: noise(guide) - picture)
    stopped = replace(sampling(6).schedule, end=3)
    walked = walk(true, Sampler.of_sampling(Sampling(schedule=stopped)), guide, noise(guide))
    torch.testing.assert_close(walked.estimate[:, 1:], picture[:, 1:], atol=1e-4, rtol=1e-4)
    assert not torch.allclose(walked.latent[:, 1:], picture[:, 1:], atol=0.1)
    assert Question(0, torch.zeros(1), Branch.COND, None).frames is None
