"""How much memory and time a run will take, roughly: counted from the model's sizes before it is loaded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from infinite_talk.types import Size, latent_frames

PROCESS_BYTES = 0.7e9
"""Python, torch and transformers before any weight is read (measured: 0.55 to 0.75 GB resident)."""
MATRIX_SHARE, CONVOLUTION_SHARE = 0.4, 0.5
"""Share of the speed of one large matrix product that the transformer and the codec reach."""
CODEC_FRAMES = 4
"""Frames that the codec has in memory at a time."""


@dataclass(frozen=True, slots=True)
class Speed:
    """What the machine does: operations per second of a large matrix product, and bytes per weight."""

    flops: float
    weight_bytes: int  # 4 for fp32, 2 for bf16 and fp16


@dataclass(frozen=True, slots=True)
class Estimate:
    """Rough by a factor of two either way."""

    memory: float  # bytes of the device that runs the models, in all
    seconds: float


def estimate(
    configs: Mapping[str, Mapping[str, Any]],
    size: Size,
    window_frames: int,
    windows: int,
    passes: int,
    speed: Speed,
) -> Estimate:
    """Estimate a run.

    Args:
        configs: sizes of ``"transformer"`` and ``"vae"`` as in ``model.json``.
        passes: of the transformer, over all windows.
    """
    height, width = size.latent
    tokens = latent_frames(window_frames) * (height // 2) * (width // 2)
    transformer, codec = configs["transformer"], configs["vae"]
    drawing = passes * pass_flops(transformer, tokens) / MATRIX_SHARE
    developing = (
        windows * window_frames * 1.2 * frame_flops(codec, size) / CONVOLUTION_SHARE
    )  # 0.2 for encoding
    memory = PROCESS_BYTES + speed.weight_bytes * weights(transformer)
    memory += tokens * (10 * transformer["dim"] + 2 * transformer["ffn_dim"]) * speed.weight_bytes
    memory += CODEC_FRAMES * 10 * codec["dim"] * pixels(codec, size) * 4  # about ten maps of the widest level
    return Estimate(memory, (drawing + developing) / speed.flops)


def weights(config: Mapping[str, Any]) -> float:
    """Parameters of the transformer's blocks; the rest is small beside them."""
    dim = config["dim"]
    return float(
        config["num_layers"]
        * (10 * dim**2 + 2 * dim * config["ffn_dim"] + 2 * dim * config.get("output_dim", 768))
    )


def pass_flops(config: Mapping[str, Any], tokens: int) -> float:
    """Operations of one pass: matrices of 8 D^2 + 2 D F weights for each token, and attention to all tokens.

    Keys and values of text, image and speech do not count: they are computed once.
    """
    dim, layers = config["dim"], config["num_layers"]
    context = config.get("text_len", 512) + config.get("clip_tokens", 257)
    matrices = 2 * tokens * (8 * dim**2 + 2 * dim * config["ffn_dim"])
    attention = 4 * tokens * (tokens + context) * dim
    return float(layers * (matrices + attention))


def frame_flops(config: Mapping[str, Any], size: Size) -> float:
    """Operations of decoding one frame: 3 x 3 x 3 convolutions, two in a block, finest level first."""
    total, halvings = 0.0, 0
    for level, factor in enumerate(config["dim_mult"]):
        channels = config["dim"] * factor
        convolutions = 2 * (config["num_res_blocks"] + 1)
        voxels = pixels(config, size) / 4**level / 2**halvings
        total += voxels * convolutions * 2 * 27 * channels**2
        if level < len(config["temporal_downsample"]):
            halvings += config["temporal_downsample"][level]
    return total


def pixels(config: Mapping[str, Any], size: Size) -> float:
    """Positions of the codec's finest level."""
    return float(size.height * size.width / config.get("patch", 1) ** 2)
