"""What an adapter puts on the passes of one window."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch

from infinite_talk.denoise.denoiser import Question
from infinite_talk.denoise.extras import NOTHING, ExtrasSource
from infinite_talk.errors import CheckpointError
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


def check_width(adapter: str, width: int, patches: torch.Tensor) -> None:
    """Compare an adapter with the patch embedding ``(D, ...)`` of the transformer.

    Raises:
        CheckpointError: it is for another one.
    """
    if width != patches.shape[0]:
        raise CheckpointError(
            f"{adapter} is for a transformer of width {width}; this one has {patches.shape[0]}. Take the two for the "
            "same model.",
            code="checkpoint_mismatch",
        )
