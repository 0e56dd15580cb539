"""Consistency sampling: jump to the picture, then back to the next noise level with fresh noise.

Latent Consistency Models (arXiv 2310.04378) in the terms of flow matching. rCM (arXiv 2510.08431) is the same update on
a grid of its own: what it writes as angles is the flow's level ``sin / (sin + cos)``.
"""

from __future__ import annotations

import torch

from infinite_talk.denoise.steppers.walk import Walk


class Consistency:
    """``x' = (1 - s') picture + s' noise`` with ``picture = x - s velocity``."""

    def __init__(self, walk: Walk) -> None:
        self._walk = walk

    def step(self, latent: torch.Tensor, velocity: torch.Tensor, step: int) -> torch.Tensor:
        picture = self.picture(latent - self._walk.sigmas[step] * velocity, step)
        level = self._walk.sigmas[step + 1]
        if level == 0:
            return picture
        return (1 - level) * picture + level * self._walk.noise_like(latent, step)

    def picture(self, predicted: torch.Tensor, _step: int) -> torch.Tensor:
        """What is taken for the picture."""
        return predicted


class ContrastConsistency(Consistency):
    """The same with the picture's contrast changed: more in the first steps, a little less in the last ones.

    ``mean + (picture - mean) (1 + 0.15 (1 - i / n) / 2) 0.95``, the published ``humo_lcm`` with its default numbers.
    """

    def picture(self, predicted: torch.Tensor, step: int) -> torch.Tensor:
        factor = 0.95 * (1 + 0.15 * (1 - step / self._walk.steps) / 2)
        return torch.lerp(predicted.mean(), predicted, factor)
