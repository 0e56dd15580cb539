"""What the video codec needs while it works: its maps, and the frames it remembers between pieces.

Follows ``models/vae`` layer by layer; ``tests/unit/memory`` holds it to what the layers really allocate.
All sizes are numbers, not bytes, until ``bytes`` multiplies them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from math import sqrt

from infinite_talk.models.vae import VAEConfig
from infinite_talk.ops.codec import PAST


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer at work on a piece."""

    work: float  # numbers alive at its worst moment, its input included
    state: float  # numbers it remembers until the next piece


@dataclass(frozen=True, slots=True)
class Pass:
    """One pass through the coder or the decoder in pieces."""

    work: float  # bytes alive at the worst moment of a piece
    state: float  # bytes remembered between pieces


def decode_pass(
    config: VAEConfig, places: int, latents: int, base: int, *, whole: bool = False, fused: bool = False
) -> Pass:
    """Decode pieces of ``latents`` latent frames of ``places`` positions.

    Args:
        base: bytes of a number.
        whole: the piece is the whole video, nothing is remembered.
        fused: norms write padded maps (``ops/codec``).
    """
    start = _start(config, places, latents, fused)
    return _pass([*start, *_rising(config, places, latents, whole, fused)], base, whole)


def rising_pass(config: VAEConfig, places: int, latents: int, base: int, *, fused: bool = False) -> Pass:
    """The part of ``decode_pass`` that tiles share out: everything above the resolution of the latent."""
    return _pass(_rising(config, places, latents, whole=False, fused=fused), base, whole=False)


def start_pass(config: VAEConfig, places: int, latents: int, base: int, *, fused: bool = False) -> Pass:
    """The part of ``decode_pass`` that sees whole frames, at the resolution of the latent."""
    return _pass(_start(config, places, latents, fused), base, whole=False)


def encode_pass(
    config: VAEConfig, pixels: int, frames: int, base: int, *, whole: bool = False, fused: bool = False
) -> Pass:
    """Encode pieces of ``frames`` video frames of ``pixels`` pixels."""
    falling = _falling(config, pixels, frames, whole, fused)
    return _pass([*falling, *_finishing(config, pixels, frames, whole, fused)], base, whole)


def falling_pass(config: VAEConfig, pixels: int, frames: int, base: int, *, fused: bool = False) -> Pass:
    """The part of ``encode_pass`` that tiles share out."""
    return _pass(_falling(config, pixels, frames, whole=False, fused=fused), base, whole=False)


def finish_pass(config: VAEConfig, pixels: int, frames: int, base: int, *, fused: bool = False) -> Pass:
    """The part of ``encode_pass`` that sees whole frames, at the resolution of the latent."""
    return _pass(_finishing(config, pixels, frames, whole=False, fused=fused), base, whole=False)


def _pass(layers: Iterator[Layer] | list[Layer], base: int, whole: bool) -> Pass:
    layers = list(layers)
    state = 0.0 if whole else base * sum(layer.state for layer in layers)
    return Pass(base * max(layer.work for layer in layers), state)


def _start(config: VAEConfig, places: int, frames: int, fused: bool) -> Iterator[Layer]:
    """The decoder's first convolution and middle."""
    width = config.dim * config.dim_mult[-1]
    yield _convolution(config.z_dim, width, frames, places)
    yield from _middle(width, frames, places, fused)


def _rising(config: VAEConfig, places: float, frames: float, whole: bool, fused: bool) -> Iterator[Layer]:
    """The decoder's levels, coarse to fine, and its head."""
    widths = [config.dim * factor for factor in reversed(config.dim_mult)]
    doubles = tuple(reversed(config.temporal_downsample))
    inputs = widths[0]
    for level, outputs in enumerate(widths):
        for _ in range(config.num_res_blocks + 1):
            yield _residual(inputs, outputs, frames, places, fused)
            inputs = outputs
        if level < len(doubles):
            yield _upsample(outputs, frames, places, time=doubles[level])
            places, inputs = 4 * places, outputs // 2
            # The first frame of a video stands alone, it is neither doubled nor halved with others.
            frames = 2 * frames - whole if doubles[level] else frames
    yield _head(inputs, config.picture_channels, frames, places, fused)


