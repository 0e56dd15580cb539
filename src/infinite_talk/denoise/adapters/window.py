"""What an adapter puts on the passes of one window."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch

from infinite_talk.denoise.denoiser import Question
from infinite_talk.models.dit.extras import Extras

PLAIN = Extras()
"""Nothing is put on the pass."""


class WindowExtras(Protocol):
    """A source of ``Extras`` for one window, or for some of its latent frames."""

    def extras(self, latent: torch.Tensor, question: Question, steps: int) -> Extras:
        """For one question about the noisy ``latent`` ``(16, T, h, w)``, at step ``question.step`` of ``steps``."""
        ...

    def at(self, places: Sequence[int]) -> WindowExtras:
        """The source for the latent frames ``places`` of the window, in this order."""
        ...


class Nothing:
    """Of an adapter that is turned off."""

    def extras(self, latent: torch.Tensor, question: Question, steps: int) -> Extras:  # noqa: ARG002
        return PLAIN

    def at(self, places: Sequence[int]) -> Nothing:  # noqa: ARG002
        return self


NOTHING = Nothing()
