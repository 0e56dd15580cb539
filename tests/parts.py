"""The encoders, the codec and the tiny decoder: how each is made, and the sizes of the published and of tiny ones."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from infinite_talk.models.keymap import KeyMap
from infinite_talk.models.speech import SpeechConfig, SpeechEncoder
from infinite_talk.models.speech import keys as speech_keys
from infinite_talk.models.text import TextConfig, TextEncoder
from infinite_talk.models.text import keys as text_keys
from infinite_talk.models.tiny_vae import TinyVAE, TinyVAEConfig
from infinite_talk.models.tiny_vae import keys as tiny_keys
from infinite_talk.models.vae import VAEConfig, VideoVAE
from infinite_talk.models.vae import keys as vae_keys
from infinite_talk.models.vision import ImageEncoder, VisionConfig
from infinite_talk.models.vision import keys as vision_keys
from infinite_talk.ops.linear import Packed
from infinite_talk.ops.linear.scaled import Scaled


@dataclass(frozen=True, slots=True)
class Part:
    """One part of a model: its class and names, the published sizes and tiny ones of the same kind."""

    model: Callable[[Any], nn.Module]
    keys: ModuleType
    full: Any
    tiny: Any
    manifest: str | None = None  # the recorded list of names and shapes of the official file


WAN_VAE = {"dim": 96, "z_dim": 16, "dim_mult": [1, 2, 4, 4], "num_res_blocks": 2}
STEPS = {"temporal_downsample": [False, True, True]}

PARTS = {
    "text": Part(
        TextEncoder,
        text_keys,
        TextConfig(vocab_size=256384, dim=4096, dim_attn=4096, dim_ffn=10240, num_heads=64, num_layers=24),
        TextConfig(vocab_size=45, dim=32, dim_attn=32, dim_ffn=64, num_heads=2, num_layers=2, text_len=512),
        "umt5_xxl_encoder",
    ),
    "vision": Part(
        ImageEncoder,
        vision_keys,
        VisionConfig(),
        VisionConfig(
            dim=80, num_heads=1, num_layers=3, used_layers=2, mlp_ratio=2, image_size=16, patch_size=8
        ),
        "clip_vit_h_xlm_roberta",
    ),
    "vae": Part(
        VideoVAE,
        vae_keys,
        VAEConfig.from_json(WAN_VAE | STEPS),
        VAEConfig.from_json({**WAN_VAE, "dim": 4, "dim_mult": [1, 1, 2, 2], "num_res_blocks": 1} | STEPS),
        "wan_vae",
    ),
    "tiny_vae": Part(TinyVAE, tiny_keys, TinyVAEConfig(), TinyVAEConfig(widths=(8, 6, 4, 4))),
    "speech": Part(
        SpeechEncoder,
        speech_keys,
        SpeechConfig(),
        SpeechConfig(
            hidden_size=64,
            num_hidden_layers=2,
            num_attention_heads=1,
            intermediate_size=32,
            conv_dim=(8,) * 7,
            num_conv_pos_embeddings=8,
            num_conv_pos_embedding_groups=2,
        ),
        "wav2vec2_base",
    ),
}


def on_meta(part: Part, config: object) -> dict[str, Tensor]:
    """The state of a model of these sizes, without memory."""
    with torch.device("meta"):
        return part.model(config).state_dict()


def random_weights(part: Part, seed: int = 0) -> dict[str, Tensor]:
    """Weights of a tiny model that differ from one another."""
    generator = torch.Generator().manual_seed(seed)
    made = {}
    for name, tensor in on_meta(part, part.tiny).items():
        noise = torch.randn(tensor.shape, generator=generator)
        gain = name.endswith(("norm.weight", "norm1.weight", "norm2.weight", "gamma", "original0"))
        made[name] = 1 + 0.1 * noise if gain else 0.2 * noise
    return made


def packed(weights: dict[str, Tensor], kind: Scaled) -> dict[str, Tensor | Packed]:
    """Matrices of the layers and the embedding in 8 bits, as in files."""
    return {
        name: Packed(kind, (tensor.shape[0], tensor.shape[1]), kind.pack(tensor))
        if tensor.dim() == 2 and "relative" not in name
        else tensor
        for name, tensor in weights.items()
    }


def surplus(mapping: KeyMap) -> dict[str, Tensor]:
    """One tensor for each beginning of a name that a dialect passes over."""
    return {
        beginning + ("more.weight" if beginning.endswith(".") else ""): torch.zeros(3)
        for beginning in mapping.ignored
    }
