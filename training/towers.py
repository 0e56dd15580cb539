"""The embedded model as one trainable module: transformer, text tower, image tower; VAE and speech encoder frozen."""

from __future__ import annotations

import json
from pathlib import Path

import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn

from infinite_talk.models.dit.config import DiTConfig
from infinite_talk.models.dit.model import WanTransformer
from infinite_talk.models.speech.config import SpeechConfig
from infinite_talk.models.speech.model import SpeechEncoder
from infinite_talk.models.text.config import TextConfig
from infinite_talk.models.text.model import TextEncoder
from infinite_talk.models.vae.config import VAEConfig
from infinite_talk.models.vae.model import VideoVAE
from infinite_talk.models.vision.config import VisionConfig
from infinite_talk.models.vision.model import ImageEncoder
from training import embedded
from training.optim import load


def picture_to_clip(picture: torch.Tensor) -> torch.Tensor:
    """``(N, 3, H, W)`` in [-1, 1] at the image tower's 224 pixels, as the program resizes it."""
    return F.interpolate(picture, (224, 224), mode="bicubic", align_corners=False)


class Towers(nn.Module):
    """Everything of the embedded model that is trained by flow matching."""

    def __init__(self, transformer: WanTransformer, text: TextEncoder, vision: ImageEncoder):
        super().__init__()
        self.transformer, self.text, self.vision = transformer, text, vision

    def forward(
        self, latent: torch.Tensor, timestep: torch.Tensor, text: torch.Tensor, picture: torch.Tensor,
        speech: torch.Tensor, reference: torch.Tensor,
    ) -> torch.Tensor:  # fmt: skip
        """Velocity ``(N, 16, T, h, w)``; ``reference`` holds the 16 latent channels without their mask."""
        lengths = (text > 0).long()
        lengths[:, 0] = 1
        context = self.text.hidden(text, lengths) * lengths[..., None]
        image = self.vision(picture)
        mask = torch.zeros_like(reference[:, :4])
        mask[:, :, 0] = 1
        condition = self.transformer.condition(context, image, speech, None, torch.cat([mask, reference], 1))
        return self.transformer(latent, timestep, condition)


def build_towers(audio_blocks: int, audio_channels: int) -> Towers:
    transformer = WanTransformer(
        DiTConfig.from_json(
            {**embedded.TRANSFORMER, "audio_blocks": audio_blocks, "audio_channels": audio_channels}
        )
    )
    transformer.init_weights()
    return Towers(
        transformer,
        TextEncoder(TextConfig.from_json(embedded.TEXT)),
        ImageEncoder(VisionConfig.from_json(embedded.VISION)),
    )


def frozen_vae(weights: Path, report: Path, device: torch.device) -> VideoVAE:
    """The trained VAE with its measured latent statistics."""
    facts = json.loads(report.read_text())
    config = {**embedded.VAE, "mean": facts["latent_mean"], "std": facts["latent_std"]}
    vae = VideoVAE(VAEConfig.from_json(config))
    load(weights, vae)
    return vae.to(device).eval().requires_grad_(False)


def load_speech(weights: Path) -> SpeechEncoder:
    """The trained speech encoder; its sizes lie beside the weights."""
    config = SpeechConfig.from_json(json.loads(weights.with_name("config.json").read_text()))
    encoder = SpeechEncoder(config)
    load(weights, encoder)
    return encoder.requires_grad_(False)
