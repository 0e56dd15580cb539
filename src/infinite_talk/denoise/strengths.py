"""LoRA strengths that differ between steps: set before each question, and what a window keeps computed anew."""

from __future__ import annotations

from dataclasses import replace
from typing import Protocol, runtime_checkable

import torch
from torch import nn

from infinite_talk.denoise.denoiser import Denoiser, Question
from infinite_talk.denoise.guidance import Branch
from infinite_talk.models.dit import Condition
from infinite_talk.types import Guide


@runtime_checkable
class Strengths(Protocol):
    """The strengths of all LoRAs on a transformer, see ``ops/linear/lora.py``."""

    @property
    def varies(self) -> bool:
        """Whether steps differ."""
        ...

    def at_step(self, step: int) -> bool:
        """Set those of a step; whether they differ from those before."""
        ...


def varying_strengths(transformer: nn.Module) -> Strengths | None:
    """The strengths on a transformer, if they differ between steps."""
    found = next((child for child in transformer.children() if isinstance(child, Strengths)), None)
    return found if found is not None and found.varies else None


class WithStrengths:
    """A denoiser whose LoRA strengths follow the steps.

    Keys and values of text, picture and speech depend on the strengths too. So the condition of a branch is
    computed again after each change; only the current one is kept.
    """

    def __init__(self, inner: Denoiser, strengths: Strengths) -> None:
        self._inner, self._strengths = inner, strengths
        self._guides: dict[Branch, Guide] = {}
        self._conditions: dict[Branch, Condition] = {}

    def condition(self, guide: Guide, branch: Branch) -> Condition:
        self._strengths.at_step(0)
        self._guides[branch] = guide
        self._conditions[branch] = condition = self._inner.condition(guide, branch)
        return condition

    def velocity(self, latent: torch.Tensor, question: Question) -> torch.Tensor:
        branch = question.branch
        if self._strengths.at_step(question.step):
            self._conditions.clear()
        if branch not in self._conditions:
            self._conditions[branch] = self._inner.condition(self._guides[branch], branch)
        return self._inner.velocity(latent, replace(question, condition=self._conditions[branch]))