def _falling(config: VAEConfig, pixels: float, frames: float, whole: bool, fused: bool) -> Iterator[Layer]:
    """The encoder, fine to coarse. The pictures and its first map are held until the levels are done."""
    places = pixels / config.patch**2
    widths = [config.dim * factor for factor in (1, *config.dim_mult)]
    yield _convolution(config.picture_channels, widths[0], frames, places)
    pictures, first_map = config.picture_channels * frames * places, widths[0] * frames * places
    for level, (inputs, outputs) in enumerate(pairwise(widths)):
        for block in range(config.num_res_blocks):
            layer = _residual(inputs if block == 0 else outputs, outputs, frames, places, fused)
            first = level == 0 and block == 0  # its input is the map that is held
            yield Layer(layer.work + pictures + (0 if first else first_map), layer.state)
        if level < len(config.temporal_downsample):
            layer = _downsample(outputs, frames, places, time=config.temporal_downsample[level])
            yield Layer(layer.work + pictures + first_map, layer.state)
            places /= 4
            frames = (frames + whole) / 2 if config.temporal_downsample[level] else frames


def _finishing(config: VAEConfig, pixels: float, frames: float, whole: bool, fused: bool) -> Iterator[Layer]:
    """The encoder's middle and head."""
    for halved in config.temporal_downsample:
        frames = (frames + whole) / 2 if halved else frames
    places, width = pixels / config.spatial_stride**2, config.dim * config.dim_mult[-1]
    yield from _middle(width, frames, places, fused)
    yield _head(width, 2 * config.z_dim, frames, places, fused)


def _convolution(inputs: int, outputs: int, frames: float, places: float) -> Layer:
    """Input, its copy with the past in front, output."""
    work = inputs * (2 * frames + PAST) + outputs * frames
    return Layer(work * places, inputs * PAST * places)


def _head(inputs: int, outputs: int, frames: float, places: float, fused: bool) -> Layer:
    """Input, the normed map, its copy with the past, and the output; fused the normed map is that copy."""
    if fused:
        padded = inputs * _bordered(places)
        return Layer((inputs + outputs) * frames * places + padded * (frames + PAST), padded * PAST)
    work = inputs * (3 * frames + PAST) + outputs * frames
    return Layer(work * places, inputs * PAST * places)


def _residual(inputs: int, outputs: int, frames: float, places: float, fused: bool) -> Layer:
    """Each half holds the input, the shortcut, the normed map, its copy with the past, and the output.

    Fused, the normed map is that copy, and the map between the halves goes once it is normed.
    """
    shortcut = outputs * frames if inputs != outputs else 0
    held = (inputs * frames + shortcut) * places
    if fused:
        padded = (frames + PAST) * _bordered(places)
        work = held + max(inputs, outputs) * padded + outputs * frames * places
        return Layer(work, (inputs + outputs) * PAST * _bordered(places))
    first = inputs * (2 * frames + PAST) + outputs * frames
    second = outputs * (2 * frames + PAST) + outputs * frames
    return Layer(held + max(first, second) * places, (inputs + outputs) * PAST * places)


def _bordered(places: float) -> float:
    """Positions of a map with a border one wide, as if its sides were 9 to 16."""
    return places + 4.2 * sqrt(places) + 4


def _middle(width: int, frames: float, places: float, fused: bool) -> Iterator[Layer]:
    """Two residual blocks around attention: input, norm, keys with queries and values, and their answer."""
    yield _residual(width, width, frames, places, fused)
    yield Layer(7 * width * frames * places, 0)
    yield _residual(width, width, frames, places, fused)


def _upsample(width: int, frames: float, places: float, *, time: bool) -> Layer:
    """In time: copy with the past, pairs, pairs in order. In the plane: four times the map, half the width.

    The kernel for a doubled picture does without the first of these; which cards have it is not looked at.
    """
    after = 2 * frames if time else frames
    pairs = width * (frames + frames + PAST + 4 * frames) if time else 0
    plane = width * (frames + (after if time else 0) + 4 * after + 2 * after)
    return Layer(max(pairs, plane) * places, width * PAST * places if time else 0)


def _downsample(width: int, frames: float, places: float, *, time: bool) -> Layer:
    """Input, padded copy, a quarter; in time one frame is remembered."""
    plane = width * (2 * frames + frames / 4) * places
    return Layer(plane, width * places / 4 if time else 0)
