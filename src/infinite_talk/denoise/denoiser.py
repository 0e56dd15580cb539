"""The seam between the loop and the transformer: one question, one answer. Caches wrap it from outside."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch

from infinite_talk.denoise.guidance import Branch
from infinite_talk.models.dit import Condition, WanTransformer
from infinite_talk.types import Guide


@dataclass(frozen=True, slots=True, eq=False)
class Question:
    """What the model is asked at one step for one guidance branch."""

    step: int
    time: torch.Tensor  # (1,) 0..1000, on the model's device
    branch: Branch
    condition: Condition


class Denoiser(Protocol):
    """Something that answers questions about a latent; the model itself, or a cache around it."""

    def condition(self, guide: Guide, branch: Branch) -> Condition:
        """What stays the same over all steps of a window, for one branch."""
        ...

    def velocity(self, latent: torch.Tensor, question: Question) -> torch.Tensor:
        """``(16, T, h, w)`` -> noise minus picture, same shape, float32."""
        ...


class Plain:
    """Asks the transformer every time."""

    def __init__(self, transformer: WanTransformer) -> None:
        self.transformer = transformer

    def condition(self, guide: Guide, branch: Branch) -> Condition:
        return self.transformer.condition(
            text=[guide.text if branch.has_text else guide.negative],
            image=guide.image[None],
            # "No speech" is one silent person, however many are in the picture.
            speech=guide.speech[None] if branch.has_speech else None,
            token_masks=guide.token_masks,
            reference=guide.reference[None],
        )

    def velocity(self, latent: torch.Tensor, question: Question) -> torch.Tensor:
        answer: torch.Tensor = self.transformer(latent[None], question.time, question.condition)
        return answer[0]
