"""EasyCache (Zhou et al., 2025): skip while the answer is expected to hold, as the run itself has shown.

Between two computed steps the answer ``v`` changes by ``k`` times the change of the latent ``x``; ``k`` varies
slowly. So ``k |x - x before| / |v before|`` tells how far the next answer will be from the last one before it is
computed. These shares are added up; while the sum stays under a threshold, the answer is the latent plus the
difference ``v - x`` of the last computed step.

The numbers stay on the device. Whether to skip has to be known on the host before the work of a step is given to the
device, so each step after the first ones waits once for the step before: one number, well under a millisecond
beside a step of seconds. The first branch decides for all.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from infinite_talk.denoise.caches.cache import Decision, may_skip
from infinite_talk.denoise.denoiser import Question
from infinite_talk.denoise.guidance import Branch
from infinite_talk.denoise.sampler import Sampler
from infinite_talk.request import EasyCache

_LEAST = 2
"""Computed steps from which ``k`` is known."""


@dataclass(slots=True)
class _Window:
    """What the deciding branch has seen in one window."""

    latent: torch.Tensor | None = None  # of the step before
    velocity: torch.Tensor | None = None  # answered at the step before
    computed: tuple[torch.Tensor, torch.Tensor] | None = None  # latent and answer of the last computed step
    rate: torch.Tensor | None = None  # k, a scalar on the device
    error: torch.Tensor | float = 0.0  # added up since the last computed step
    skip: bool = False  # this step
    step: int = -1  # the last one that was asked


class ByRate:
    """The policy of one run; every window starts afresh."""

    def __init__(
        self, leader: Branch, steps: int, threshold: float, first: int, last: int | None = None
    ) -> None:
        """Args:
        leader: the branch that is asked first at each step.
        first: first step that may be skipped; no earlier than ``k`` is known.
        last: last step that may be skipped.
        """
        self._leader, self._steps, self._threshold = leader, steps, threshold
        self._first, self._last = max(_LEAST, first), steps - 1 if last is None else last
        self._window = _Window()

    def next(self, latent: torch.Tensor, question: Question) -> Decision:
        if question.branch is self._leader:
            if question.step != self._window.step + 1:  # another window, or steps in which nothing was asked
                self._window = _Window()
            self._window.step = question.step
            self._window.skip = self._decide(latent, question.step)
        keep = self._first <= question.step + 1 <= min(self._last, self._steps - 1)
        return Decision(question.branch, self._window.skip, keep, unbroken=True)

    def learn(
        self, latent: torch.Tensor, question: Question, velocity: torch.Tensor, *, skipped: bool
    ) -> None:
        window = self._window
        if question.branch is not self._leader:
            return
        window.skip = skipped
        if question.step + 1 == self._steps:
            self._window = _Window(
                skip=window.skip, step=question.step
            )  # the other branches follow; the tensors are not needed
            return
        window.latent, window.velocity = latent, velocity
        if window.skip:
            return
        if window.computed is not None:
            before, answered = window.computed
            window.rate = _size(velocity - answered) / _size(latent - before)
        window.computed, window.error = (latent, velocity), 0.0

    def _decide(self, latent: torch.Tensor, step: int) -> bool:
        window = self._window
        if not may_skip(step, self._first, self._last) or window.rate is None:
            return False
        assert window.latent is not None and window.velocity is not None
        share = window.rate * _size(latent - window.latent) / _size(window.velocity)
        window.error = window.error + share
        return bool(window.error < self._threshold)


def policy(sampler: Sampler, cache: EasyCache) -> ByRate:
    """The policy of one run."""
    leader = sampler.guidance().branches[0]
    first = math.ceil(cache.retention * sampler.steps) if cache.first is None else cache.first
    return ByRate(leader, sampler.steps, cache.threshold, first, cache.last)


def _size(x: torch.Tensor) -> torch.Tensor:
    """Mean of the absolute values, as the paper measures changes."""
    return x.abs().mean()
