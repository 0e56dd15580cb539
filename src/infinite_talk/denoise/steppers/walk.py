"""What a solver walks: the noise levels of a window and where fresh noise comes from; what all solvers compute with.

At noise level ``s`` the latent is ``x = (1 - s) picture + s noise``, and the model predicts the velocity ``noise -
picture``. So the picture is ``x - s velocity`` and the noise ``x + (1 - s) velocity``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch

from infinite_talk.ops.host import to_device

_NEARLY_ONE = 1 - 1e-12
"""Highest noise level that logarithms see: pure noise has a signal of zero. Grids of large shifts come near it."""


class Stepper(Protocol):
    """A solver for one window; a multi-step solver keeps its history in the object."""

    def step(self, latent: torch.Tensor, velocity: torch.Tensor, step: int) -> torch.Tensor:
        """The latent at the time after ``step``, from the latent and the velocity at its time."""
        ...


class StepNoise(Protocol):
    """Fresh noise for the steps of one window."""

    def __call__(self, step: int, shape: Sequence[int]) -> torch.Tensor:
        """Standard normal noise of ``shape``, float32, on the CPU; the same each time it is asked for a step."""
        ...


@dataclass(frozen=True, slots=True)
class Walk:
    """The steps of one window."""

    sigmas: tuple[float, ...]
    """Noise level before each step and after the last: plain floats, which never make a device wait."""
    noise: StepNoise
    whole: int
    """Steps of the schedule before it was cut; some solvers behave differently in short ones."""

    @property
    def steps(self) -> int:
        return len(self.sigmas) - 1

    def noise_like(self, latent: torch.Tensor, step: int) -> torch.Tensor:
        """Fresh noise for a step, shaped and placed like the latent."""
        return to_device(self.noise(step, latent.shape), latent.device).to(latent.dtype)


def log_snr(sigma: float) -> float:
    """``log((1 - s) / s)``, half the logarithm of the signal-to-noise ratio; infinite at the picture."""
    if sigma <= 0:
        return math.inf
    sigma = min(sigma, _NEARLY_ONE)
    return math.log((1 - sigma) / sigma)
