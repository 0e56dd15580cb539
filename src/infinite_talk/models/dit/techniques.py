"""The formulas of what ``Extras`` puts on the attentions of a block."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor

from infinite_talk.errors import UsageError
from infinite_talk.models.dit.condition import KeysValues
from infinite_talk.models.dit.extras import BlockExtras, Everywhere, Grid, Heard
from infinite_talk.ops.attention import AttentionCallable
from infinite_talk.ops.attention.masked import masked
from infinite_talk.ops.pieces import by_pieces, cuts_of
from infinite_talk.sampling import NormalisedAttention

_HEADS = 4
_ROWS = 4096
"""How many heads, and how many tokens, pass through float32 at a time."""


def between_frames(q: Tensor, k: Tensor, rows: slice, grid: Grid) -> Tensor:
    """How much each token attends to its own pixel in the other frames, ``(B, n)`` float32, mean over the heads.

    For each pixel the attention is between its T tokens alone, one in each frame.

    Args:
        q: rotated queries ``(B, heads, n, d)`` of ``rows``: whole frames, or a part of one.
        k: rotated keys of all tokens ``(B, heads, N, d)``.
    """
    frames, pixels = grid[0], grid[1] * grid[2]
    first, offset = divmod(rows.start, pixels)
    count = -(-rows.stop // pixels) - first
    q = torch.unflatten(q, 2, (count, -1))  # (B, heads, frames of the piece, pixels of the piece, d)
    k = torch.unflatten(k, 2, (frames, pixels))[..., offset : offset + q.shape[3], :]
    own = torch.arange(first, first + count, device=q.device).view(1, 1, -1, 1, 1)
    itself = torch.zeros(q.shape[0], *q.shape[2:4], 1, device=q.device)
    # A few heads at a time: the product copies queries and keys, which are hundreds of megabytes each.
    for head in range(0, q.shape[1], _HEADS):
        some_q, some_k = (x[:, head : head + _HEADS] for x in (q, k))
        scores = torch.einsum("bhfsd,bhtsd->bhfst", some_q, some_k).float() / math.sqrt(q.shape[-1])
        weights = scores.softmax(dim=-1).gather(-1, own.expand(*scores.shape[:4], 1))
        itself = itself + weights.sum(dim=1)
    apart: Tensor = 1 - itself / q.shape[1]
    return apart.flatten(1)


def enhancement(apart: Tensor, frames: int, weight: float) -> Tensor | None:
    """Enhance-A-Video (Luo et al., 2025): the factor of a self-attention's answer, ``(B, 1, 1)`` float32.

    ``max(1, m (T + weight))``, m being the mean weight between two different frames of a pixel: each row of the
    ``T x T`` weights adds up to 1, so the mean of the ``T (T - 1)`` off the diagonal is that of ``apart`` over
    ``T - 1``. ``None`` for one frame. Unlike the node pack's, groups are the same pixel in all frames.

    Args:
        apart: of ``between_frames``, all tokens ``(B, N)``.
    """
    if frames == 1:
        return None
    return (apart.mean(dim=1) / (frames - 1) * (frames + weight)).clamp(min=1)[:, None, None]


def normalised(towards: Tensor, against: Tensor, numbers: NormalisedAttention) -> Tensor:
    """Normalised attention guidance (Chen et al., 2025) of answers ``(B, n, D)``; float32 inside.

    ``g = s a+ - (s - 1) a-``; where its L1 norm is more than tau times that of ``a+``, it is scaled down to that;
    then ``alpha g + (1 - alpha) a+``.
    """
    cuts = cuts_of(1, towards.shape[1], _ROWS)
    return by_pieces(lambda rows: (_normalised(towards[:, rows], against[:, rows], numbers),), cuts)[0]


def _normalised(towards: Tensor, against: Tensor, numbers: NormalisedAttention) -> Tensor:
    plain = towards.float()
    guided = numbers.scale * plain - (numbers.scale - 1) * against.float()
    size, reference = (x.abs().sum(dim=-1, keepdim=True) for x in (guided, plain))
    # 0 / 0, where both texts answer nothing, counts as too large; the limit is then 0 too.
    ratio = (size / reference).nan_to_num(nan=10.0)
    guided = torch.where(ratio > numbers.tau, guided * (numbers.tau * reference / (size + 1e-7)), guided)
    return (numbers.alpha * guided + (1 - numbers.alpha) * plain).to(towards.dtype)


def heard_answer(q: Tensor, heard: Heard, frames: int, attention: AttentionCallable) -> Tensor:
    """Answers ``(B, n, D)`` of keys and values that belong to frames, times their scale.

    Args:
        q: ``(B, heads, n, d)``, n tokens in ``frames`` latent frames.
        heard: for these frames of one sample, or of all.
    """
    batch, heads, count, width = q.shape
    by_frame = torch.unflatten(q, 2, (frames, -1)).transpose(1, 2).flatten(0, 1)  # (B * T, heads, S, d)
    repeats = batch * frames // heard.keys_values.k.shape[0]
    k, v = (part.to(q.dtype).repeat(repeats, 1, 1, 1) for part in heard.keys_values)
    if heard.mask is None:
        found = attention(by_frame, k, v)
    else:
        found = masked(by_frame, k, v, heard.mask.repeat(repeats, 1)[:, None, None, :])
    found = torch.unflatten(found, 0, (batch, frames)).permute(0, 1, 3, 2, 4)  # (B, T, S, heads, d)
    return found.reshape(batch, count, heads * width) * heard.scale


def heard_in(heard: Heard, first: int, last: int, frames: int) -> Heard:
    """Of the ``frames`` latent frames of each sample, those from ``first`` to ``last - 1``."""
    if (first, last) == (0, frames):
        return heard

    def some(part: Tensor) -> Tensor:
        return torch.unflatten(part, 0, (-1, frames))[:, first:last].flatten(0, 1)

    k, v = (some(part) for part in heard.keys_values)
    return Heard(KeysValues(k, v), None if heard.mask is None else some(heard.mask), heard.scale)


def self_answer(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    rows: slice,
    grid: Grid,
    put: BlockExtras | None,
    attention: AttentionCallable,
) -> Tensor:
    """Self-attention of the tokens ``rows``: with another kernel, to their prompt's frames alone, or both."""
    if put is None:
        return attention(q, k, v)
    kernel = put.kernel or Everywhere(attention)
    if put.chunks is None or not put.chunks.apart:
        return kernel(q, k, v, rows, grid)
    if kernel.places:
        raise UsageError(
            "Self-attention that is split between prompts cannot run with a kernel that leaves places out; "
            "choose another attention, or no steps with split attention.",
            code="attention_split",
        )
    keys = share_of(rows, grid, put.chunks.parts)[1]
    return kernel(q, k[:, :, keys], v[:, :, keys], rows, grid)


def shares(grid: Grid, count: int) -> tuple[slice, ...]:
    """The tokens of each of ``count`` prompts: whole frames, as even as possible, the first ones longer.

    With more prompts than frames the last ones have none.
    """
    frames, pixels = grid[0], grid[1] * grid[2]
    length, longer = divmod(frames, count)
    ends = [0]
    for i in range(count):
        ends.append(ends[-1] + (length + (i < longer)) * pixels)
    return tuple(slice(a, b) for a, b in pairwise(ends))


def share_of(rows: slice, grid: Grid, count: int) -> tuple[int, slice]:
    """Number and tokens of the share that ``rows`` lie in."""
    return next((i, s) for i, s in enumerate(shares(grid, count)) if s.start <= rows.start < s.stop)


def cut_between(cuts: Sequence[slice], spans: Sequence[slice]) -> tuple[slice, ...]:
    """``cuts`` of all tokens, none of which reaches over a border between ``spans`` of all of them."""
    pieces = (slice(max(cut.start, span.start), min(cut.stop, span.stop)) for cut in cuts for span in spans)
    return tuple(piece for piece in pieces if piece.start < piece.stop)
