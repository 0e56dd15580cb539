"""A complete model folder with random weights of a few thousand parameters."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from infinite_talk.models.keymap import KeyMap
from infinite_talk.presets import Defaults
from infinite_talk.weights.bundle import KINDS, Store, Trained, save_bundle

CONFIGS = {
    "transformer": {
        "dim": 24,
        "ffn_dim": 32,
        "freq_dim": 16,
        "num_heads": 2,
        "num_layers": 1,
        "text_dim": 8,
        "text_len": 12,
        "clip_dim": 8,
        "clip_tokens": 5,
        "audio_blocks": 2,
        "audio_channels": 8,
        "intermediate_dim": 8,
        "context_tokens": 2,
        "output_dim": 8,
    },
    "vae": {
        "dim": 4,
        "z_dim": 16,
        "dim_mult": [1, 1, 1, 1],
        "num_res_blocks": 1,
        "temporal_downsample": [False, True, True],
    },
    "text": {
        "vocab_size": 384,
        "dim": 8,
        "dim_attn": 8,
        "dim_ffn": 16,
        "num_heads": 2,
        "num_layers": 1,
        "text_len": 12,
    },
    "vision": {"dim": 8, "num_heads": 2, "num_layers": 2, "mlp_ratio": 2, "image_size": 32, "patch_size": 16},
    "speech": {
        "hidden_size": 8,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 16,
        "conv_dim": [8] * 7,
        "num_conv_pos_embeddings": 8,
        "num_conv_pos_embedding_groups": 2,
    },
}
QUICK_VAE = {
    "dim": 4,
    "z_dim": 16,
    "dim_mult": [1, 1, 1],
    "num_res_blocks": 1,
    "temporal_downsample": [True, True],
    "patch": 2,
}
"""A codec that never looks at single pixels, as the embedded model's: a quarter of the work."""
DEFAULTS = Defaults(
    size="64x64!",
    steps=2,
    shift=3.0,
    text_guidance=3.0,
    audio_guidance=2.0,
    window_frames=17,
    motion_frames=5,
    step_cache=(1.0, 0.0),
)


def save_tiny_bundle(folder: Path, store: Store = Store.FP32, **changed: Mapping[str, Any]) -> Path:
    """Write the model into ``folder``, weights kept as ``store``; ``changed`` are other configurations."""
    torch.manual_seed(0)
    configs = {**CONFIGS, **changed}
    parts = {name: Trained(config, published(name, config), store) for name, config in configs.items()}
    save_bundle(folder, name="tiny", version="1", parts=parts, defaults=DEFAULTS)
    return folder


def published(name: str, config: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    """Random weights of one model under published names."""
    kind = KINDS[name]
    config = kind.config(config)
    model = kind.model(config)
    for parameter in model.parameters():
        if parameter.dim() > 1:  # biases, and the gains of norms, stay as they are
            nn.init.normal_(parameter, std=0.2)
    weights = model.state_dict()
    if kind.keys is None:
        return dict(weights)
    names: KeyMap = kind.keys(config, {})
    return names.write(weights)
