"""``ModelSizes``: bytes of a model's weights by part, from shapes and the form in which each is kept."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from math import prod
from typing import cast

import torch

from infinite_talk.models.dit import DiTConfig, WanTransformer
from infinite_talk.models.vae import VAEConfig, VideoVAE
from infinite_talk.ops.linear import Format

Shape = tuple[int, ...]

GGUF: Mapping[str, tuple[int, int]] = {
    "Q2_K": (256, 84),
    "Q3_K": (256, 110),
    "Q4_0": (32, 18),
    "Q4_1": (32, 20),
    "Q4_K": (256, 144),
    "Q5_0": (32, 22),
    "Q5_1": (32, 24),
    "Q5_K": (256, 176),
    "Q6_K": (256, 210),
    "Q8_0": (32, 34),
    "F16": (1, 2),
    "BF16": (1, 2),
}
"""Types of GGUF: numbers of a block, and its bytes with scales (ggml)."""


@dataclass(frozen=True, slots=True)
class Encoder:
    """One of the small models that run once per video or window."""

    weights: float  # bytes
    work: float  # bytes on top while it runs
    flops: float = 0.0  # of one run: a text, a picture, a second of speech
    layers: int = 0  # that can be streamed
    layer: float = 0.0  # bytes of one of them

    def resident(self, streamed: bool) -> float:
        """Bytes of its weights on the device: all, or what is no layer and two layers' landing places."""
        if not streamed:
            return self.weights
        return self.weights - (self.layers - min(self.layers, 2)) * self.layer


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSizes:
    """What the planner has to know of a model."""

    name: str
    transformer: DiTConfig
    vae: VAEConfig
    block: float
    """Bytes of one block of the transformer, as it is kept."""
    rest: float
    """Bytes of the transformer outside its blocks."""
    text: Encoder
    vision: Encoder
    speech: Encoder
    base: int = 2
    """Bytes of a number in the transformer's stream: 2 for bf16 and fp16, 4 for fp32."""
    format: Format | None = None
    """In which the matrices of the blocks are kept; ``None``: plain."""
    vae_base: int = 2
    """Bytes of a number in the codec: 2 on a GPU, 4 on a CPU and in a bundle."""
    fused: bool = False
    """Whether the transformer's operations are fused, as on GPUs with Triton."""
    disk: float = 0.0
    """Bytes of the model's files."""
    joined: bool = False
    """Whether queries, keys and values are one product (``Settings.fuse_qkv``); never of packed weights."""

    @property
    def packed(self) -> bool:
        """Whether matrices take less than plain ones, by a format or as the file has them."""
        return self.block < 0.9 * self.base * block_weights(self.transformer)

    @property
    def blocks(self) -> float:
        """Bytes of all blocks."""
        return self.transformer.num_layers * self.block

    @property
    def codec(self) -> float:
        """Bytes of the codec's weights."""
        return self.vae_base * codec_weights(self.vae)

    @property
    def encoders(self) -> float:
        """Bytes of everything that is not the transformer."""
        return self.text.weights + self.vision.weights + self.speech.weights + self.codec


def kept_bytes(shape: Shape, kept: Format | str | None, base: int) -> float:
    """Bytes of one weight.

    Args:
        kept: a format or a type of ``GGUF`` for matrices; ``None`` is plain.
        base: bytes of a plain number.
    """
    if kept is None or len(shape) != 2:
        return float(base * prod(shape))
    if isinstance(kept, str):
        numbers, size = GGUF[kept]
        return float(shape[0] * -(-shape[1] // numbers) * size)
    once, each = _row_bytes(cast("Hashable", kept), shape[1])
    return float(once + shape[0] * each)


@lru_cache(maxsize=256)
def _row_bytes(kept: Hashable, columns: int) -> tuple[int, int]:
    """Bytes of a packed matrix: once, and for each of its rows. Found by packing one row and two."""
    form = cast("Format", kept)
    one, two = (
        sum(part.nbytes for part in form.pack(torch.zeros(rows, columns)).values()) for rows in (1, 2)
    )
    return 2 * one - two, two - one


def transformer_bytes(
    shapes: Mapping[str, Shape], bytes_of: Callable[[str, Shape], float]
) -> tuple[float, float]:
    """Bytes of the largest block, and of what is outside the blocks.

    Args:
        shapes: of the transformer's weights by our names.
        bytes_of: bytes of one weight as it will be kept.
    """
    blocks: dict[str, float] = {}
    rest = 0.0
    for name, shape in shapes.items():
        size = bytes_of(name, shape)
        if name.startswith("blocks."):
            number = name.split(".", 2)[1]
            blocks[number] = blocks.get(number, 0.0) + size
        else:
            rest += size
    return max(blocks.values(), default=0.0), rest


def transformer_shapes(config: DiTConfig) -> dict[str, Shape]:
    """Names and shapes of a transformer's weights, the first block standing for all."""
    with torch.device("meta"):
        model = WanTransformer(replace(config, num_layers=1))
    return {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}


@lru_cache(maxsize=16)
def block_weights(config: DiTConfig) -> int:
    """Numbers of one block's weights."""
    shapes = transformer_shapes(config)
    return sum(prod(shape) for name, shape in shapes.items() if name.startswith("blocks."))


@lru_cache(maxsize=16)
def codec_weights(config: VAEConfig) -> int:
    """Numbers of a codec's weights."""
    with torch.device("meta"):
        return sum(tensor.numel() for tensor in VideoVAE(config).parameters())


def sizes_for(
    name: str,
    transformer: DiTConfig,
    vae: VAEConfig,
    *,
    kept: Format | str | None,
    base: int,
    text: Encoder,
    vision: Encoder,
    speech: Encoder,
    disk: float = 0.0,
) -> ModelSizes:
    """Sizes of a model whose matrices inside blocks are kept in one form, and all else plain."""

    def bytes_of(weight: str, shape: Shape) -> float:
        return kept_bytes(shape, kept if weight.startswith("blocks.") else None, base)

    block, rest = transformer_bytes(transformer_shapes(transformer), bytes_of)
    return ModelSizes(
        name=name,
        transformer=transformer,
        vae=vae,
        block=block,
        rest=rest,
        text=text,
        vision=vision,
        speech=speech,
        base=base,
        format=None if isinstance(kept, str) else kept,
        disk=disk,
    )
