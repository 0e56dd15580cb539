"""The embedded model as one trainable module: transformer, text tower, image tower; VAE and speech encoder frozen."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import torch
import torch.nn.functional as F
from torch import nn
from transformers import CLIPVisionConfig, CLIPVisionModel, UMT5Config, UMT5EncoderModel

from infinite_talk.models.dit.config import DiTConfig
from infinite_talk.models.dit.model import WanTransformer
from infinite_talk.models.vae.config import VAEConfig
from infinite_talk.models.vae.model import VideoVAE
from infinite_talk.rooms import Rooms
from training import embedded
from training.optim import load

_MEAN = (0.48145466, 0.4578275, 0.40821073)
_STD = (0.26862954, 0.26130258, 0.27577711)


def picture_to_clip(picture: torch.Tensor) -> torch.Tensor:
    """``(N, 3, H, W)`` in [-1, 1] at the image tower's 224 pixels, normalised as CLIP's pictures are."""
    small = F.interpolate(picture.float(), (224, 224), mode="bicubic", align_corners=False)
    mean, std = (small.new_tensor(v).view(1, 3, 1, 1) for v in (_MEAN, _STD))
    return (small * 0.5 + 0.5 - mean) / std


class Towers(nn.Module):
    """Everything of the embedded model that is trained by flow matching."""

    def __init__(self, transformer: WanTransformer, text: UMT5EncoderModel, vision: CLIPVisionModel):
        super().__init__()
        self.transformer, self.text, self.vision = transformer, text, vision

    def forward(
        self, latent: torch.Tensor, timestep: torch.Tensor, text: torch.Tensor, pixels: torch.Tensor,
        speech: torch.Tensor, reference: torch.Tensor,
    ) -> torch.Tensor:  # fmt: skip
        """Velocity ``(N, 16, T, h, w)``.

        Args:
            text: byte tokens ``(N, L)``, 0 is padding; an empty prompt is the end mark alone.
            pixels: CLIP's pixels ``(N, 3, 224, 224)``.
            speech: windows ``(N, 1, F, 5, K, D)``.
            reference: the 16 latent channels of the portrait, without their mask ``(N, 16, T, h, w)``.
        """
        real = (text > 0).long()
        context = self.text(input_ids=text, attention_mask=real).last_hidden_state * real[..., None]
        image = self.vision(pixel_values=pixels, output_hidden_states=True).hidden_states[-2]
        mask = torch.zeros_like(reference[:, :4])
        mask[:, :, 0] = 1
        condition = self.transformer.condition(context, image, speech, None, torch.cat([mask, reference], 1))
        return self.transformer(latent, timestep, condition)


def build_towers(audio_blocks: int, audio_channels: int) -> Towers:
    """Fresh weights; the speech encoder decides how much the transformer hears."""
    sizes = {**embedded.TRANSFORMER, "audio_blocks": audio_blocks, "audio_channels": audio_channels}
    transformer = WanTransformer(DiTConfig.from_json(sizes))
    transformer.init_weights()
    t, v = embedded.TEXT, embedded.VISION
    text = UMT5EncoderModel(
        UMT5Config(
            vocab_size=t["vocab_size"], d_model=t["dim"], d_kv=t["dim_attn"] // t["num_heads"], d_ff=t["dim_ffn"],
            num_layers=t["num_layers"], num_heads=t["num_heads"], relative_attention_num_buckets=t["num_buckets"],
            relative_attention_max_distance=t["max_dist"], feed_forward_proj="gated-gelu", dropout_rate=0.0,
        )
    )  # fmt: skip
    vision = CLIPVisionModel(
        CLIPVisionConfig(
            hidden_size=v["dim"], intermediate_size=v["dim"] * v["mlp_ratio"], num_hidden_layers=v["num_layers"],
            num_attention_heads=v["num_heads"], image_size=v["image_size"], patch_size=v["patch_size"],
            hidden_act="gelu", layer_norm_eps=1e-5, attention_dropout=0.0,
        )
    )  # fmt: skip
    for name, parameter in vision.named_parameters():  # the last block and the final norm are never read
        if f"layers.{v['num_layers'] - 1}." in name or "post_layernorm" in name:
            parameter.requires_grad_(False)
    return Towers(transformer, text, vision)


class _AllButLast(nn.Module):
    """Gives the last state of a tower without its last block as ``hidden_states[-2]``."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, pixel_values: torch.Tensor, output_hidden_states: bool) -> SimpleNamespace:
        assert output_hidden_states
        hidden = self.model(pixel_values=pixel_values).last_hidden_state
        return SimpleNamespace(hidden_states=(hidden, None))


def shipped(rooms: Rooms) -> Towers:
    """The towers of a finished model; its image tower leaves out what is never read."""
    return Towers(rooms.transformer, rooms.text.model, _AllButLast(rooms.vision.model)).eval()


def frozen_vae(weights: Path, report: Path, device: torch.device) -> VideoVAE:
    """The trained VAE with its measured latent statistics."""
    facts = json.loads(report.read_text())
    config = {**embedded.VAE, "mean": facts["latent_mean"], "std": facts["latent_std"]}
    vae = VideoVAE(VAEConfig.from_json(config))
    load(weights, vae)
    return vae.to(device).eval().requires_grad_(False)
