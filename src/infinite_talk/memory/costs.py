"""Arithmetic of every stage: bytes on the device and operations, counted from sizes before anything is loaded.

What a stage needs is written as ``Need``: ``activations`` live through all of it, ``workspace`` at its worst
moment. Weights are added by the planner, which decides where they live.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from infinite_talk.memory.codec import (
    decode_pass,
    encode_pass,
    falling_pass,
    finish_pass,
    rising_pass,
    start_pass,
)
from infinite_talk.memory.flops import Kind, block_parts, total
from infinite_talk.memory.sizes import Encoder, ModelSizes
from infinite_talk.memory.work import Work
from infinite_talk.memory.workspace import block_workspace, conditions_bytes
from infinite_talk.models.dit import DiTConfig
from infinite_talk.models.vae import VAEConfig
from infinite_talk.models.vae.tiles import decoder_reach, encoder_reach, spans

SPEECH_CHUNK = 2000
"""Video frames that the speech encoder hears at once: 1500 and 250 on either side (``models/speech``)."""
_PIECE = 4096
"""Rows that ``ops/linear`` codes at a time."""


@dataclass(frozen=True, slots=True)
class Need:
    """Bytes of one stage beside weights."""

    activations: float
    workspace: float

    @property
    def bytes(self) -> float:
        return self.activations + self.workspace

    def beside(self, held: float) -> Need:
        """The same while ``held`` bytes of something else live."""
        return Need(self.activations + held, self.workspace)


def linear_workspace(model: ModelSizes, rows: int) -> float:
    """What a product with packed weights takes beside its input and output, for the largest matrix of a block.

    Weights only: the weight widened, for 4 bits with the numbers of its bytes. Both operands: the activations
    scaled and coded.
    """
    config, base, kept = model.transformer, model.base, model.format
    if kept is None and not model.packed:
        return 0.0
    weight = config.dim * config.ffn_dim
    if kept is None:  # packed as the file has it
        return float(weight * (base + 2))
    if kept.name.startswith("int8_fast"):  # two wider copies of a piece, then the codes
        return float(min(rows, _PIECE) * config.ffn_dim * 9)
    if kept.name.startswith("fp4_scaled_fast"):
        return float((min(rows, _PIECE) * 16 + rows * 0.6) * config.ffn_dim)
    if kept.name.startswith("fp8") and kept.name.endswith("_fast") and model.fused:
        return 0.0  # the fused operations write 8 bits instead of plain numbers
    if kept.name.endswith("_fast"):  # scaled in their own dtype, then in 8 bits
        return float(rows * config.ffn_dim * (base + 1))
    narrow = kept.name.startswith(("nf4", "fp4"))
    return float(weight * (base + (2 if narrow else 0)))


def denoise_need(
    model: ModelSizes, work: Work, rows: int | None, *, kept: bool, batched: bool = False
) -> Need:
    """All steps of a window: conditions of all branches, latents, the tokens of each branch, one block at work.

    Args:
        batched: the branches are one batch, so that blocks work on all of them at once; their keys and values
            are put side by side, and stay where they came from.
    """
    config, base = model.transformer, model.base
    tokens = work.tokens(config.patch_size)
    latent = 4.0 * config.out_dim * work.latents * work.places
    # The latent and its noise, an answer for each branch and two sums; the guide has the reference's channels.
    # With FlowEdit the source as well, noisy too, with answers and a velocity of its own.
    held = 4 + work.branches + (3 + work.source_branches if work.source_branches else 0)
    latents = latent * held + 4.0 * config.reference_dim * work.latents * work.places
    # All branches pass through together; those that a step cache is to remember, one after another.
    at_once = 1 + work.remembered if work.remembered else work.branches
    streams = float(at_once * tokens * config.dim * base)
    block = float(block_workspace(config, tokens, base, rows, people=work.people, fused=model.fused))
    block += linear_workspace(model, min(rows or tokens, tokens))
    if model.joined and not model.packed:
        # Queries and keys before their rotation: they lie in one product with the values, which stays.
        block += 2.0 * min(rows or tokens, tokens) * config.dim * base
    block += work.put * tokens * config.dim * base
    conditions = work.views * kept_bytes(model, work, kept=kept, batched=batched)
    if batched:
        block *= work.branches
    # The time embedding widens its largest matrix to float32 while the tokens wait.
    time = 24.0 * config.dim**2
    return Need(conditions + latents + streams + work.beside, max(block, time, work.before))


def kept_bytes(model: ModelSizes, work: Work, *, kept: bool, batched: bool = False) -> float:
    """The conditions of a window's branches. They wait for the next window while the codec works.

    The two sides of FlowEdit share none of them: each has a denoiser of its own.
    """
    config = model.transformer
    tokens = work.tokens(config.patch_size)
    held: Callable[..., int] = partial(conditions_bytes, config, tokens, work.latents, model.base, kept=kept)
    sides = [(work.branches, work.silent)]
    if work.source_branches:
        sides.append((work.source_branches, work.source_silent))
    conditions = sum(held(branches=asked, silent=silent, people=work.people) for asked, silent in sides)
    joined = sum(asked for asked, _ in sides) if batched else 0
    return float(conditions + joined * held(people=work.people))


def decode_need(model: ModelSizes, work: Work, frames: int, tile: int | None, *, gpu: bool = False) -> Need:
    """A window decoded ``frames`` frames at a time, in tiles of ``tile`` pixels a side where given.

    All the while lives the video; with tiles also what the decoder makes of the whole latent to begin with.
    """
    config, base, fused = model.vae, model.vae_base, gpu and model.vae_base == 2
    latents = max(1, frames // config.temporal_stride)
    held = work.video + 4.0 * config.z_dim * work.latents * work.places
    colours = 2 * work.video  # correction and rounding make copies when the codec has let go
    if tile is None:
        whole = latents >= work.latents
        need = decode_pass(
            config, work.places, work.latents if whole else latents, base, whole=whole, fused=fused
        )
        # What was decoded last is there until it has its place, and a whole one until it is clamped.
        last = 2 * work.video if whole else 24.0 * frames * work.pixels
        kernels = gpu * convolution_workspace(
            config, work.pixels, min(frames, work.frames), base, fused=fused
        )
        return Need(held, max(need.work + need.state + last + kernels, colours))
    held += features_of(config, work, base)
    start = start_pass(config, work.places, latents, base, fused=fused)
    places = tile_places(config, work, tile, decoder_reach(config))
    rise = rising_pass(config, places, latents, base, fused=fused)
    pixels = places * config.spatial_stride**2
    last = 24.0 * frames * pixels
    kernels = gpu * convolution_workspace(config, pixels, frames, base, fused=fused)
    return Need(held, max(rise.work + rise.state + last + kernels, start.work + start.state, colours))


def encode_need(model: ModelSizes, work: Work, frames: int, tile: int | None, *, gpu: bool = False) -> Need:
    """The reference video of a window encoded ``frames`` frames at a time, as ``encode_pieces`` does it."""
    config, base, fused = model.vae, model.vae_base, gpu and model.vae_base == 2
    held = work.video + 4.0 * config.z_dim * work.latents * work.places
    frames = max(config.temporal_stride, frames)
    if tile is None:
        whole = frames >= work.latents * config.temporal_stride
        frames = work.frames if whole else frames
        need = encode_pass(config, work.pixels, frames, base, whole=whole, fused=fused)
        kernels = gpu * convolution_workspace(config, work.pixels, frames, base, fused=fused)
        return Need(held, need.work + need.state + kernels)
    held += features_of(config, work, base)
    pixels = tile_places(config, work, tile, encoder_reach(config)) * config.spatial_stride**2
    fall = falling_pass(config, pixels, frames, base, fused=fused)
    finish = finish_pass(config, work.pixels, frames, base, fused=fused)
    kernels = gpu * convolution_workspace(config, pixels, frames, base, fused=fused)
    return Need(held, max(fall.work + fall.state + kernels, finish.work + finish.state))


def convolution_workspace(
    config: VAEConfig, pixels: float, frames: int, base: int, *, fused: bool = False
) -> float:
    """Bytes that cuDNN's convolutions take for themselves: 2.7 times the codec's widest map.

    With kernels of our own (``fused``, ``ops/codec``) cuDNN has only the small ones: on an H200 decoding 832 x 480 took
    nothing more than the tensors, for 4 to 24 frames. So one frame counts, for other cards.

    Measured, not derived: on an H100 (torch 2.11, cuDNN of CUDA 13) decoding four frames of 832 x 480 in float32
    took 1.5 to 1.6 GiB more than the tensors, for a map of 0.57 GiB (bench/results/memory_limits.json).
    """
    counted = min(frames, 1) if fused else frames
    return 2.7 * base * config.dim * counted * pixels / config.patch**2


def features_of(config: VAEConfig, work: Work, base: int) -> float:
    """Bytes of the codec's features at the resolution of the latent, for a whole window."""
    return float(base * config.dim * config.dim_mult[-1] * work.latents * work.places)


