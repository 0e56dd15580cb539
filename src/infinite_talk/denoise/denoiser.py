"""The seam between the loop and the transformer: questions and answers. Caches wrap it from outside."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import torch

from infinite_talk.denoise.guidance import Branch
from infinite_talk.models.dit import Condition, ConditionCache, TimeEmbedding, WanTransformer, concatenate
from infinite_talk.models.dit.model import UNCHANGED
from infinite_talk.sampling import Positions
from infinite_talk.types import Guide


@dataclass(frozen=True, slots=True, eq=False)
class Question:
    """What the model is asked at one step for one guidance branch."""

    step: int
    time: torch.Tensor  # (1,) 0..1000, on the model's device
    branch: Branch
    condition: Condition
    frames: tuple[int, ...] | None = None
    """Which latent frames of the window it is about, in the order in which the latent has them; ``None``: all."""


class Denoiser(Protocol):
    """Something that answers questions about a latent; the model itself, or a cache around it."""

    def condition(self, guide: Guide, branch: Branch) -> Condition:
        """What stays the same over all steps of a window, for one branch."""
        ...

    def velocity(self, latent: torch.Tensor, question: Question) -> torch.Tensor:
        """``(16, T, h, w)`` -> noise minus picture, same shape, float32."""
        ...

    def forget(self) -> None:
        """The weights have changed: let go of all that was computed from them, for whichever branch."""
        ...


@runtime_checkable
class AnswersTogether(Protocol):
    """A denoiser that is better asked all questions of a step at once."""

    def velocities(
        self, latent: torch.Tensor, questions: Sequence[Question]
    ) -> Mapping[Branch, torch.Tensor]:
        """``velocity`` of each question; they have the step and the reference picture in common."""
        ...


def answers(
    denoiser: Denoiser, latent: torch.Tensor, questions: Sequence[Question]
) -> Mapping[Branch, torch.Tensor]:
    """All questions of a step, at once where the denoiser can, else one by one."""
    if isinstance(denoiser, AnswersTogether):
        return denoiser.velocities(latent, questions)
    return {question.branch: denoiser.velocity(latent, question) for question in questions}


class Plain:
    """Asks the transformer every time; what branches, windows and steps have in common is computed once."""

    def __init__(
        self, transformer: WanTransformer, *, batched: bool = False, positions: Positions = UNCHANGED
    ) -> None:
        """``batched``: the branches of a step are one batch, which pays where they are small."""
        self.transformer = transformer
        self._batched, self._positions = batched, positions
        self._shared = ConditionCache()
        self._times: dict[int, tuple[torch.Tensor, TimeEmbedding]] = {}
        self._batches: dict[tuple[int, ...], tuple[tuple[Condition, ...], Condition]] = {}

    def condition(self, guide: Guide, branch: Branch) -> Condition:
        # What the window before has left is let go before more is made.
        self._batches.clear()
        picture = guide.image if guide.negative_image is None else guide.negative_image
        told = (guide.text, guide.negative, guide.image, picture)
        self._shared.keep_only([*told, guide.speech, guide.token_masks, guide.reference])
        return self.transformer.condition(
            text=[guide.text if branch.has_text else guide.negative],
            image=(guide.image if branch.has_text else picture)[None],
            # "No speech" is one silent person, however many are in the picture.
            speech=guide.speech[None] if branch.has_speech else None,
            token_masks=guide.token_masks,
            reference=guide.reference[None],
            shared=self._shared,
            positions=self._positions,
        )

    def velocity(self, latent: torch.Tensor, question: Question) -> torch.Tensor:
        answer: torch.Tensor = self.transformer(
            latent[None], question.time, question.condition, self.embedding(question.time)
        )
        return answer[0]

    def velocities(
        self, latent: torch.Tensor, questions: Sequence[Question]
    ) -> Mapping[Branch, torch.Tensor]:
        if len(questions) == 1:
            return {questions[0].branch: self.velocity(latent, questions[0])}
        if self._batched:
            return self._as_batches(latent, questions)
        time, conditions = questions[0].time, [question.condition for question in questions]
        found = self.transformer.forward_branches(latent[None], time, conditions, self.embedding(time))
        return {question.branch: one[0] for question, one in zip(questions, found, strict=True)}

    def embedding(self, time: torch.Tensor) -> TimeEmbedding:
        """The transformer's embedding of a step's time, made once for each tensor: a run has as many as steps.

        It widens the largest matrices outside of the blocks to float32, so that it is worth keeping.
        """
        known = self._times.get(id(time))
        if known is None:
            # The time itself is kept too, or another tensor could come to have its identity.
            self._times[id(time)] = known = time, self.transformer.embed_time(time)
        return known[1]

    def forget(self) -> None:
        self._shared.forget()
        self._times.clear()
        self._batches.clear()

    def _as_batches(
        self, latent: torch.Tensor, questions: Sequence[Question]
    ) -> Mapping[Branch, torch.Tensor]:
        """One batch of all questions; those without speech have one person, and then a batch of their own, and so have
        those that other things are put on."""
        found: dict[Branch, torch.Tensor] = {}
        time = questions[0].time
        for asked in batches(questions):
            conditions = tuple(replace(question.condition, extras=None) for question in asked)
            condition = replace(self._joined(conditions), extras=asked[0].condition.extras)
            several = latent.expand(len(asked), *latent.shape)
            velocities = self.transformer(several, time.expand(len(asked)), condition, self.embedding(time))
            found |= {question.branch: one for question, one in zip(asked, velocities, strict=True)}
        return found

    def _joined(self, conditions: tuple[Condition, ...]) -> Condition:
        """Several conditions as one, for all steps that ask with them; each step may put other extras on them."""
        key = tuple(id(part) for c in conditions for part in (c.blocks, c.context, c.reference, c.classes))
        if key not in self._batches:
            self._batches[key] = conditions, concatenate(conditions)
        return self._batches[key][1]


def batches(questions: Sequence[Question]) -> Iterator[list[Question]]:
    """Questions one after another that can share a batch: alike in the number of people and in their extras."""
    batch: list[Question] = []
    for question in questions:
        if batch and not _alike(batch[0].condition, question.condition):
            yield batch
            batch = []
        batch.append(question)
    if batch:
        yield batch


def _alike(one: Condition, other: Condition) -> bool:
    if one.people != other.people:
        return False
    if one.extras is None or other.extras is None:
        return one.extras is other.extras
    return one.extras.alike(other.extras)
