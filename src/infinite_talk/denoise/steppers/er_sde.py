"""ER-SDE-Solver-3 (arXiv 2309.06169): the extended reverse-time SDE, third order, with the authors' noise scale.

Written in ``l = s / (1 - s)``, so that signal and noise have the right shares at every level. The node pack puts the
level itself there, with which the latent ends up with more signal than its level says; that is not followed.
"""

from __future__ import annotations

import math

import torch

from infinite_talk.denoise.steppers.walk import Walk

_LARGEST = 1 - 1e-4
"""Highest level that is put into ``l``, which is infinite for pure noise; above it the latent stays as it is."""
_POINTS = 200
"""Points of the numerical integrals, as in the authors' program."""


class ErSde:
    """``x' = a' (r x / a + (1 - r) m0 + (d + f S0) m' + (d^2 / 2 + f S1) m'' + sqrt(l'^2 - (l r)^2) noise)``.

    ``a = 1 - s``, ``f = scale(l')``, ``r = f / scale(l)``, ``d = l' - l``; ``S0`` and ``S1`` are the integrals of ``1 /
    scale`` and ``(u - l) / scale`` from ``l'`` to ``l``; ``m'`` and ``m''`` are divided differences of the predicted
    pictures, each used as soon as there is one. The last step takes the picture.
    """

    def __init__(self, walk: Walk) -> None:
        self._walk = walk
        self._levels = [min(sigma, _LARGEST) / (1 - min(sigma, _LARGEST)) for sigma in walk.sigmas]
        self._picture: torch.Tensor | None = None
        self._slope: torch.Tensor | None = None

    def step(self, latent: torch.Tensor, velocity: torch.Tensor, step: int) -> torch.Tensor:
        picture = latent - self._walk.sigmas[step] * velocity
        slope, curve = self._differences(picture, step)
        self._picture, self._slope = picture, slope
        now, end = self._levels[step], self._levels[step + 1]
        if end == 0:
            return picture
        ratio = _scale(end) / _scale(now)
        signal = 1 / (1 + end)
        aim = (1 - ratio) * picture
        if slope is not None:
            aim = aim + (end - now + _scale(end) * _integral(end, now, power=0)) * slope
        if curve is not None:
            aim = aim + ((end - now) ** 2 / 2 + _scale(end) * _integral(end, now, power=1)) * curve
        fresh = math.sqrt(max(end**2 - (now * ratio) ** 2, 0.0)) * self._walk.noise_like(latent, step)
        return signal * ((1 + now) * ratio * latent + aim + fresh)

    def _differences(
        self, picture: torch.Tensor, step: int
    ) -> tuple[torch.Tensor | None, torch.Tensor | None]:
        """First and second derivative of the predicted picture by ``l``, as far as the history goes."""
        if self._picture is None or self._levels[step] == self._levels[step - 1]:
            return None, None
        slope = (picture - self._picture) / (self._levels[step] - self._levels[step - 1])
        if self._slope is None:
            return slope, None
        return slope, (slope - self._slope) * (2 / (self._levels[step] - self._levels[step - 2]))


def _scale(level: float) -> float:
    """The authors' noise scale ("ER-SDE 5")."""
    return level * (math.exp(level**0.3) + 10)


def _integral(start: float, end: float, power: int) -> float:
    """Of ``(u - end)^power / scale(u)`` over ``start..end``, by left sums."""
    width = (end - start) / _POINTS
    points = [start + index * width for index in range(_POINTS)]
    return width * sum((point - end) ** power / _scale(point) for point in points)
