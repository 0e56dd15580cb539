"""TeaCache (Liu et al., 2024): when the time embedding has hardly moved, reuse what the blocks did before.

How far it moved since the last step, mapped through a polynomial fitted to the model, is added up; while the
sum stays under a threshold the blocks are skipped and their last change of the tokens is added again. The
embedding depends on the time alone, so which steps are skipped is known before the first one: nothing waits
for the device.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import torch

from infinite_talk.denoise.caches.cache import Decision, Planned, Policy, may_skip
from infinite_talk.denoise.denoiser import Question
from infinite_talk.denoise.sampler import Sampler
from infinite_talk.models.dit import WanTransformer
from infinite_talk.request import Compat, TeaCache

WARM_UP_STEPS = 5
"""Steps at the start of a window that are always computed: there the picture takes shape."""

OFFICIAL_SLOTS = 3
"""The official program keeps its memory by call number modulo this, as if every step asked three branches."""

Distance = Callable[[int, int], float]
"""How far the time embedding of one step is from another's: (step, earlier step) -> relative distance."""


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

    def next(self, latent: torch.Tensor, question: Question) -> Decision:  # noqa: ARG002 - time decides
        slot = self._call % OFFICIAL_SLOTS
        skip = False
        if self._call >= OFFICIAL_SLOTS * WARM_UP_STEPS:
            self._sums[slot] += self._polynomial(self._distance(question.step, self._last_steps[slot]))
            skip = self._sums[slot] < self._threshold
        if not skip:
            self._sums[slot] = 0.0
        self._last_steps[slot] = question.step
        self._call = (self._call + 1) % self._calls_per_round
        return Decision(slot, skip)

    def learn(
        self, latent: torch.Tensor, question: Question, velocity: torch.Tensor, *, skipped: bool
    ) -> None:
        pass


def skipped_steps(
    steps: int,
    threshold: float,
    polynomial: Callable[[float], float],
    distance: Distance,
    first: int = WARM_UP_STEPS,
    last: int | None = None,
) -> tuple[bool, ...]:
    """Which steps of a window are skipped; the first one never is."""
    skips, moved = [], 0.0
    for step in range(steps):
        skip = False
        if may_skip(step, max(1, first), last):
            moved += polynomial(distance(step, step - 1))
            skip = moved < threshold
        if not skip:
            moved = 0.0
        skips.append(skip)
    return tuple(skips)


def policy(transformer: WanTransformer, sampler: Sampler, cache: TeaCache) -> Policy:
    """The policy of one run; ``cache`` has its coefficients (``presets.resolve``)."""
    assert cache.coefficients, "resolve the request first"
    polynomial = _polynomial(cache.coefficients)
    distance = distances(transformer, sampler, cache.embedding)
    if sampler.compat is Compat.OFFICIAL:
        return ByCallNumber(sampler.steps, cache.threshold, polynomial, distance)
    first = WARM_UP_STEPS if cache.first is None else cache.first
    return Planned(skipped_steps(sampler.steps, cache.threshold, polynomial, distance, first, cache.last))


def _polynomial(coefficients: Sequence[float]) -> Callable[[float], float]:
    """Horner's rule; highest power first."""

    def value(x: float) -> float:
        total = 0.0
        for coefficient in coefficients:
            total = total * x + coefficient
        return total

    return value


@torch.inference_mode()
def distances(
    transformer: WanTransformer, sampler: Sampler, embedding: Literal["e", "e0"] = "e0"
) -> Distance:
    """The embeddings of all steps, fetched to the CPU once."""
    device = next(transformer.parameters()).device
    plain, modulation = transformer.embed_time(sampler.times[:-1].to(device))
    embeddings = (plain if embedding == "e" else modulation).cpu()

    def distance(step: int, earlier: int) -> float:
        now, before = embeddings[step], embeddings[earlier]
        return float((now - before).abs().mean() / before.abs().mean())

    return distance
