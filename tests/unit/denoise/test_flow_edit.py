"""FlowEdit against its formula, written out."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from infinite_talk.denoise.denoiser import Plain, Question
from infinite_talk.denoise.flow_edit import Side, drift_schedule, flow_edit
from infinite_talk.denoise.guidance import Branch
from infinite_talk.denoise.keeping import nothing
from infinite_talk.denoise.sample import check_for_windows
from infinite_talk.denoise.sampler import Sampler
from infinite_talk.errors import UsageError
from infinite_talk.sampling import (
    ContextWindows,
    FlowEdit,
    FreeInit,
    GuidanceChoice,
    MobiusLoop,
    Sampling,
    ScheduleChoice,
    ScoreRescaling,
)
from infinite_talk.types import Guide
from tests.unit.denoise.test_loop import some_guide, tiny_transformer

TARGET = some_guide()
SOURCE = replace(TARGET, text=some_guide(seed=1).text)
VIDEO = torch.randn(TARGET.latent_shape, generator=torch.Generator().manual_seed(5))


def sampling(steps: int = 5, text: float = 3.0, **choices: object) -> Sampling:
    edit = FlowEdit(**{"skip_steps": 2, "source_text": (2.0,), "drift_text": (4.0,), **choices})
    return Sampling(
        schedule=ScheduleChoice(name="euler", steps=steps, shift=3.0),
        guidance=GuidanceChoice(text=(text,)),
        flow_edit=edit,
    )


def draw(step: int) -> torch.Tensor:
    return torch.randn(TARGET.latent_shape, generator=torch.Generator().manual_seed(100 + step))


@torch.inference_mode()
def velocity(
    plain: Plain, guide: Guide, latent: torch.Tensor, time: torch.Tensor, text: float
) -> torch.Tensor:
    c, n = (
        plain.velocity(latent, Question(0, time, branch, plain.condition(guide, branch)))
        for branch in (Branch.COND, Branch.DROP_TEXT)
    )
    return n + text * (c - n)


def edited(asked: Sampling, source: Guide = SOURCE, told: list[int] | None = None) -> torch.Tensor:
    plain, rule = Plain(tiny_transformer()), Sampler.of_sampling(asked)
    drift = Sampler.of_sampling(replace(asked, schedule=drift_schedule(asked)))
    return flow_edit(
        Side(plain, source),
        Side(plain, TARGET),
        rule,
        VIDEO,
        draw,
        drift=drift,
        keep=nothing,
        on_step=(told if told is not None else []).append,
    ).latent


@pytest.mark.parametrize("drift_steps", [0, 1, 2])
def test_the_edit_against_its_formula(drift_steps: int) -> None:
    asked = sampling(drift_steps=drift_steps, drift_shift=5.0)
    plain, rule = Plain(tiny_transformer()), Sampler.of_sampling(asked)
    plain_steps = Sampler.of_sampling(replace(asked, schedule=drift_schedule(asked)))
    edit, switch = VIDEO, 5 - drift_steps
    for step in range(2, 5):
        walker = rule if step < switch else plain_steps
        time, sigma, after = walker.times[step : step + 1], walker.sigmas[step], walker.sigmas[step + 1]
        noisy = (1 - sigma) * VIDEO + sigma * draw(step)
        if step < switch:
            ahead = edit + noisy - VIDEO
            moved = velocity(plain, TARGET, ahead, time, 3.0) - velocity(plain, SOURCE, noisy, time, 2.0)
        else:
            edit = edit + noisy - VIDEO if step == switch else edit
            moved = velocity(plain, TARGET, edit, time, 4.0)
        edit = edit + (after - sigma) * moved
    told: list[int] = []
    torch.testing.assert_close(edited(asked, told=told), edit, atol=1e-4, rtol=1e-4)
    assert told == [2, 3, 4]


def test_the_same_words_leave_the_video_as_it_was() -> None:
    torch.testing.assert_close(edited(sampling(text=2.0), source=TARGET), VIDEO)
    assert not torch.allclose(edited(sampling(text=2.0)), VIDEO, atol=1e-3)


def test_drift_has_the_shift_of_its_own() -> None:
    asked = sampling(drift_shift=7.0)
    assert drift_schedule(asked) == replace(asked.schedule, shift=7.0)


@pytest.mark.parametrize(
    ("choices", "said"),
    [({"skip_steps": 5}, "none is left"), ({"skip_steps": 3, "drift_steps": 3}, "fewer drift_steps")],
)
def test_steps_that_are_not_there(choices: dict[str, int], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        edited(sampling(**choices))


def test_an_edit_does_not_begin_again_from_noise() -> None:
    with pytest.raises(UsageError, match="Leave one of them away"):
        edited(replace(sampling(), free_init=FreeInit()))


def test_score_rescaling_is_part_of_an_edit() -> None:
    rescaled = edited(replace(sampling(), score_rescaling=ScoreRescaling(k=0.8)))
    assert not torch.allclose(rescaled, edited(sampling()), atol=1e-4)
    torch.testing.assert_close(
        edited(replace(sampling(), score_rescaling=ScoreRescaling(k=1.0))),
        edited(sampling()),
        atol=1e-4,
        rtol=1e-4,
    )


def test_a_video_of_another_length_is_refused() -> None:
    plain = Plain(tiny_transformer())
    side = Side(plain, TARGET)
    with pytest.raises(UsageError, match="encode a video of the same size"):
        flow_edit(side, side, Sampler.of_sampling(sampling()), VIDEO[:, :1], draw)


def test_what_has_no_meaning_in_windows_is_refused_in_words() -> None:
    with pytest.raises(UsageError, match="context_frames smaller"):
        check_for_windows(Sampling(context=ContextWindows(frames=21)), windows=3, latents=21, samples=False)
    with pytest.raises(UsageError, match="made in 2 windows"):
        check_for_windows(Sampling(loop=MobiusLoop()), windows=2, latents=21, samples=False)
    with pytest.raises(UsageError, match="Encode it with WanVideoEncode"):
        check_for_windows(sampling(), windows=1, latents=21, samples=False)
    both = Sampling(context=ContextWindows(frames=9), loop=MobiusLoop())
    check_for_windows(both, windows=1, latents=21, samples=False)
    check_for_windows(sampling(), windows=4, latents=21, samples=True)
