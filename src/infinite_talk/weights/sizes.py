"""What an opened model will weigh once it is built, part by part: for the memory planner. Nothing is read."""

from __future__ import annotations

from collections.abc import Callable, Container
from dataclasses import replace
from math import prod

import torch

from infinite_talk.memory.costs import speech_encoder, text_encoder, vision_encoder
from infinite_talk.memory.published import WAN_VAE
from infinite_talk.memory.sizes import Encoder, ModelSizes, Shape, kept_bytes, transformer_bytes
from infinite_talk.models.speech import keys as speech_keys
from infinite_talk.models.text import keys as text_keys
from infinite_talk.models.tiny_vae import keys as tiny_vae_keys
from infinite_talk.models.vae import keys as vae_keys
from infinite_talk.models.vision import keys as vision_keys
from infinite_talk.weights.checkpoint import Checkpoint, Part, packed_sizes
from infinite_talk.weights.lora.deltas import Delta, LowRank
from infinite_talk.weights.model import Model
from infinite_talk.weights.precision import Policy, is_packed
from infinite_talk.weights.reader import shapes_of

_DTYPES = {
    Part.VAE: vae_keys.DTYPE,
    Part.TINY_VAE: tiny_vae_keys.DTYPE,
    Part.TEXT: text_keys.DTYPE,
    Part.VISION: vision_keys.DTYPE,
    Part.SPEECH: speech_keys.DTYPE,
}
"""What each published model but the transformer runs in; see there for the reasons."""
SPEECH_SECONDS = 80.0
"""Of speech that the speech encoder hears at once, at most (``models/speech``)."""


def dtype_of(
    part: Part,
    opened: Checkpoint,
    device: torch.device,
    base: torch.dtype,
    codec: torch.dtype | None = None,
) -> torch.dtype:
    """In what a model other than the transformer runs. Bundles are small and exact; a CPU is slow in float16.

    ``base`` is the transformer's: who asks for float32 gets it in the codec, too. ``codec`` is what was asked for the
    codec itself, and holds.
    """
    if part is Part.VAE and codec is not None:
        return codec
    if opened.dialect == "bundle" or (device.type == "cpu" and _DTYPES[part] is torch.float16):
        return torch.float32
    if part is Part.VAE and base is torch.float32:
        return torch.float32
    return _DTYPES[part]


def sizes_of(
    model: Model,
    policy: Policy,
    dtype: torch.dtype,
    device: torch.device,
    *,
    fused: bool,
    codec: torch.dtype | None = None,
    joined: bool = False,
) -> ModelSizes:
    """Sizes of a model as ``policy`` will keep it.

    Args:
        dtype: of the transformer's stream.
        device: of the run.
        fused: whether the transformer's operations are (``ops/fused``).
        codec: what was asked for the video codec; ``None``: its own.
        joined: whether queries, keys and values are one product.

    Parts that ``model`` lacks weigh nothing; without a codec the published one is counted on.
    """
    opened = model.parts[Part.TRANSFORMER]
    base, stored = dtype.itemsize, packed_sizes(opened.weights)
    beside = _lora_bytes(model, base, stored)

    def bytes_of(name: str, shape: Shape) -> float:
        lora = beside.get(name, 0.0)
        if policy.format is not None and is_packed(name, shape):
            return kept_bytes(shape, policy.format, base) + lora
        if name in stored and is_packed(name, shape):
            return stored[name] + lora
        return float(base * prod(shape)) + lora

    block, rest = transformer_bytes(shapes_of(opened.weights), bytes_of)

    def encoder(part: Part, of: Callable[[Checkpoint, torch.dtype], Encoder]) -> Encoder:
        there = model.parts.get(part)
        return Encoder(0.0, 0.0) if there is None else of(there, dtype_of(part, there, device, dtype))

    vae = model.parts.get(Part.VAE)
    return ModelSizes(
        name=model.name,
        transformer=opened.config,
        vae=WAN_VAE if vae is None else vae.config,
        block=block,
        rest=rest,
        text=encoder(Part.TEXT, text_sizes),
        vision=encoder(Part.VISION, _vision),
        speech=encoder(Part.SPEECH, _speech),
        base=base,
        format=policy.format,
        vae_base=2 if vae is None else dtype_of(Part.VAE, vae, device, dtype, codec).itemsize,
        fused=fused,
        disk=float(model.size),
        joined=joined,
    )


def _lora_bytes(model: Model, base: int, stored: Container[str]) -> dict[str, float]:
    """Bytes that LoRAs computed at run time add to each weight; beside packed ones they always are."""
    added: dict[str, float] = {}
    for adapter in model.loras:
        if adapter.off:
            continue
        for name, additions in adapter.additions.items():
            if adapter.merge and name not in stored:
                continue
            added[name] = added.get(name, 0.0) + base * sum(_numbers(one.delta) for one in additions)
    return added


def _numbers(delta: Delta) -> int:
    """Numbers that are kept of an addition: two factors, or the whole matrix."""
    if isinstance(delta, LowRank):
        return sum(prod(delta.parts.shapes[kind]) for kind in delta.kinds)
    return prod(delta.shape or ())


def _count(opened: Checkpoint) -> int:
    return sum(prod(shape) for shape in shapes_of(opened.weights).values())


def _bytes(opened: Checkpoint, base: int) -> float:
    """Packed matrices of layers stay as they are, everything else is cast."""
    stored, shapes = packed_sizes(opened.weights), shapes_of(opened.weights)
    kept = {name: size for name, size in stored.items() if "embed_tokens" not in name}
    return float(sum(kept.get(name, base * prod(shape)) for name, shape in shapes.items()))


def text_sizes(opened: Checkpoint, dtype: torch.dtype) -> Encoder:
    """Sizes of a text encoder in ``dtype``, what is packed as it is."""
    sizes, base = opened.config, dtype.itemsize
    plain = text_encoder(
        parameters=_count(opened),
        layers=sizes.num_layers,
        vocabulary=sizes.vocab_size,
        dim=sizes.dim,
        ffn=sizes.dim_ffn,
        heads=sizes.num_heads,
        length=sizes.text_len,
        base=base,
    )
    rows = base * sizes.vocab_size * sizes.dim  # the embedding is a table, which is never packed
    packed = _bytes(opened, base) - rows
    return replace(plain, weights=packed + rows, layer=packed / sizes.num_layers)


def _vision(opened: Checkpoint, dtype: torch.dtype) -> Encoder:
    sizes = opened.config
    return vision_encoder(
        weights=_bytes(opened, dtype.itemsize),
        parameters=_count(opened),
        dim=sizes.dim,
        ratio=sizes.mlp_ratio,
        tokens=(sizes.image_size // sizes.patch_size) ** 2 + 1,
    )


def _speech(opened: Checkpoint, dtype: torch.dtype) -> Encoder:
    sizes = opened.config
    return speech_encoder(
        weights=_bytes(opened, dtype.itemsize),
        parameters=_count(opened),
        dim=sizes.hidden_size,
        layers=sizes.num_hidden_layers,
        conv=sizes.conv_dim[0],
        seconds=SPEECH_SECONDS,
    )
