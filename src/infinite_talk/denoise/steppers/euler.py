"""The first-order solver of the InfiniteTalk reference."""

from __future__ import annotations

import torch

from infinite_talk.denoise.times import NOISE_TIME


class Euler:
    """Walks straight along the velocity.

    The model predicts ``noise - picture``, so going towards the picture subtracts it.
    """

    def __init__(self, times: torch.Tensor) -> None:
        """``times``: ``(steps + 1,)`` falling from 1000 to 0, see ``times.timesteps``."""
        # Plain floats: a tensor on the device would be fine too, but these never make the device wait.
        self._widths: list[float] = ((times[:-1] - times[1:]) / NOISE_TIME).tolist()

    def step(self, latent: torch.Tensor, velocity: torch.Tensor, step: int) -> torch.Tensor:
        return latent - velocity * self._widths[step]
