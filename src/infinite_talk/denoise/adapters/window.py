"""What an adapter puts on the passes of one window."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch

from infinite_talk.denoise.denoiser import Question
from infinite_talk.denoise.extras import NOTHING, ExtrasSource
from infinite_talk.models.dit.extras import Extras


class WindowExtras(ExtrasSource, Protocol):
    """A source of extras for one window, or for some of its latent frames."""

    def at(self, places: Sequence[int]) -> WindowExtras:
        """The source for the latent frames ``places`` of the window, in this order."""
        ...


class Nothing:
    """Of an adapter that is turned off."""

    def extras(self, latent: torch.Tensor, question: Question, steps: int) -> Extras:  # noqa: ARG002
        return NOTHING

    def forget(self) -> None:
        pass

    def at(self, places: Sequence[int]) -> Nothing:  # noqa: ARG002
        return self


OFF = Nothing()
