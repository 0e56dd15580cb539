"""Adams-Bashforth solvers: the velocity of a step is extrapolated from those of the steps before.

The coefficients are those of even steps, also where the grid is not even, as the schedulers of these names have it.
"""

from __future__ import annotations

import torch

from infinite_talk.denoise.steppers.walk import Walk

_COEFFICIENTS = {1: (1.0,), 2: (3 / 2, -1 / 2), 3: (23 / 12, -16 / 12, 5 / 12)}
"""By order, newest velocity first."""


class AdamsBashforth:
    """Of order 2; the first step is Euler's."""

    def __init__(self, walk: Walk) -> None:
        self._walk = walk
        self._velocities: list[torch.Tensor] = []  # newest first

    def step(self, latent: torch.Tensor, velocity: torch.Tensor, step: int) -> torch.Tensor:
        walked = self._extrapolated(velocity, order=2)
        return latent + (self._walk.sigmas[step + 1] - self._walk.sigmas[step]) * walked

    def _extrapolated(self, velocity: torch.Tensor, order: int) -> torch.Tensor:
        self._velocities = [velocity, *self._velocities[:2]]
        factors = _COEFFICIENTS[min(order, len(self._velocities))]
        terms = zip(factors, self._velocities, strict=False)
        return torch.stack([factor * one for factor, one in terms]).sum(0)


_SHORT = 8
"""Schedules up to this many steps are walked in order 2, without smoothing and damping."""
_LATE = 0.15
"""Below this noise level the velocity is smoothed and the steps are damped."""
_EARLY = 0.7
"""Above this noise level the order is 2."""
_KEPT = 0.8
"""Share of the former smoothed velocity."""


class StableAdams(AdamsBashforth):
    """``sa_ode_stable``: order 2, or 2, 3 and 2 again by noise level in more than 8 steps.

    There, below the level 0.15, a velocity is 0.8 of the one before and 0.2 of its own, and a step is shorter by ``(1 +
    s / 0.15) / 2``. What damping left over is walked in the last step, so that the latent arrives at its level; the
    node pack leaves that noise in the picture.
    """

    def __init__(self, walk: Walk) -> None:
        super().__init__(walk)
        self._reached = walk.sigmas[0]
        self._smoothed: torch.Tensor | None = None

    def step(self, latent: torch.Tensor, velocity: torch.Tensor, step: int) -> torch.Tensor:
        level, following = self._walk.sigmas[step], self._walk.sigmas[step + 1]
        late = self._walk.whole > _SHORT and level < _LATE
        middle = self._walk.whole > _SHORT and _LATE < level <= _EARLY
        velocity = self._extrapolated(velocity, order=3 if middle else 2)
        if late and self._smoothed is not None:
            velocity = _KEPT * self._smoothed + (1 - _KEPT) * velocity
        self._smoothed = velocity
        width = (following - level) * ((1 + level / _LATE) / 2 if late else 1.0)
        if step == self._walk.steps - 1:
            width = following - self._reached
        self._reached += width
        return latent + width * velocity
