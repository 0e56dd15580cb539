"""``StepCache``: one denoiser for all caches. A policy says when to skip; what the model did is kept by branch.

The branches of a step are skipped together or computed together: guidance subtracts their answers, and the
difference of a new one and an old one would be amplified with the rest. What was computed is remembered for each
branch by itself.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import torch

from infinite_talk.denoise.denoiser import Plain, Question
from infinite_talk.denoise.guidance import Answers, Branch
from infinite_talk.models.dit import Condition
from infinite_talk.types import Guide


@dataclass(frozen=True, slots=True)
class Decision:
    """What becomes of one question."""

    slot: Hashable
    """Which memory it uses."""
    skip: bool
    keep: bool = True
    """Whether a later question may use that memory; else it is given back."""
    unbroken: bool = False
    """Whether the memory must have been used at the step before: one that has missed a step is older than the policy
    thinks. Branches miss steps whose guidance scale is 1, context windows those that do not ask them."""


class Policy(Protocol):
    """When to skip. Asked once for each question, in the order of the run."""

    def next(self, latent: torch.Tensor, question: Question) -> Decision: ...

    def learn(
        self, latent: torch.Tensor, question: Question, velocity: torch.Tensor, *, skipped: bool
    ) -> None:
        """Hear the answer of a question, and whether it was ``skipped``: one is computed in spite of the decision
        when its memory is not there."""
        ...


class Change(Protocol):
    """Which difference is remembered, and how an answer is made from it."""

    def compute(self, latent: torch.Tensor, questions: Sequence[Question]) -> tuple[Answers, Answers]:
        """The model's answers to some questions of a step, and the changes to remember, by branch."""
        ...

    def repeat(self, latent: torch.Tensor, question: Question, change: torch.Tensor) -> torch.Tensor:
        """An answer with a change of an earlier step."""
        ...


class SkipCount:
    """How many steps each branch left out since it was last asked."""

    def __init__(self) -> None:
        self._skipped: dict[str, int] = {}
        self._asked: dict[str, int] = {}

    def note(self, branch: Branch, *, skipped: bool) -> None:
        self._skipped[branch.value] = self._skipped.get(branch.value, 0) + skipped
        self._asked[branch.value] = self._asked.get(branch.value, 0) + 1

    @property
    def asked(self) -> int:
        """How often the branch was asked that was asked most: once in a step, or more often where a window is walked
        again, looked at in several ways, or edited."""
        return max(self._asked.values(), default=0)

    def take(self) -> Mapping[str, int]:
        """The counts, by branch, which then begin again; empty when no cache has noted any."""
        taken, self._skipped, self._asked = self._skipped, {}, {}
        return taken


