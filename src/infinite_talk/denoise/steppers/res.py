"""RES (arXiv 2308.02157): exponential integrator of second order with two steps, as used for Cosmos."""

from __future__ import annotations

import math

import torch

from infinite_talk.denoise.steppers.walk import Walk


class ResMultistep:
    """With ``t = -log s``, ``h = t' - t``, ``c = (t before - t) / h``: ``x' = exp(-h) x + h (b1 m0 + b2 m1)``.

    ``b2 = phi2(-h) / c``, ``b1 = phi1(-h) - b2``; ``phi1(z) = (exp(z) - 1) / z``, ``phi2(z) = (phi1(z) - 1) / z``;
    ``m0`` and ``m1`` are the pictures predicted at this step and the one before. First and last step are Euler's.
    """

    def __init__(self, walk: Walk) -> None:
        self._sigmas = walk.sigmas
        self._before: torch.Tensor | None = None

    def step(self, latent: torch.Tensor, velocity: torch.Tensor, step: int) -> torch.Tensor:
        level, following = self._sigmas[step], self._sigmas[step + 1]
        picture, before = latent - level * velocity, self._before
        self._before = picture
        if before is None or following == 0:
            return latent + (following - level) * velocity
        width = math.log(level / following)
        ratio = math.log(level / self._sigmas[step - 1]) / width
        phi1 = math.expm1(-width) / -width
        old = (phi1 - 1) / -width / ratio
        return (following / level) * latent + width * ((phi1 - old) * picture + old * before)
