"""What a model computes and moves: operations and bytes of every part of a forward pass, and of the codec.

A multiply-add counts as two operations. *Official* is the published formulation: keys and values of text, picture
and speech, and the embeddings of all inputs, in every pass. *Ours* leaves to ``condition_parts`` what no step changes,
and carries few speech keys back through the layers around the attention (``ops/fused``): ``x W_q K^T`` is one product
with ``W_q K^T``, of ``heads * keys`` columns for each latent frame, and ``o`` likewise with ``V W_o``. Queries of
several people turn between ``W_q`` and ``K``, so that only the second layer is spared.

Bytes are those of kernels that read each operand once and write each result once, with norms, modulation, gates
and rotary positions fused where they follow each other: a floor, not a measurement.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from enum import StrEnum
from math import prod

from infinite_talk.memory.work import Work
from infinite_talk.models.dit import DiTConfig
from infinite_talk.models.vae import VAEConfig


class Kind(StrEnum):
    """Which ceiling holds for a part."""

    GEMM = "gemm"
    ATTENTION = "attention"
    ELEMENTWISE = "elementwise"
    """No operations are counted, only bytes."""


@dataclass(frozen=True, slots=True)
class Part:
    """One kind of work."""

    name: str
    kind: Kind
    flops: float
    bytes: float
    weight: tuple[int, int] | None = None
    """Inputs and outputs of the matrix of a ``GEMM``."""

    def times(self, count: float) -> Part:
        """As often as ``count``; weights are read anew each time."""
        return replace(self, flops=count * self.flops, bytes=count * self.bytes)


@dataclass(frozen=True, slots=True, kw_only=True)
class Numbers:
    """Bytes of a number."""

    stream: float = 2
    """Of the tokens."""
    weight: float = 2
    """Of the weights of a block."""


BF16 = Numbers()


def total(parts: Iterable[Part], *kinds: Kind) -> float:
    """Operations of the parts, of some kinds or of all."""
    return sum(part.flops for part in parts if not kinds or part.kind in kinds)


def total_bytes(parts: Iterable[Part], *kinds: Kind) -> float:
    """Bytes of the parts, of some kinds or of all."""
    return sum(part.bytes for part in parts if not kinds or part.kind in kinds)


# The transformer


def forward_parts(
    config: DiTConfig, work: Work, *, official: bool = False, numbers: Numbers = BF16
) -> tuple[Part, ...]:
    """One pass of all layers for one branch that hears ``work.people``.

    Args:
        official: the published formulation; else what every step does here.
    """
    tokens, patch = work.tokens(config.patch_size), prod(config.patch_size)
    channels = config.in_dim if official else config.out_dim  # the reference's share is the window's
    block = block_parts(
        config, tokens, latents=work.latents, people=work.people, official=official, numbers=numbers
    )
    once = [part.times(config.num_layers) for part in block]
    around = [
        _gemm("patch embedding", tokens, channels * patch, config.dim, numbers),
        _gemm("head", tokens, config.dim, patch * config.out_dim, numbers),
    ]
    if official:
        around += context_parts(config, work, numbers)
        around += [part.times(config.num_layers) for part in keys_values_parts(config, work, numbers)]
    return (*once, *around)


def condition_parts(config: DiTConfig, work: Work, *, numbers: Numbers = BF16) -> tuple[Part, ...]:
    """What is done once for each window and branch: contexts, keys and values, the reference's embedding."""
    tokens, patch = work.tokens(config.patch_size), prod(config.patch_size)
    return (
        *context_parts(config, work, numbers),
        *(part.times(config.num_layers) for part in keys_values_parts(config, work, numbers)),
        _gemm("reference embedding", tokens, config.reference_dim * patch, config.dim, numbers),
    )


def step_flops(config: DiTConfig, work: Work, *, shared: bool = False) -> float:
    """Operations of one step: ``work.branches`` passes, those of ``work.silent`` branches with one silent person.

    Args:
        shared: the first block's self-attention, in which no branch differs from another yet, is computed once.
    """
    heard = total(forward_parts(config, work))
    silent = total(forward_parts(config, replace(work, people=1)))
    flops = (work.branches - work.silent) * heard + work.silent * silent
    if shared:
        block = block_parts(config, work.tokens(config.patch_size), latents=work.latents)
        flops -= (work.branches - 1) * total(part for part in block if part.name.startswith("self"))
    return flops


