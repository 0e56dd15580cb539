"""What is known of a latent is written over it before the first step and after each one.

Motion frames of the window before (clean for InfiniteTalk, with the step's noise for MultiTalk), latents that are
given (``Pinned``), and the part of a video that a mask leaves alone (``Unmasked``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch


class Keep(Protocol):
    """Something that is known of a latent."""

    def __call__(self, latent: torch.Tensor, step: int, sigma: float) -> torch.Tensor:
        """The latent ``(16, T, h, w)`` with what is known written over it.

        Args:
            step: the step that has made it, from 0; -1 is the start.
            sigma: its share of noise, 0..1.
        """
        ...


@dataclass(frozen=True, slots=True, eq=False)
class Motion:
    """The first latents are clean at all times: the motion frames of InfiniteTalk."""

    known: torch.Tensor  # (16, m, h, w)

    def __call__(self, latent: torch.Tensor, step: int, sigma: float) -> torch.Tensor:  # noqa: ARG002
        return torch.cat([self.known, latent[:, self.known.shape[1] :]], dim=1)


@dataclass(frozen=True, slots=True, eq=False)
class NoisedMotion:
    """The first latents have as much noise as the rest: the motion frames of MultiTalk after the first window.

    The same noise at each step, so that they walk straight: ``(1 - sigma) known + sigma noise``. The MultiTalk
    program draws another one each time.
    """

    known: torch.Tensor  # (16, m, h, w)
    noise: torch.Tensor  # (16, m or more, h, w)

    def __call__(self, latent: torch.Tensor, step: int, sigma: float) -> torch.Tensor:  # noqa: ARG002
        frames = self.known.shape[1]
        noise = self.noise[:, :frames].to(self.known.device)
        return torch.cat([noised(self.known, noise, sigma), latent[:, frames:]], dim=1)


@dataclass(frozen=True, slots=True, eq=False)
class Pinned:
    """Latents that are given, from some latent frame on: clean at all times, or with a share of the noise (Pusa)."""

    known: torch.Tensor  # (16, n, h, w)
    first: int
    """Their first latent frame; negative: counted from the end."""
    multiplier: float = 0.0
    """Of the noise of the moment so much is added, the same noise in each step; 0 is clean."""
    noisy_steps: int | None = None
    """In how many of the first steps; ``None``: all."""
    noise: torch.Tensor | None = None  # (16, T, h, w): has to be there for a multiplier

    def __call__(self, latent: torch.Tensor, step: int, sigma: float) -> torch.Tensor:
        places, known = self.places(latent.shape[1]), self.known
        known = known[:, : len(places)]
        if factor := self.factor(step + 1):
            assert self.noise is not None, "given with the multiplier"
            some = self.noise[:, places.start : places.stop].to(known)
            known = noised(known, some, min(1.0, factor * sigma))
        return torch.cat([latent[:, : places.start], known, latent[:, places.stop :]], dim=1)

    def places(self, frames: int) -> range:
        """Which latent frames of a window of so many they are."""
        first = self.first % frames
        return range(first, min(frames, first + self.known.shape[1]))

    def factor(self, step: int) -> float:
        """The multiplier as it is in a step."""
        return self.multiplier if self.noisy_steps is None or step < self.noisy_steps else 0.0


@dataclass(frozen=True, slots=True, eq=False)
class Unmasked:
    """Differential diffusion (Levin & Fried, 2023): where the mask is low, the video comes back for longer.

    After step ``i`` of ``n`` the original, with the noise of that moment, is written wherever ``1 - mask > i / n``:
    where the mask is 0 until the end, where it is 1 never.
    """

    original: torch.Tensor  # (16, T, h, w)
    noise: torch.Tensor  # (16, T, h, w): of the walk's start
    mask: torch.Tensor  # (1, T or 1, h, w) in 0..1: how much may change
    steps: int

    def __call__(self, latent: torch.Tensor, step: int, sigma: float) -> torch.Tensor:
        if step < 0:
            return latent
        stays = 1 - self.mask > step / self.steps
        return torch.where(stays, noised(self.original, self.noise, sigma), latent)


@dataclass(frozen=True, slots=True, eq=False)
class All:
    """Several of them, one after the other; the last has the last word."""

    several: Sequence[Keep]

    def __call__(self, latent: torch.Tensor, step: int, sigma: float) -> torch.Tensor:
        for keep in self.several:
            latent = keep(latent, step, sigma)
        return latent


def nothing(latent: torch.Tensor, step: int, sigma: float) -> torch.Tensor:  # noqa: ARG001
    """Nothing is known: for windows that no other one precedes, and no picture is held in."""
    return latent


def noised(clean: torch.Tensor, noise: torch.Tensor, sigma: float) -> torch.Tensor:
    """``(1 - sigma) clean + sigma noise``: a latent on its straight way between noise (1) and picture (0)."""
    return (1 - sigma) * clean + sigma * noise
