"""DPM-Solver++ (arXiv 2211.01095), multistep, second order, midpoint form; and its SDE variant.

With ``l = log((1 - s) / s)`` and ``h = l' - l``, the exact solution of the flow's linear part is multiplied out and the
predicted picture is taken as a line through its last two values. Same update as diffusers'
``DPMSolverMultistepScheduler`` with flow sigmas.
"""

from __future__ import annotations

import math

import torch

from infinite_talk.denoise.steppers.walk import Walk, log_snr


class DpmSolver:
    """``x' = (s' / s) x - (1 - s') (exp(-h) - 1) (D0 + D1 / 2)``.

    ``D0`` is the predicted picture, ``D1 = (D0 - D0 before) h / (h before)``; none in the first and in the last step.
    """

    def __init__(self, walk: Walk) -> None:
        self._walk = walk
        self._pictures: list[torch.Tensor] = []

    def step(self, latent: torch.Tensor, velocity: torch.Tensor, step: int) -> torch.Tensor:
        level, following = self._walk.sigmas[step], self._walk.sigmas[step + 1]
        self._pictures = [*self._pictures[-1:], latent - level * velocity]
        width = log_snr(following) - log_snr(level)
        return self._advance(latent, self._middle(step, width), step, width)

    def _middle(self, step: int, width: float) -> torch.Tensor:
        """The picture as it is predicted for the middle of the step."""
        newest = self._pictures[-1]
        if len(self._pictures) == 1 or step == self._walk.steps - 1:
            return newest
        before = log_snr(self._walk.sigmas[step]) - log_snr(self._walk.sigmas[step - 1])
        return newest + (newest - self._pictures[0]) * (width / before / 2)

    def _advance(self, latent: torch.Tensor, picture: torch.Tensor, step: int, width: float) -> torch.Tensor:
        level, following = self._walk.sigmas[step], self._walk.sigmas[step + 1]
        return (following / level) * latent - (1 - following) * math.expm1(-width) * picture


class SdeDpmSolver(DpmSolver):
    """``x' = (s' / s) exp(-h) x + (1 - s') (1 - exp(-2 h)) (D0 + D1 / 2) + s' sqrt(1 - exp(-2 h)) noise``."""

    def _advance(self, latent: torch.Tensor, picture: torch.Tensor, step: int, width: float) -> torch.Tensor:
        level, following = self._walk.sigmas[step], self._walk.sigmas[step + 1]
        renewed = -math.expm1(-2 * width)
        kept = (following / level) * math.exp(-width) * latent
        walked = kept + (1 - following) * renewed * picture
        if following == 0:
            return walked
        return walked + following * math.sqrt(renewed) * self._walk.noise_like(latent, step)
