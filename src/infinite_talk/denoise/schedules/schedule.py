"""``Schedule``: what a choice of scheduler comes to: the times of a window, and the solver that walks them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from infinite_talk.denoise.steppers import StepNoise, Stepper


@dataclass(frozen=True, slots=True, eq=False)
class Schedule:
    """The ``n`` steps that a window takes, after all cuts; the same for every window of a run."""

    name: str
    sigmas: torch.Tensor  # (n + 1,) float64, CPU, 0..1: share of noise before each step, and after the last
    times: torch.Tensor  # (n,) float32, CPU, 0..1000: what the model is asked at
    solver: Callable[[StepNoise], Stepper]
    """The solver of one window, from the window's step noise (``noise.step_noise``); deterministic ones never ask."""
    notes: tuple[str, ...] = ()
    """One line for each thing that was chosen and has no effect, or another one than it seems."""
    first: int = 0
    """How many steps of the whole schedule were cut off before the first of these."""
    noise_scale: float = 1.0
    """Factor of the noise that a window starts from."""
    by_frame: bool = False
    """Whether known latent frames are asked at a time of their own (``frame_times.py``)."""

    @property
    def steps(self) -> int:
        return len(self.times)
