"""UniPC (arXiv 2302.04867): a predictor, and a corrector that uses the next step's own prediction; order 2, ``B(h) =
exp(h) - 1`` ("bh2"), on the predicted picture. Same update as diffusers' ``UniPCMultistepScheduler``.
"""

from __future__ import annotations

import math

import torch

from infinite_talk.denoise.steppers.walk import Walk, log_snr


class UniPC:
    """In each step: correct the latent that the step before predicted, then predict the next.

    The first and the last prediction are of order 1 (the history is short; the picture is near).
    """

    def __init__(self, walk: Walk) -> None:
        self._sigmas = walk.sigmas
        self._logs = [log_snr(sigma) for sigma in walk.sigmas]
        self._steps = walk.steps
        self._pictures: list[torch.Tensor] = []  # predicted at the two steps before, oldest first
        self._departed: torch.Tensor | None = None  # the latent from which the step before was predicted
        self._order = 1  # of the prediction of the step before

    def step(self, latent: torch.Tensor, velocity: torch.Tensor, step: int) -> torch.Tensor:
        picture = latent - self._sigmas[step] * velocity
        if self._departed is not None:
            latent = self._corrected(self._departed, picture, step)
        self._pictures = [*self._pictures[-1:], picture]
        self._order = min(2, self._steps - step, len(self._pictures))
        self._departed = latent
        return self._predicted(latent, step)

    def _predicted(self, latent: torch.Tensor, step: int) -> torch.Tensor:
        """``x' = (s' / s) x + (1 - s') (1 - exp(-h)) (m0 + (m1 - m0) / (2 r))``, ``r = (l1 - l0) / h``."""
        picture = self._pictures[-1]
        if self._order == 2:
            slope = (self._pictures[0] - picture) / self._ratio(step, step + 1)
            picture = picture + slope / 2
        return self._carried(latent, picture, step, step + 1)

    def _corrected(self, departed: torch.Tensor, picture: torch.Tensor, step: int) -> torch.Tensor:
        """The latent of this step once more, now that the picture at this step is known too.

        As the predictor, with ``a (m1 - m0) / r + b (picture - m0)`` for the slope; ``a`` and ``b`` make it exact for
        a picture that is quadratic in ``l`` (order 2), or are 0 and 1/2 (order 1).
        """
        before = self._pictures[-1]
        if self._order == 1:
            return self._carried(departed, before + (picture - before) / 2, step - 1, step)
        width, ratio = self._logs[step] - self._logs[step - 1], self._ratio(step - 1, step)
        whole = math.expm1(-width)
        first = whole / -width - 1
        second = first / -width - 1 / 2
        a = (first - 2 * second) / whole / (1 - ratio)
        b = first / whole - a
        slope = (self._pictures[0] - before) * (a / ratio) + (picture - before) * b
        return self._carried(departed, before + slope, step - 1, step)

    def _ratio(self, start: int, end: int) -> float:
        return (self._logs[start - 1] - self._logs[start]) / (self._logs[end] - self._logs[start])

    def _carried(self, latent: torch.Tensor, picture: torch.Tensor, start: int, end: int) -> torch.Tensor:
        """The exact walk from one level to another towards a fixed picture."""
        level, following = self._sigmas[start], self._sigmas[end]
        width = self._logs[end] - self._logs[start]
        return (following / level) * latent - (1 - following) * math.expm1(-width) * picture
