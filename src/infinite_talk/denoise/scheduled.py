"""A model that is another one at each step: LoRA strengths by step, with conditions that follow them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch

from infinite_talk.denoise.denoiser import Denoiser, Question
from infinite_talk.denoise.guidance import Branch
from infinite_talk.models.dit import Condition
from infinite_talk.types import Guide


class Scheduled:
    """A denoiser around another one, whose model changes between steps.

    What the model computes once per window (keys and values of text, image and speech) also depends on the
    strengths, so it is computed anew for each branch when they change. Only what belongs to the current
    strengths is kept: the conditions of the published model take a gigabyte for each branch.

    Args:
        inner: the model itself, or a cache around it.
        at_step: sets the strengths of a step and says whether they have changed (``Strengths.at_step``).
    """

    def __init__(self, inner: Denoiser, at_step: Callable[[int], bool]) -> None:
        self._inner, self._at_step = inner, at_step
        self._guide: Guide | None = None
        self._conditions: dict[Branch, Condition] = {}

    def condition(self, guide: Guide, branch: Branch) -> Condition:
        if self._at_step(0) or guide is not self._guide:  # a window begins
            self._guide = guide
            self._conditions.clear()
        self._conditions[branch] = self._inner.condition(guide, branch)
        return self._conditions[branch]

    def velocity(self, latent: torch.Tensor, question: Question) -> torch.Tensor:
        assert self._guide is not None, "conditions come first"
        if self._at_step(question.step):
            self._conditions.clear()
        if question.branch not in self._conditions:
            self._conditions[question.branch] = self._inner.condition(self._guide, question.branch)
        return self._inner.velocity(latent, replace(question, condition=self._conditions[question.branch]))
