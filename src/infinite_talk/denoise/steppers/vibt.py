"""Vision Bridge Transformer (ViBT): Euler's step along a Brownian bridge, which ends without noise."""

from __future__ import annotations

import math

import torch

from infinite_talk.denoise.steppers.walk import Walk


class Bridge:
    """``x' = x - (s - s') velocity + sqrt((s - s') s' / s) noise``: with the variance of a Brownian bridge."""

    def __init__(self, walk: Walk) -> None:
        self._walk = walk

    def step(self, latent: torch.Tensor, velocity: torch.Tensor, step: int) -> torch.Tensor:
        level, following = self._walk.sigmas[step], self._walk.sigmas[step + 1]
        walked = latent - (level - following) * velocity
        if following == 0:
            return walked
        spread = math.sqrt((level - following) * following / level)
        return walked + spread * self._walk.noise_like(latent, step)
