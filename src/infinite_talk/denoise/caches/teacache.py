"""TeaCache (Liu et al., 2024): when the time embedding has hardly moved, reuse what the blocks did before.

How far it moved since the last step, mapped through a polynomial fitted to the model, is added up; while the
sum stays under a threshold the blocks are skipped and their last change of the tokens is added again. The
embedding depends on the time alone, so which steps are skipped is known before the first one: nothing waits
for the device.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Protocol

import torch

from infinite_talk.denoise.denoiser import Plain, Question
from infinite_talk.denoise.guidance import Branch
from infinite_talk.denoise.sampler import Sampler
from infinite_talk.errors import UsageError
from infinite_talk.models.dit import Condition, WanTransformer
from infinite_talk.request import Compat, TeaCache
from infinite_talk.types import Guide

WARM_UP_STEPS = 5
"""Steps at the start of a window that are always computed: there the picture takes shape."""

OFFICIAL_SLOTS = 3
"""The official program keeps its memory by call number modulo this, as if every step asked three branches."""

Distance = Callable[[int, int], float]
"""How far the time embedding of one step is from another's: (step, earlier step) -> relative distance."""


class Schedule(Protocol):
    """Which calls are skipped, and where each call keeps what the blocks did."""

    def next(self, question: Question) -> tuple[Hashable, bool]:
        """Memory slot of this call, and whether its blocks are skipped; called once per question, in order."""
        ...


class StepCache:
    """A denoiser that skips the blocks when its schedule says so. One per run."""

    def __init__(self, transformer: WanTransformer, schedule: Schedule) -> None:
        self._transformer = transformer
        self._plain = Plain(transformer)
        self._schedule = schedule
        self._change: dict[Hashable, torch.Tensor] = {}

    def condition(self, guide: Guide, branch: Branch) -> Condition:
        return self._plain.condition(guide, branch)

    def velocity(self, latent: torch.Tensor, question: Question) -> torch.Tensor:
        slot, skip = self._schedule.next(question)
        model = self._transformer
        time, modulation = self._plain.embedding(question.time)
        tokens = model.embed(latent[None], question.condition)
        if skip:
            after = tokens + self._change[slot]
        else:
            after = model.blocks_forward(tokens, modulation, question.condition)
            self._change[slot] = after - tokens
        return model.head_forward(after, time, question.condition)[0]

    def forget(self) -> None:
        self._plain.forget()


class ByBranch:
    """Each branch has its own memory, and every window starts afresh; right for any number of branches."""

    def __init__(self, skips: Sequence[bool]) -> None:
        self._skips = skips

    def next(self, question: Question) -> tuple[Hashable, bool]:
        return question.branch, self._skips[question.step]


class ByCallNumber:
    """The official program's bookkeeping, for ``compat="official"``.

    It counts calls in threes from the start of the run. When a step asks two branches (text guidance 1) they
    share memories that are not theirs, and the count does not start again with the window.
    """

    def __init__(
        self, steps: int, threshold: float, polynomial: Callable[[float], float], distance: Distance
    ) -> None:
        self._threshold, self._polynomial, self._distance = threshold, polynomial, distance
        self._calls_per_round = OFFICIAL_SLOTS * steps
        self._call = 0
        self._sums = [0.0] * OFFICIAL_SLOTS
        self._last_steps = [0] * OFFICIAL_SLOTS

    def next(self, question: Question) -> tuple[Hashable, bool]:
        slot = self._call % OFFICIAL_SLOTS
        skip = False
        if self._call >= OFFICIAL_SLOTS * WARM_UP_STEPS:
            self._sums[slot] += self._polynomial(self._distance(question.step, self._last_steps[slot]))
            skip = self._sums[slot] < self._threshold
        if not skip:
            self._sums[slot] = 0.0
        self._last_steps[slot] = question.step
        self._call = (self._call + 1) % self._calls_per_round
        return slot, skip


def skipped_steps(
    steps: int, threshold: float, polynomial: Callable[[float], float], distance: Distance
) -> tuple[bool, ...]:
    """Which steps of a window are skipped."""
    skips, moved = [], 0.0
    for step in range(steps):
        skip = False
        if step >= WARM_UP_STEPS:
            moved += polynomial(distance(step, step - 1))
            skip = moved < threshold
        if not skip:
            moved = 0.0
        skips.append(skip)
    return tuple(skips)


def step_cache(
    transformer: WanTransformer, sampler: Sampler, cache: TeaCache, coefficients: Sequence[float] | None
) -> StepCache:
    """The cache of one run. ``coefficients`` are the model's own, for requests that name none.

    Raises:
        UsageError: neither the request nor the model has coefficients.
    """
    chosen = cache.coefficients or coefficients
    if not chosen:
        raise UsageError(
            "This model has no step cache coefficients of its own: give them, or switch the cache off."
        )
    polynomial, distance = _polynomial(chosen), distances(transformer, sampler)
    if sampler.compat is Compat.OFFICIAL:
        return StepCache(transformer, ByCallNumber(sampler.steps, cache.threshold, polynomial, distance))
    return StepCache(
        transformer, ByBranch(skipped_steps(sampler.steps, cache.threshold, polynomial, distance))
    )


def _polynomial(coefficients: Sequence[float]) -> Callable[[float], float]:
    """Horner's rule; highest power first."""

    def value(x: float) -> float:
        total = 0.0
        for coefficient in coefficients:
            total = total * x + coefficient
        return total

    return value


@torch.inference_mode()
def distances(transformer: WanTransformer, sampler: Sampler) -> Distance:
    """The embeddings of all steps, fetched to the CPU once."""
    device = next(transformer.parameters()).device
    embeddings = transformer.modulation(sampler.times[:-1].to(device)).cpu()

    def distance(step: int, earlier: int) -> float:
        now, before = embeddings[step], embeddings[earlier]
        return float((now - before).abs().mean() / before.abs().mean())

    return distance
