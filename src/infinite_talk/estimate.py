"""What a run will cost, roughly: memory and time, from the sizes of the models and the speed of this
machine.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from time import perf_counter

import torch

from infinite_talk.models.dit import DiTConfig
from infinite_talk.models.vae import VAEConfig
from infinite_talk.rooms import PIXELS_AT_ONCE
from infinite_talk.types import Size, latent_frames
from infinite_talk.weights.manifest import Manifest
from infinite_talk.weights.reader import read_header

PROGRAM = 400e6
"""Bytes of Python, torch and the libraries for media."""
EFFICIENCY = 0.5
"""Share of the speed of a large matrix product that whole models reach."""
COPIES = 6
"""Tensors of the size of the widest one that live at the same time inside a layer."""


@dataclass(frozen=True, slots=True)
class Shape:
    """What is asked of the models."""

    size: Size
    frames: int  # of a window
    windows: int
    passes: int  # of the transformer, per window
    branches: int
    people: int

    @property
    def pixels(self) -> int:
        """Of the video of one window."""
        return self.frames * self.size.height * self.size.width


@dataclass(frozen=True, slots=True)
class Cost:
    """Rough: right within a factor of two where it was tried."""

    memory: float  # bytes at the peak
    seconds: float


def estimate(shape: Shape, manifest: Manifest, device: torch.device, dtype: torch.dtype) -> Cost:
    """Memory and time of a run."""
    transformer = DiTConfig.from_json(manifest.parts["transformer"].config)
    codec = VAEConfig.from_json(manifest.parts["vae"].config)
    tokens = latent_frames(shape.frames) * prod(shape.size.latent) // prod(transformer.patch_size)
    attended = transformer.text_len + transformer.clip_tokens
    attended += latent_frames(shape.frames) * shape.people * transformer.context_tokens
    kept = shape.branches * transformer.num_layers * 2 * attended * transformer.dim * dtype.itemsize
    widest = tokens * max(transformer.ffn_dim, 4 * transformer.dim) * dtype.itemsize
    coded = min(shape.pixels, PIXELS_AT_ONCE) // codec.patch**2 * codec.dim * 4
    frames = 4 * 3 * 4 * shape.pixels
    memory = PROGRAM + weight_bytes(manifest, dtype) + kept + COPIES * max(widest, coded) + frames
    work = shape.passes * pass_work(transformer, tokens, attended) + 2 * codec_work(codec, shape.pixels)
    return Cost(memory, shape.windows * work / (EFFICIENCY * matrix_speed(device, dtype)))


def weight_bytes(manifest: Manifest, dtype: torch.dtype) -> float:
    """Bytes of all weights when loaded: the transformer in ``dtype``, the rest in float32."""
    return float(
        sum(
            sum(prod(shape) for shape in read_header(manifest.path(part.file)).shapes.values())
            * (dtype.itemsize if name == "transformer" else 4)
            for name, part in manifest.parts.items()
        )
    )


def pass_work(config: DiTConfig, tokens: int, attended: int) -> float:
    """Floating-point operations of one forward pass: two per weight and token, and the attentions."""
    # Four matrices of the self-attention, two each of the attentions to context and speech, the feed-forward.
    weights = 8 * config.dim**2 + 2 * config.dim * config.ffn_dim
    attention = 4 * config.dim * (tokens + attended)
    return float(config.num_layers * tokens * (2 * weights + attention))


def codec_work(config: VAEConfig, pixels: int) -> float:
    """Floating-point operations of decoding: convolutions of 27 taps; each level has 1/4 of the pixels."""
    convolutions = 2 * (config.num_res_blocks + 1)
    levels: float = sum(factor**2 / 4**level for level, factor in enumerate(config.dim_mult))
    return 2 * 27 * config.dim**2 * convolutions * levels * pixels / config.patch**2


def matrix_speed(device: torch.device, dtype: torch.dtype) -> float:
    """Floating-point operations per second of a matrix product on this device, measured in some
    milliseconds.
    """
    side = 4096 if device.type == "cuda" else 512
    matrix = torch.ones(side, side, device=device, dtype=dtype)
    best = float("inf")
    for _ in range(4):  # the first one warms up
        began = perf_counter()
        float((matrix @ matrix)[0, 0])  # reading a value waits for the device
        best = min(best, perf_counter() - began)
    return 2 * side**3 / best
