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
from infinite_talk.types import TEMPORAL_STRIDE

M = TypeVar("M", bound=nn.Module)

PIXELS_AT_ONCE = 4 * 832 * 480
"""The codec takes so many pixels of video at a time: one latent frame of the largest official 480 bucket. Its
widest layers hold hundreds of bytes per pixel, so a whole window at once would take tens of gigabytes."""


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

    @torch.inference_mode()
    def encode_video(self, video: torch.Tensor) -> torch.Tensor:
        """Frames ``(3, F, H, W)`` in [-1, 1] as a normalised latent ``(16, T, h, w)``, float32."""
        video = video[None].to(self.device, torch.float32)
        with self.using(self.vae) as vae:
            if video[0, 0].numel() <= PIXELS_AT_ONCE:
                return vae.encode(video)[0]
            return torch.cat(list(vae.encode_chunks(video)), dim=2)[0]

    @torch.inference_mode()
    def decode_video(self, latent: torch.Tensor) -> torch.Tensor:
        """The inverse: frames ``(3, F, H, W)`` in [-1, 1], float32."""
        stride = TEMPORAL_STRIDE * self.vae.config.spatial_stride**2
        latents_at_once = max(1, PIXELS_AT_ONCE // (stride * latent[0, 0].numel()))
        with self.using(self.vae) as vae:
            return torch.cat(list(vae.decode_chunks(latent[None], latents_at_once)), dim=2)[0]