def tile_places(config: VAEConfig, work: Work, tile: int, reach: int) -> int:
    """Latent positions of the largest tile with what it shares with its neighbours."""
    sides = (spans(cells, tile // config.spatial_stride, reach) for cells in work.size.latent)
    down, across = (max(span.last - span.first for span in side) for side in sides)
    return down * across


def tiles_share(config: VAEConfig, work: Work, tile: int | None, reach: int) -> float:
    """How much the codec computes in tiles, against whole frames."""
    if tile is None:
        return 1.0
    sides = [spans(cells, tile // config.spatial_stride, reach) for cells in work.size.latent]
    down, across = (sum(span.last - span.first for span in side) for side in sides)
    return down * across / work.places


def pass_flops(config: DiTConfig, tokens: int) -> tuple[float, float]:
    """Operations of one pass in matrices and in attention, as published; ``flops.py`` counts them.

    Keys and values of text, image and speech do not count: they are computed once.
    """
    block = block_parts(config, tokens, official=True)
    return config.num_layers * total(block, Kind.GEMM), config.num_layers * total(block, Kind.ATTENTION)


def text_encoder(
    *, parameters: int, layers: int, vocabulary: int, dim: int, ffn: int, heads: int, length: int, base: int
) -> Encoder:
    """A T5 encoder: per token the stream and the gated layer, scores and position bias of one layer."""
    stream = length * (6 * dim + 4 * ffn) * base
    scores = 4 * heads * length**2 * 4
    layer = base * (parameters - vocabulary * dim) / layers
    return Encoder(
        float(base * parameters), float(stream + scores), 2.0 * layers * layer / base * length, layers, layer
    )


def vision_encoder(*, weights: float, parameters: float, dim: int, ratio: int, tokens: int) -> Encoder:
    """A CLIP tower on one picture, in float32."""
    return Encoder(
        weights, 4.0 * tokens * dim * (6 + 2 * ratio) + 4.0 * 3 * 4096**2, 2.0 * parameters * tokens
    )


def speech_encoder(
    *, weights: float, parameters: float, dim: int, layers: int, conv: int, seconds: float
) -> Encoder:
    """wav2vec 2.0 on one chunk, in float32: the first convolution's output, with norm and activation."""
    heard = min(seconds, SPEECH_CHUNK / 25)
    first = 3 * 4.0 * conv * heard * 3200  # 16 kHz in steps of 5 samples
    outputs = 4.0 * 25 * seconds * layers * dim
    return Encoder(weights, first + outputs, 2.0 * parameters * 25)
