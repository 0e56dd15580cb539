"""EasyCache against its slow twin, and what it asks of the device."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import pytest
import torch

from infinite_talk.denoise.caches import SkipCount, step_cache
from infinite_talk.denoise.caches.easycache import ByRate
from infinite_talk.denoise.denoiser import Plain, Question
from infinite_talk.denoise.guidance import Branch
from infinite_talk.denoise.keeping import Motion
from infinite_talk.denoise.loop import denoise
from infinite_talk.denoise.sampler import Sampler
from infinite_talk.request import EasyCache
from infinite_talk.types import Guide
from tests.unit.denoise.test_loop import sampler, some_guide, tiny_transformer


@dataclass
class Twin:
    """The paper's rule over the whole history of a window, in numbers on the host; nothing is forgotten."""

    cache: EasyCache
    latents: list[torch.Tensor] = field(default_factory=list)
    answers: list[dict[Branch, torch.Tensor]] = field(default_factory=list)
    computed: list[int] = field(default_factory=list)

    def skips(self, step: int, steps: int) -> bool:
        if step < max(2, math.ceil(self.cache.retention * steps)):
            return False
        before, last = self.computed[-2:]
        moved = mean(self.latents[last] - self.latents[before])
        rate = mean(self.answers[last][Branch.COND] - self.answers[before][Branch.COND]) / moved
        error = sum(
            rate * mean(self.latents[s] - self.latents[s - 1]) / mean(self.answers[s - 1][Branch.COND])
            for s in range(last + 1, step + 1)
        )
        return error < self.cache.threshold

    @torch.inference_mode()
    def run(self, plain: Plain, rule: Sampler, guide: Guide, noise: torch.Tensor) -> torch.Tensor:
        guidance, stepper, hold = rule.guidance(), rule.stepper(), Motion(guide.motion)
        latent = hold(noise, -1, 1.0)
        for step in range(rule.steps):
            self.latents.append(latent)
            if self.skips(step, rule.steps):
                last = self.computed[-1]
                answers = {b: latent + (a - self.latents[last]) for b, a in self.answers[last].items()}
            else:
                self.computed.append(step)
                time = rule.times[step : step + 1]
                answers = {
                    b: plain.velocity(latent, Question(step, time, b, plain.condition(guide, b)))
                    for b in guidance.branches
                }
            self.answers.append(answers)
            latent = hold(stepper.step(latent, guidance.combine(answers), step), step, 0.0)
        return latent


def mean(x: torch.Tensor) -> float:
    return float(x.abs().mean())


@pytest.mark.parametrize(("text", "audio", "threshold"), [(3.0, 2.0, 0.1), (1.0, 2.0, 0.3), (1.0, 1.0, 0.1)])
def test_the_rule_against_its_twin(text: float, audio: float, threshold: float) -> None:
    transformer, rule, guide = tiny_transformer(), sampler(14, text, audio), some_guide()
    asked, skips = EasyCache(threshold=threshold, retention=0.25), SkipCount()
    cache, twin = step_cache(Plain(transformer), rule, asked, skips), Twin(asked)
    for seed in (0, 1):
        noise = torch.randn(guide.latent_shape, generator=torch.Generator().manual_seed(seed))
        twin = Twin(asked)
        expected = twin.run(Plain(transformer), rule, guide, noise)
        torch.testing.assert_close(denoise(cache, rule, guide, noise), expected, atol=1e-5, rtol=1e-5)
        assert set(skips.take().values()) == {rule.steps - len(twin.computed)}
        assert rule.steps - len(twin.computed) > 0


def test_only_the_first_branch_asks_the_device_and_only_after_the_first_steps(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each question is a wait for the device; a branch that asked for itself could also decide otherwise."""
    asked: list[int] = []
    policy = ByRate(Branch.COND, 8, 0.1, first=2)
    whether = torch.Tensor.__bool__
    monkeypatch.setattr(torch.Tensor, "__bool__", lambda self: (asked.append(1), whether(self))[1])
    random = torch.Generator().manual_seed(0)
    for step in range(8):
        latent, velocity = torch.randn(2, 16, 1, 2, 2, generator=random)
        for branch in (Branch.COND, Branch.DROP_TEXT, Branch.UNCOND):
            question = Question(step, torch.zeros(1), branch, None)
            decision = policy.next(latent, question)
            policy.learn(latent, question, velocity, skipped=decision.skip)
        assert len(asked) == max(0, step - 1)
