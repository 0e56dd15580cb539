"""The loop over the steps of one window, with the smallest transformers and with stand-ins."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
import torch

from infinite_talk.denoise.denoiser import Plain, Question
from infinite_talk.denoise.guidance import Branch
from infinite_talk.denoise.loop import denoise
from infinite_talk.denoise.sampler import Sampler
from infinite_talk.denoise.schedules import timesteps
from infinite_talk.errors import Cancelled, NumericalError
from infinite_talk.models.dit import DiTConfig, WanTransformer
from infinite_talk.request import Compat
from infinite_talk.types import Guide

CONFIG = DiTConfig(
    dim=24,
    ffn_dim=32,
    freq_dim=16,
    num_heads=2,
    num_layers=2,
    text_dim=8,
    text_len=6,
    clip_dim=8,
    clip_tokens=5,
    audio_blocks=2,
    audio_channels=4,
    intermediate_dim=8,
    context_tokens=2,
    output_dim=8,
)


def tiny_transformer() -> WanTransformer:
    torch.manual_seed(0)
    model = WanTransformer(CONFIG)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    return model.eval()


def some_guide(people: int = 1, frames: int = 9, seed: int = 0) -> Guide:
    generator = torch.Generator().manual_seed(seed)
    normal = lambda *shape: torch.randn(*shape, generator=generator)  # noqa: E731
    latents = 1 + (frames - 1) // 4
    masks = torch.zeros(people + 1, 4, 4)
    for person in range(people):
        masks[person, :, person] = 1
    masks[people] = 1 - masks[:people].amax(0)
    return Guide(
        text=normal(5, 8),
        negative=normal(3, 8),
        image=normal(5, 8),
        reference=normal(20, latents, 4, 4),
        speech=normal(people, frames, 5, 2, 4),
        token_masks=masks,
        motion=normal(16, 1, 4, 4),
    )


def sampler(steps: int = 4, text: float = 3.0, audio: float = 2.0, compat: Compat = Compat.FIXED) -> Sampler:
    return Sampler(timesteps(steps, 3.0), text, audio, None, compat)


@dataclass
class Answering:
    """A denoiser that answers by a rule and remembers what it was shown."""

    rule: object
    seen: list[tuple[Question, torch.Tensor]] = field(default_factory=list)

    def condition(self, guide: Guide, branch: Branch) -> Branch:
        return branch

    def velocity(self, latent: torch.Tensor, question: Question) -> torch.Tensor:
        self.seen.append((question, latent))
        return self.rule(latent, question)


def test_a_straight_flow_is_walked_to_its_end() -> None:
    """With the true velocity ``noise - picture`` any number of steps arrives at the picture."""
    guide = some_guide()
    noise, picture = torch.randn(2, *guide.latent_shape, generator=torch.Generator().manual_seed(1))
    denoiser = Answering(lambda latent, question: noise - picture)
    latent = denoise(denoiser, sampler(), guide, noise)
    torch.testing.assert_close(latent[:, 1:], picture[:, 1:])


def test_motion_latents_are_seen_at_every_step_and_returned() -> None:
    guide = some_guide()
    denoiser = Answering(lambda latent, question: torch.ones_like(latent))
    latent = denoise(denoiser, sampler(), guide, torch.zeros(guide.latent_shape))
    for _, shown in [*denoiser.seen, (None, latent)]:
        assert torch.equal(shown[:, :1], guide.motion)
    assert not torch.equal(denoiser.seen[0][1][:, 1:], latent[:, 1:])


@pytest.mark.parametrize(("text", "audio", "passes"), [(3, 2, 3), (1, 2, 2), (3, 1, 2), (1, 1, 1)])
def test_passes_per_step(text: float, audio: float, passes: int) -> None:
    denoiser = Answering(lambda latent, question: latent)
    denoise(denoiser, sampler(4, text, audio), some_guide(), torch.zeros(some_guide().latent_shape))
    assert len(denoiser.seen) == 4 * passes


def test_steps_are_told_in_order_and_the_listener_may_stop() -> None:
    told: list[int] = []

    def stop_at_two(step: int) -> None:
        told.append(step)
        if step == 1:
            raise Cancelled("enough")

    denoiser = Answering(lambda latent, question: latent)
    with pytest.raises(Cancelled):
        denoise(denoiser, sampler(9), some_guide(), torch.zeros(some_guide().latent_shape), stop_at_two)
    assert told == [0, 1]


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_values_that_are_no_numbers_are_an_error(bad: float) -> None:
    denoiser = Answering(lambda latent, question: torch.full_like(latent, bad if question.step == 1 else 0))
    with pytest.raises(NumericalError, match="NaN or infinite"):
        denoise(denoiser, sampler(), some_guide(), torch.zeros(some_guide().latent_shape))


@pytest.mark.parametrize("people", [1, 2, 3])
def test_branches_differ_in_what_they_leave_out(people: int) -> None:
    """Changing the prompt moves only branches with text, changing the speech only those with speech."""
    denoiser, guide = Plain(tiny_transformer()), some_guide(people)
    others = {"text": some_guide(people, seed=1).text, "speech": some_guide(people, seed=1).speech}
    latent = torch.randn(guide.latent_shape, generator=torch.Generator().manual_seed(2))

    def answer(guide: Guide, branch: Branch) -> torch.Tensor:
        question = Question(0, torch.tensor([500.0]), branch, denoiser.condition(guide, branch))
        return denoiser.velocity(latent, question)

    from dataclasses import replace

    with torch.inference_mode():
        for branch in Branch:
            base = answer(guide, branch)
            assert torch.equal(base, answer(replace(guide, text=others["text"]), branch)) != branch.has_text
            heard = answer(replace(guide, speech=others["speech"]), branch)
            assert torch.equal(base, heard) != branch.has_speech