class StepCache:
    """A denoiser that repeats what the model did at an earlier step when its policy says so. One per run."""

    def __init__(
        self,
        plain: Plain,
        policy: Policy,
        change: Change,
        count: SkipCount | None = None,
        keep_on: torch.device | None = None,
    ) -> None:
        """``keep_on``: where memories lie; ``None``: where they were made. The numbers are the same."""
        self._plain = plain
        self._policy, self._change = policy, change
        self._count = SkipCount() if count is None else count
        self._keep_on = keep_on
        self._kept: dict[Hashable, torch.Tensor] = {}
        self._used: dict[Hashable, int] = {}  # the step at which a memory was last made or used

    def condition(self, guide: Guide, branch: Branch) -> Condition:
        return self._plain.condition(guide, branch)

    def velocity(self, latent: torch.Tensor, question: Question) -> torch.Tensor:
        return self.velocities(latent, [question])[question.branch]

    def velocities(self, latent: torch.Tensor, questions: Sequence[Question]) -> Answers:
        decisions = {question.branch: self._policy.next(latent, question) for question in questions}
        if any(one.skip and not self._fresh(one, questions[0].step) for one in decisions.values()):
            decisions = {branch: replace(one, skip=False) for branch, one in decisions.items()}
        if all(one.unbroken for one in decisions.values()):
            self._drop_old(questions[0].step)
        found: dict[Branch, torch.Tensor] = {}
        for question in questions:
            branch, decision = question.branch, decisions[question.branch]
            self._count.note(branch, skipped=decision.skip)
            if decision.skip:
                change = self._kept[decision.slot].to(latent.device, non_blocking=True)
                found[branch] = self._change.repeat(latent, question, change)
                self._used[decision.slot] = question.step
            if not (decision.skip and decision.keep):
                self._kept.pop(decision.slot, None)  # before the model works: it may need the memory
        found |= self._computed(latent, [q for q in questions if not decisions[q.branch].skip], decisions)
        for question in questions:
            skipped = decisions[question.branch].skip
            self._policy.learn(latent, question, found[question.branch], skipped=skipped)
        return found

    def forget(self) -> None:
        self._plain.forget()

    def _fresh(self, decision: Decision, step: int) -> bool:
        """Whether what a decision wants to use is there, and as new as its policy thinks."""
        if decision.slot not in self._kept:
            return False
        return not decision.unbroken or self._used[decision.slot] == step - 1

    def _drop_old(self, step: int) -> None:
        """Give back memories that missed the step before: those of branches that are not asked any more.

        Some may have been used in this step already: branches, and parts of a window, can be asked one by one.
        """
        for slot in [slot for slot in self._kept if self._used[slot] not in (step - 1, step)]:
            del self._kept[slot]

    def _computed(
        self, latent: torch.Tensor, questions: Sequence[Question], decisions: Mapping[Branch, Decision]
    ) -> Answers:
        if not questions:
            return {}
        if not any(decisions[question.branch].keep for question in questions):
            return self._plain.velocities(latent, questions)
        found, changes = self._change.compute(latent, questions)
        for question in questions:
            if decisions[question.branch].keep:
                slot, change = decisions[question.branch].slot, changes[question.branch]
                self._kept[slot] = change if self._keep_on is None else change.to(self._keep_on)
                self._used[slot] = question.step
        return found


class OfBlocks:
    """Remembers what all blocks together added to the tokens; embeddings and head are always computed."""

    def __init__(self, plain: Plain) -> None:
        self._plain, self._model = plain, plain.transformer

    def compute(self, latent: torch.Tensor, questions: Sequence[Question]) -> tuple[Answers, Answers]:
        """One after another: the tokens before the blocks of one branch are enough to hold."""
        answers, changes = {}, {}
        for question in questions:
            time, modulation = self._plain.embedding(question.time)
            tokens = self._model.embed(latent[None], question.condition)
            after = self._model.blocks_forward(tokens, modulation, question.condition)
            changes[question.branch] = after - tokens
            answers[question.branch] = self._model.head_forward(after, time, question.condition)[0]
        return answers, changes

    def repeat(self, latent: torch.Tensor, question: Question, change: torch.Tensor) -> torch.Tensor:
        time, _ = self._plain.embedding(question.time)
        tokens = self._model.embed(latent[None], question.condition)
        answer: torch.Tensor = self._model.head_forward(tokens + change, time, question.condition)[0]
        return answer


class OfAnswers:
    """Remembers how the answer differs from the latent; a skipped step does not touch the model at all."""

    def __init__(self, plain: Plain) -> None:
        self._plain = plain

    def compute(self, latent: torch.Tensor, questions: Sequence[Question]) -> tuple[Answers, Answers]:
        answers = self._plain.velocities(latent, questions)
        return answers, {branch: velocity - latent for branch, velocity in answers.items()}

    def repeat(
        self,
        latent: torch.Tensor,
        question: Question,  # noqa: ARG002 - the answer does not depend on the time
        change: torch.Tensor,
    ) -> torch.Tensor:
        return latent + change


class Planned:
    """The same skips in every window and branch, known before the first step: nothing waits for the device."""

    def __init__(self, skips: Sequence[bool]) -> None:
        self.skips = tuple(skips)

    def next(self, latent: torch.Tensor, question: Question) -> Decision:  # noqa: ARG002 - known beforehand
        later = self.skips[question.step + 1 : question.step + 2]
        return Decision(question.branch, self.skips[question.step], keep=any(later), unbroken=True)

    def learn(
        self, latent: torch.Tensor, question: Question, velocity: torch.Tensor, *, skipped: bool
    ) -> None:
        pass


def may_skip(step: int, first: int, last: int | None) -> bool:
    """Whether a step is among those that a cache may leave out."""
    return step >= first and (last is None or step <= last)
