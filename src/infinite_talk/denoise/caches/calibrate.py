"""Measures a model for TeaCache and MagCache: a few windows without a cache, and what the blocks do at each step.

recorder = Recorder(transformer, sampler)
denoise(recorder, sampler, guide, noise)          # once for each window
measured = recorder.measured()
Defaults(step_cache=measured.polynomial(), magcache=measured.ratios, magcache_shift=shift)
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from infinite_talk.denoise.caches.cache import OfBlocks
from infinite_talk.denoise.caches.teacache import distances
from infinite_talk.denoise.denoiser import Plain, Question
from infinite_talk.denoise.guidance import Branch
from infinite_talk.denoise.sampler import Sampler
from infinite_talk.models.dit import Condition, WanTransformer
from infinite_talk.types import Guide

APART = 3
"""Steps up to so far apart are compared: a polynomial has to hold for schedules with fewer steps too."""


@dataclass(frozen=True, slots=True)
class Pair:
    """Two steps of one window."""

    moved: float  # relative distance of the time embeddings
    changed: float  # relative L1 distance of what the blocks did: the error of reusing the earlier


@dataclass(frozen=True, slots=True)
class Measured:
    """Means over all windows that were recorded."""

    ratios: tuple[float, ...]
    """Size of what the blocks do at each step over that at the step before, mean over tokens; the first is 1."""
    pairs: tuple[Pair, ...]

    def polynomial(self, degree: int = 2) -> tuple[float, ...]:
        """TeaCache coefficients of ``changed`` over ``moved``, highest power first.

        Least squares of the relative error, as the smallest moves matter most, and no constant term: a step that does
        not move changes nothing.
        """
        moved, changed = (np.asarray(values) for values in zip(*map(_both, self.pairs), strict=True))
        powers = np.arange(degree - 1, -1, -1)  # of changed / moved
        wanted = moved[:, None] ** powers * (moved / changed)[:, None]
        found = np.linalg.lstsq(wanted, np.ones(len(moved)), rcond=None)[0]
        return (*(float(f"{value:.6g}") for value in found), 0.0)


def _both(pair: Pair) -> tuple[float, float]:
    return pair.moved, pair.changed


class Recorder:
    """A denoiser that asks the transformer every time, and watches the branch that is asked first."""

    def __init__(self, transformer: WanTransformer, sampler: Sampler) -> None:
        self._plain = Plain(transformer)
        self._blocks = OfBlocks(self._plain)
        self._watched = sampler.guidance().branches[0]
        self._distance = distances(transformer, sampler)
        self._steps = sampler.steps
        self._recent: list[torch.Tensor] = []  # what the blocks did, newest first
        self._ratios: list[list[float]] = [[1.0], *([] for _ in range(sampler.steps - 1))]
        self._pairs: list[Pair] = []

    def condition(self, guide: Guide, branch: Branch) -> Condition:
        return self._plain.condition(guide, branch)

    def velocity(self, latent: torch.Tensor, question: Question) -> torch.Tensor:
        if question.branch is not self._watched:
            return self._plain.velocity(latent, question)
        answers, changes = self._blocks.compute(latent, [question])
        self._note(question.step, changes[question.branch].float())
        return answers[question.branch]

    def forget(self) -> None:
        self._plain.forget()

    def measured(self) -> Measured:
        """What was recorded so far; at least one window."""
        ratios = tuple(float(f"{np.mean(of_step):.6g}") for of_step in self._ratios)
        return Measured(ratios, tuple(self._pairs))

    def _note(self, step: int, change: torch.Tensor) -> None:
        if step == 0:
            self._recent = []
        for apart, earlier in enumerate(self._recent, 1):
            changed = float((change - earlier).abs().mean() / earlier.abs().mean())
            self._pairs.append(Pair(self._distance(step, step - apart), changed))
        if self._recent:
            sizes = [torch.linalg.vector_norm(one, dim=-1) for one in (change, self._recent[0])]
            self._ratios[step].append(float((sizes[0] / sizes[1]).mean()))
        self._recent = [change, *self._recent][:APART] if step + 1 < self._steps else []
