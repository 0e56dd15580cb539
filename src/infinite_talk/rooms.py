"""``Rooms``: the five models of one checkpoint, built once and shared by all runs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import nn

from infinite_talk.models.dit import WanTransformer
from infinite_talk.models.speech import SpeechEncoder
from infinite_talk.models.text import TextEncoder
from infinite_talk.models.vae import VideoVAE
from infinite_talk.models.vision import ImageEncoder
from infinite_talk.presets import Defaults


M = TypeVar("M", bound=nn.Module)


@dataclass(frozen=True, slots=True, eq=False)
class Rooms:
    """Models in evaluation mode on ``device``, and what they want by default."""

    transformer: WanTransformer
    vae: VideoVAE
    text: TextEncoder
    vision: ImageEncoder
    speech: SpeechEncoder
    defaults: Defaults
    device: torch.device
    dtype: torch.dtype  # of the transformer; the other models keep what suits them
    name: str = "unnamed"
    version: str = "0"

    @contextmanager
    def using(self, model: M) -> Iterator[M]:
        """Have ``model`` on the device for as long as the block lasts. Everything stays loaded here."""
        yield model