def block_parts(
    config: DiTConfig,
    tokens: int,
    *,
    latents: int = 1,
    people: int = 1,
    official: bool = False,
    numbers: Numbers = BF16,
) -> tuple[Part, ...]:
    """One block over ``tokens`` of ``latents`` latent frames, keys and values of text, picture and speech given."""
    dim, hidden = config.dim, config.ffn_dim
    context = config.text_len + config.clip_tokens
    parts = [
        _gemm("self qkv", tokens, dim, 3 * dim, numbers),
        _attention("self attention", tokens, tokens, dim, tokens, numbers),
        _gemm("self o", tokens, dim, dim, numbers),
        _gemm("cross q", tokens, dim, dim, numbers),
        _attention("cross attention", tokens, context, dim, context, numbers),
        _gemm("cross o", tokens, dim, dim, numbers),
        *_speech(config, tokens, latents, people, numbers, official=official),
        _gemm("feed-forward up", tokens, dim, hidden, numbers),
        _gemm("feed-forward down", tokens, hidden, dim, numbers),
    ]
    if people > 1:  # how much each token looks at each person's tokens of the first frame
        first = tokens // latents
        parts.append(_attention("class maps", tokens, first, _mapped(config), first, numbers))
    return (*parts, _elementwise(config, tokens, numbers))


def _speech(
    config: DiTConfig, tokens: int, latents: int, people: int, numbers: Numbers, *, official: bool
) -> Iterator[Part]:
    """The speech attention: as published, or with its few keys carried back through the layers around it."""
    dim, keys = config.dim, people * config.context_tokens
    columns = config.num_heads * keys
    frame = tokens // latents
    if official or not frame * columns + keys * dim < frame * dim:  # as models/dit/speech.py decides
        yield _gemm("speech q", tokens, dim, dim, numbers)
        yield _attention("speech attention", tokens, keys, dim, latents * keys, numbers)
        yield _gemm("speech o", tokens, dim, dim, numbers)
        return
    carried = _gemm("speech keys carried back", latents * keys, dim, dim, numbers)
    folded = latents * dim * columns  # a matrix for each latent frame
    if people == 1:
        yield carried
        yield _gemm("speech scores", tokens, dim, columns, numbers, folded)
    else:
        yield _gemm("speech q", tokens, dim, dim, numbers)
        scores = _attention("speech scores", tokens, keys, dim, latents * keys, numbers)
        yield scores.times(0.5)  # against the keys alone
    yield replace(carried, name="speech values carried on")
    yield _gemm("speech answers", tokens, columns, dim, numbers, folded)


def _mapped(config: DiTConfig) -> int:
    """Width of the heads that class maps look at: those of an even number."""
    return (config.num_heads - config.num_heads % 2 or 1) * config.head_dim


def keys_values_parts(config: DiTConfig, work: Work, numbers: Numbers = BF16) -> tuple[Part, ...]:
    """Keys and values of text, picture and speech for one block."""
    dim = config.dim
    context = config.text_len + config.clip_tokens
    speech = work.latents * work.people * config.context_tokens
    return (
        _gemm("cross keys and values", context, dim, 2 * dim, numbers),
        _gemm("speech keys and values", speech, config.output_dim, 2 * dim, numbers),
    )


def context_parts(config: DiTConfig, work: Work, numbers: Numbers = BF16) -> tuple[Part, ...]:
    """Embeddings of text, picture and speech."""
    dim, hidden, people = config.dim, config.intermediate_dim, work.people
    vector, groups = config.audio_blocks * config.audio_channels, work.latents - 1
    return (
        _gemm("text embedding", config.text_len, config.text_dim, dim, numbers),
        _gemm("text embedding", config.text_len, dim, dim, numbers),
        _gemm("image embedding", config.clip_tokens, config.clip_dim, config.clip_dim, numbers),
        _gemm("image embedding", config.clip_tokens, config.clip_dim, dim, numbers),
        _gemm("speech embedding", people, config.audio_window * vector, hidden, numbers),
        _gemm("speech embedding", people * groups, config.audio_window_group * vector, hidden, numbers),
        _gemm("speech embedding", people * (groups + 1), hidden, hidden, numbers),
        _gemm(
            "speech embedding",
            people * (groups + 1),
            hidden,
            config.context_tokens * config.output_dim,
            numbers,
        ),
    )


