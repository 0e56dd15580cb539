"""Solvers of the flow: given the velocity at one time, where is the latent at the next?"""

from __future__ import annotations

from typing import Protocol

import torch

from infinite_talk.denoise.steppers.euler import Euler


class Stepper(Protocol):
    """A solver for one window; a multi-step solver keeps its history in the object."""

    def step(self, latent: torch.Tensor, velocity: torch.Tensor, step: int) -> torch.Tensor:
        """The latent at the time after ``step``, from the latent and the velocity at its time."""
        ...


__all__ = ["Euler", "Stepper"]
