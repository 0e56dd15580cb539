"""What a transformer needs beside its weights, in bytes: a block at work, and what a window keeps."""

from __future__ import annotations

from infinite_talk.models.dit import DiTConfig

_WIDE = 16
"""Bytes per token and unit of width where rotary positions, gates or norms pass through float32: a few
float32 copies of a row, and the row itself before and after."""


def block_workspace(
    config: DiTConfig,
    tokens: int,
    dtype_bytes: int,
    rows_at_once: int | None,
    *,
    people: int = 1,
    fused: bool = False,
) -> int:
    """The most that one block holds besides its input ``(1, tokens, D)`` and its weights; its output included.

    With D the width, F the width of the feed-forward, b ``dtype_bytes`` and r ``rows_at_once``,
    a stream of tokens is ``U = tokens * D * b`` bytes. In pieces of r rows the larger of

    - self-attention: keys, values and the growing update, ``3 U``, and one piece ``r * 16 D``;
    - the rest: update and output, ``2 U``, and one piece ``r * max(16 D, 2 b D + 2 b F)``;

    all at once (``None``) the larger of ``2 U + tokens * 16 D`` and ``U + tokens * (2 b D + 2 b F)``. With
    several people the rest turns queries too, ``16 D + b D`` a row, by positions of ``4 d`` bytes a token.
    At 480p (32,760 tokens, bfloat16) U is 0.31 GiB: 3.1 GiB at once, 1.2 GiB in pieces of 4096.

    With ``fused`` operations (``ops/fused``) nothing passes through float32. The rest then holds the update and
    the growing output, and of a piece at most the stream, its norm, the queries, two answers and their sum, or
    the stream and twice the feed-forward's input, ``r b max(6 D, 2 D + F)``; self-attention holds keys, values
    and update, and of a piece the norm, queries and answers. 2.2 GiB at once, 1.2 GiB in pieces of 4096.

    Not counted: what kernels need for themselves (attention: nothing that grows with ``tokens`` squared), and
    the plain copy of a weight that a weight-only format makes for each product (``2 D F`` bytes and more).
    """
    width, hidden = config.dim, config.ffn_dim
    stream = tokens * width * dtype_bytes
    rows = tokens if rows_at_once is None else min(rows_at_once, tokens)
    if fused:
        row = dtype_bytes * max(6 * width, 2 * width + hidden)
        if people > 1:
            row += 4 * config.head_dim
        if rows == tokens:
            return stream + tokens * row
        return max(3 * stream + 4 * dtype_bytes * rows * width, 2 * stream + rows * row)
    feed = max(_WIDE * width, 2 * dtype_bytes * (width + hidden))
    positions = 0
    if people > 1:
        feed, positions = max(feed, (_WIDE + dtype_bytes) * width), 4 * config.head_dim * tokens
    if rows == tokens:
        return max(2 * stream + tokens * _WIDE * width, stream + tokens * feed + positions)
    return max(3 * stream + rows * _WIDE * width, 2 * stream + rows * feed + positions)


def condition_bytes(
    config: DiTConfig, tokens: int, frames: int, dtype_bytes: int, *, people: int = 1, kept: bool = True
) -> int:
    """What one guidance branch keeps for a window, with or without keys and values of all blocks.

    ``kept`` is ``WanTransformer.keep_keys_values``. At 480p with 21 latent frames, bfloat16: 1.43 GiB, and
    without 0.02 GiB; the reference latent is then the caller's and not counted. The branch without speech
    counts as one person.

    Args:
        tokens: of the window.
        frames: latent frames of the window.
    """
    positions = 4 * config.head_dim * tokens
    reference = tokens * config.dim * dtype_bytes if kept else 0
    parts = (
        text_bytes(config, dtype_bytes, kept=kept),
        image_bytes(config, dtype_bytes, kept=kept),
        speech_bytes(config, frames, dtype_bytes, people=people, kept=kept),
    )
    return positions + reference + sum(parts)


def conditions_bytes(
    config: DiTConfig,
    tokens: int,
    frames: int,
    dtype_bytes: int,
    *,
    branches: int = 1,
    silent: int = 0,
    people: int = 1,
    kept: bool = True,
) -> int:
    """What all guidance branches keep for a window: they share the reference, positions, picture, and whatever
    text and speech they have in common. At 480p, three branches, bfloat16, kept: 2.33 GiB.

    Args:
        branches: as of ``Work``; all but ``silent`` of them hear the speech, two of those differ in the text.
    """
    shared = condition_bytes(config, tokens, frames, dtype_bytes, people=people, kept=kept)
    if branches - silent > 1:  # the negative prompt
        shared += text_bytes(config, dtype_bytes, kept=kept)
    if silent:
        shared += speech_bytes(config, frames, dtype_bytes, people=1, kept=kept)
    return shared


def text_bytes(config: DiTConfig, dtype_bytes: int, *, kept: bool) -> int:
    """One text."""
    return _rows(config, config.text_len, config.dim, dtype_bytes, kept=kept)


def image_bytes(config: DiTConfig, dtype_bytes: int, *, kept: bool) -> int:
    """Picture features."""
    return _rows(config, config.clip_tokens, config.dim, dtype_bytes, kept=kept)


def speech_bytes(config: DiTConfig, frames: int, dtype_bytes: int, *, people: int, kept: bool) -> int:
    """Speech of a window of ``frames`` latent frames."""
    rows = frames * people * config.context_tokens
    return _rows(config, rows, config.output_dim, dtype_bytes, kept=kept)


def _rows(config: DiTConfig, rows: int, width: int, dtype_bytes: int, *, kept: bool) -> int:
    """Keys and values of all blocks, or the tokens that they are made from."""
    return rows * dtype_bytes * (2 * config.num_layers * config.dim if kept else width)
