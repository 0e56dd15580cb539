"""LoRA strengths that differ between steps: set before each question, and what a window keeps computed anew."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Protocol, runtime_checkable

import torch
from torch import nn

from infinite_talk.denoise.denoiser import Denoiser, Question, answers
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

    Keys and values of text, picture and speech depend on the strengths too, and so does the embedding of the
    time. So everything is computed again after each change; only what belongs to the current strengths is kept.
    """

    def __init__(self, inner: Denoiser, strengths: Strengths) -> None:
        self._inner, self._strengths = inner, strengths
        self._guides: dict[Branch, Guide] = {}
        self._conditions: dict[Branch, Condition] = {}

    def condition(self, guide: Guide, branch: Branch) -> Condition:
        self._set(0)
        self._guides[branch] = guide
        self._conditions[branch] = condition = self._inner.condition(guide, branch)
        return condition

    def velocity(self, latent: torch.Tensor, question: Question) -> torch.Tensor:
        return self._inner.velocity(latent, self._current(question))

    def velocities(
        self, latent: torch.Tensor, questions: Sequence[Question]
    ) -> Mapping[Branch, torch.Tensor]:
        return answers(self._inner, latent, [self._current(question) for question in questions])

    def forget(self) -> None:
        self._conditions.clear()
        self._inner.forget()

    def _current(self, question: Question) -> Question:
        """The question with the condition of its step's strengths."""
        branch = question.branch
        self._set(question.step)
        if branch not in self._conditions:
            self._conditions[branch] = self._inner.condition(self._guides[branch], branch)
        return replace(question, condition=self._conditions[branch])

    def _set(self, step: int) -> None:
        if self._strengths.at_step(step):
            self.forget()