def _gemm(
    name: str, rows: float, inputs: int, outputs: int, numbers: Numbers, weights: float | None = None
) -> Part:
    moved = numbers.stream * rows * (inputs + outputs)
    moved += numbers.weight * (inputs * outputs if weights is None else weights)
    return Part(name, Kind.GEMM, 2.0 * rows * inputs * outputs, moved, (inputs, outputs))


def _attention(name: str, queries: int, keys: int, dim: int, rows: int, numbers: Numbers) -> Part:
    """``rows`` of keys exist in all; each query sees ``keys`` of them."""
    moved = numbers.stream * 2 * dim * (queries + rows)
    return Part(name, Kind.ATTENTION, 4.0 * queries * keys * dim, moved)


_STREAMS = 26
"""Times that a fused block reads or writes a row of width D between products: modulated norm 2, queries and keys
normed and turned 4, gate with the next norm 4, cross queries normed 2, two answers added 3, sum with the next norm
4, sum with the modulated norm 4, last gate 3."""


def _elementwise(config: DiTConfig, tokens: int, numbers: Numbers) -> Part:
    numbers_moved = tokens * (_STREAMS * config.dim + 2 * config.ffn_dim)  # GELU reads and writes
    return Part("norms, gates, GELU", Kind.ELEMENTWISE, 0.0, numbers.stream * numbers_moved)


# The codec


def decode_flops(config: VAEConfig, work: Work) -> float:
    """Operations of decoding one window's latent."""
    places, frames = float(work.places), work.latents
    widths = [config.dim * factor for factor in reversed(config.dim_mult)]
    doubles = tuple(reversed(config.temporal_downsample))
    flops = frames * places * (2.0 * config.z_dim**2 + _conv(27, config.z_dim, widths[0]))
    flops += _middle(widths[0], frames, places)
    inputs = widths[0]
    for level, outputs in enumerate(widths):
        for _ in range(config.num_res_blocks + 1):
            flops += frames * places * _residual(inputs, outputs)
            inputs = outputs
        if level < len(doubles):
            if doubles[level]:  # the first frame passes alone
                flops += (frames - 1) * places * _conv(3, outputs, 2 * outputs)
                frames = 2 * frames - 1
            places *= 4
            flops += frames * places * _conv(9, outputs, outputs // 2)
            inputs = outputs // 2
    return flops + frames * places * _conv(27, inputs, config.picture_channels)


def encode_flops(config: VAEConfig, work: Work) -> float:
    """Operations of encoding one window's frames."""
    places, frames = work.pixels / config.patch**2, work.frames
    widths = [config.dim * factor for factor in (1, *config.dim_mult)]
    flops = frames * places * _conv(27, config.picture_channels, widths[0])
    for level, factor in enumerate(config.dim_mult):
        inputs, outputs = widths[level], config.dim * factor
        for _ in range(config.num_res_blocks):
            flops += frames * places * _residual(inputs, outputs)
            inputs = outputs
        if level < len(config.temporal_downsample):
            places /= 4
            flops += frames * places * _conv(9, outputs, outputs)
            if config.temporal_downsample[level]:
                frames = (frames + 1) // 2
                flops += (frames - 1) * places * _conv(3, outputs, outputs)
    flops += _middle(widths[-1], frames, places)
    return flops + frames * places * (_conv(27, widths[-1], 2 * config.z_dim) + 2.0 * (2 * config.z_dim) ** 2)


def _conv(taps: int, inputs: int, outputs: int) -> float:
    """For one place of the output."""
    return 2.0 * taps * inputs * outputs


def _residual(inputs: int, outputs: int) -> float:
    shortcut = _conv(1, inputs, outputs) if inputs != outputs else 0.0
    return _conv(27, inputs, outputs) + _conv(27, outputs, outputs) + shortcut


def _middle(width: int, frames: int, places: float) -> float:
    """Two residual blocks around attention among the places of each frame."""
    attention = _conv(1, width, 3 * width) + 4.0 * places * width + _conv(1, width, width)
    return frames * places * (2 * _residual(width, width) + attention)


def window_flops(config: DiTConfig, codec: VAEConfig, work: Work) -> Iterator[tuple[str, float]]:
    """Operations of one window in the middle of a video, by what it does."""
    yield "transformer", work.steps * step_flops(config, work)
    yield "conditions", work.branches * total(condition_parts(config, work))
    yield "motion frames to latents", encode_flops(codec, replace(work, frames=work.motion))
    yield "latents to frames", decode_flops(codec, work)
