"""DEIS (arXiv 2204.13902), multistep of order 2 in ``log rho``: the update of diffusers' ``DEISMultistepScheduler``."""

from __future__ import annotations

import math

import torch

from infinite_talk.denoise.steppers.walk import Walk

_SMALLEST, _LARGEST = 1e-6, 1 - 1e-12
"""Range of the noise levels that logarithms see; the lower end is the one the node pack sets for the last level."""
_SHORT = 15
"""In fewer steps than this the last one is of order 1."""


class Deis:
    """With ``rho = s / (1 - s)``: ``x' = (1 - s') (x / (1 - s) + c1 e0 + c2 e1)``.

    ``e0`` and ``e1`` are the noise predicted at this step and the one before; ``c1`` and ``c2`` the integrals from
    ``rho`` to ``rho'`` of the line through them in ``log rho``. The first step is Euler's.
    """

    def __init__(self, walk: Walk) -> None:
        self._sigmas, self._steps = walk.sigmas, walk.steps
        self._noises: list[torch.Tensor] = []

    def step(self, latent: torch.Tensor, velocity: torch.Tensor, step: int) -> torch.Tensor:
        level, following = self._sigmas[step], self._sigmas[step + 1]
        self._noises = [*self._noises[-1:], latent + (1 - level) * velocity]
        last_of_few = step == self._steps - 1 and self._steps < _SHORT
        if len(self._noises) == 1 or last_of_few:
            return latent + (following - level) * velocity
        end, now, before = (_rho(self._sigmas[index]) for index in (step + 1, step, step - 1))
        newest = _integral(end, now, before) - _integral(now, now, before)
        older = _integral(end, before, now) - _integral(now, before, now)
        walked = latent / (1 - level) + newest * self._noises[1] + older * self._noises[0]
        return (1 - following) * walked


def _rho(sigma: float) -> float:
    sigma = min(max(sigma, _SMALLEST), _LARGEST)
    return sigma / (1 - sigma)


def _integral(upto: float, one: float, zero: float) -> float:
    """Antiderivative at ``upto`` of the line in ``log rho`` that is 1 at ``one`` and 0 at ``zero``."""
    return upto * (math.log(upto / zero) - 1) / math.log(one / zero)
