"""Triton kernels behind ``triton_ops``. Import only where Triton is installed.

All statistics are float32. One program works on one token, except in ``fold`` and ``turned_shares``; rows are
read once from memory, and what is read again comes from the cache. Numbers of tokens are 64-bit where they are
multiplied by a row's length: a window of 720p has more than 2^31 numbers in its feed-forward.
"""
# mypy: disable-error-code="no-untyped-def, untyped-decorator"

from __future__ import annotations

import triton
import triton.language as tl

LARGEST = tl.constexpr(448.0)  # of float8_e4m3fn
SMALLEST = tl.constexpr(1e-30)  # rows below it count as zeros, see ops/linear/rows.py


@triton.jit
def norm_kernel(
    x_ptr, update_ptr, amount_ptr, factor_ptr, shift_ptr, sum_ptr, out_ptr, scale_ptr,
    count, x_batch, x_row, update_batch, update_row, sum_batch, sum_row,
    amount_batch, factor_batch, shift_batch, eps,
    WIDTH: tl.constexpr, PIECE: tl.constexpr,
    ADD: tl.constexpr, GATED: tl.constexpr, NORM: tl.constexpr, NARROW: tl.constexpr,
):  # fmt: skip
    """``y = x + update * amount`` and ``LayerNorm(y) * factor + shift``, either or both.

    The row is read piece by piece, again for each quantity that depends on all of it: from the cache, except
    the first time. That is faster than to hold it in registers.
    """
    row = tl.program_id(0).to(tl.int64)
    batch, place = row // count, row % count
    cols = tl.arange(0, PIECE)
    y_ptr = x_ptr + batch * x_batch + place * x_row
    total = tl.zeros([PIECE], tl.float32)
    if ADD:
        added_ptr = sum_ptr + batch * sum_batch + place * sum_row
        update_ptr += batch * update_batch + place * update_row
        for first in tl.static_range(0, WIDTH, PIECE):
            mask = first + cols < WIDTH
            y = tl.load(y_ptr + first + cols, mask=mask, other=0.0).to(tl.float32)
            update = tl.load(update_ptr + first + cols, mask=mask, other=0.0).to(tl.float32)
            if GATED:
                amount = tl.load(amount_ptr + batch * amount_batch + first + cols, mask=mask, other=0.0)
                update *= amount.to(tl.float32)
            added = (y + update).to(sum_ptr.dtype.element_ty)
            tl.store(added_ptr + first + cols, added, mask=mask)
            total += added.to(tl.float32)
        y_ptr = added_ptr
    if NORM:
        if not ADD:
            for first in tl.static_range(0, WIDTH, PIECE):
                total += tl.load(y_ptr + first + cols, mask=first + cols < WIDTH, other=0.0).to(tl.float32)
        mean = tl.sum(total, axis=0) / WIDTH
        squares = tl.zeros([PIECE], tl.float32)
        for first in tl.static_range(0, WIDTH, PIECE):
            mask = first + cols < WIDTH
            y = tl.load(y_ptr + first + cols, mask=mask, other=0.0).to(tl.float32)
            apart = tl.where(mask, y - mean, 0.0)
            squares += apart * apart
        scale = 1.0 / tl.sqrt(tl.sum(squares, axis=0) / WIDTH + eps)
        factor_ptr += batch * factor_batch
        shift_ptr += batch * shift_batch
        narrower = 1.0
        if NARROW:
            most = tl.zeros([PIECE], tl.float32)
            for first in tl.static_range(0, WIDTH, PIECE):
                normed = _normed(y_ptr, factor_ptr, shift_ptr, mean, scale, first + cols, WIDTH)
                most = tl.maximum(most, tl.abs(normed))
            largest = tl.maximum(tl.max(most, axis=0), SMALLEST)
            tl.store(scale_ptr + row, largest / LARGEST)
            narrower = LARGEST / largest
        for first in tl.static_range(0, WIDTH, PIECE):
            normed = _normed(y_ptr, factor_ptr, shift_ptr, mean, scale, first + cols, WIDTH) * narrower
            out = normed.to(out_ptr.dtype.element_ty)
            tl.store(out_ptr + row * WIDTH + first + cols, out, mask=first + cols < WIDTH)


@triton.jit
def _normed(y_ptr, factor_ptr, shift_ptr, mean, scale, cols, WIDTH: tl.constexpr):
    """A piece of a normalised row; zeros beyond its end."""
    mask = cols < WIDTH
    y = tl.load(y_ptr + cols, mask=mask, other=0.0).to(tl.float32)
    factor = tl.load(factor_ptr + cols, mask=mask, other=0.0).to(tl.float32)
    shift = tl.load(shift_ptr + cols, mask=mask, other=0.0).to(tl.float32)
    return (y - mean) * scale * factor + shift


@triton.jit
def rms_rotate_kernel(
    x_ptr, weight_ptr, cos_ptr, sin_ptr, count, x_batch, x_row, table_batch, eps,
    WIDTH: tl.constexpr, PAIRS: tl.constexpr, AT_ONCE: tl.constexpr,
    TURN: tl.constexpr,
):  # fmt: skip
    """In place: RMS norm of a row over all heads, then each pair of each head turned by the token's angles."""
    row = tl.program_id(0).to(tl.int64)
    batch, place = row // count, row % count
    start = x_ptr + batch * x_batch + place * x_row
    PIECE: tl.constexpr = AT_ONCE * PAIRS * 2
    cols = tl.arange(0, PIECE)
    squares = tl.zeros([PIECE], tl.float32)
    for first in tl.static_range(0, WIDTH, PIECE):
        part = tl.load(start + first + cols).to(tl.float32)
        squares += part * part
    scale = 1.0 / tl.sqrt(tl.sum(squares, axis=0) / WIDTH + eps)
    if TURN:
        pairs = tl.arange(0, PAIRS)
        table = batch * table_batch + place * PAIRS + pairs
        cos = tl.load(cos_ptr + table)[None, :]
        sin = tl.load(sin_ptr + table)[None, :]
    for first in tl.static_range(0, WIDTH, PIECE):
        part = tl.load(start + first + cols).to(tl.float32)
        part = part * scale * tl.load(weight_ptr + first + cols).to(tl.float32)
        if TURN:
            even, odd = tl.split(tl.reshape(part, [AT_ONCE, PAIRS, 2]))
            part = tl.reshape(tl.join(even * cos - odd * sin, even * sin + odd * cos), [PIECE])
        tl.store(start + first + cols, part.to(x_ptr.dtype.element_ty))


@triton.jit
def narrow_kernel(
    x_ptr, other_ptr, out_ptr, scale_ptr, width,
    ADD: tl.constexpr, GELU: tl.constexpr, NARROW: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """A row, plus another one or through GELU (tanh form); as float8 with its scale, or as it came."""
    row = tl.program_id(0).to(tl.int64)
    cols = tl.arange(0, BLOCK)
    mask = cols < width
    y = tl.load(x_ptr + row * width + cols, mask=mask, other=0.0).to(tl.float32)
    if ADD:
        y += tl.load(other_ptr + row * width + cols, mask=mask, other=0.0).to(tl.float32)
    if GELU:
        # tanh(z) = 2 sigmoid(2 z) - 1, so that 0.5 y (1 + tanh(z)) = y sigmoid(2 z)
        y = y * tl.sigmoid(1.5957691216057308 * (y + 0.044715 * y * y * y))
    if NARROW:
        # The largest magnitude lands on the largest number of the format.
        largest = tl.maximum(tl.max(tl.abs(y), axis=0), SMALLEST)
        tl.store(scale_ptr + row, largest / LARGEST)
        y *= LARGEST / largest
    tl.store(out_ptr + row * width + cols, y.to(out_ptr.dtype.element_ty), mask=mask)


@triton.jit
def fold_kernel(
    k_ptr, weight_ptr, bias_ptr, out_ptr, scale, groups, keys, width,
    k_group, k_head, k_key, weight_head, weight_inner, weight_outer,
    HEADS: tl.constexpr, DIM: tl.constexpr, KEYS: tl.constexpr, BLOCK: tl.constexpr, BIAS: tl.constexpr,
):  # fmt: skip
    """``out[g, h, l, :] = scale * k[g, h, l, :] @ W[h]``, with ``W[h]`` ``(DIM, width)`` of any strides.

    One program has one tile of the weight and all groups. The bias is added to the first head: the shares of its
    keys add up to one.
    """
    head, piece = tl.program_id(0) % HEADS, tl.program_id(0) // HEADS
    rows, inner = tl.arange(0, KEYS), tl.arange(0, DIM)
    cols = piece * BLOCK + tl.arange(0, BLOCK)
    there, inside = rows < keys, cols < width
    weight = tl.load(
        weight_ptr + head * weight_head + inner[:, None] * weight_inner + cols[None, :] * weight_outer,
        mask=inside[None, :], other=0.0,
    )  # fmt: skip
    bias = tl.zeros([BLOCK], tl.float32)
    if BIAS:
        bias += tl.load(bias_ptr + cols, mask=inside & (head == 0), other=0.0).to(tl.float32)
    for group in range(groups):
        start = k_ptr + tl.cast(group, tl.int64) * k_group + head * k_head
        k = tl.load(start + rows[:, None] * k_key + inner[None, :], mask=there[:, None], other=0.0)
        out = tl.dot(k, weight, input_precision="ieee") * scale + bias[None, :]
        place = (tl.cast(group, tl.int64) * HEADS + head) * keys + rows
        tl.store(
            out_ptr + place[:, None] * width + cols[None, :], out.to(out_ptr.dtype.element_ty),
            mask=there[:, None] & inside[None, :],
        )  # fmt: skip


@triton.jit
def shares_kernel(
    scores_ptr, offset_ptr, out_ptr, rows,
    HEADS: tl.constexpr, KEYS: tl.constexpr, HEADS_BLOCK: tl.constexpr, KEYS_BLOCK: tl.constexpr,
    OFFSET: tl.constexpr,
):  # fmt: skip
    """Softmax over the keys of each head: ``scores`` float32 ``(G * rows, HEADS * KEYS)``."""
    row = tl.program_id(0).to(tl.int64)
    heads, keys = tl.arange(0, HEADS_BLOCK), tl.arange(0, KEYS_BLOCK)
    cols = heads[:, None] * KEYS + keys[None, :]
    mask = (heads < HEADS)[:, None] & (keys < KEYS)[None, :]
    scores = tl.load(scores_ptr + row * (HEADS * KEYS) + cols, mask=mask, other=float("-inf"))
    if OFFSET:
        offset = tl.load(offset_ptr + (row // rows) * (HEADS * KEYS) + cols, mask=mask, other=0.0)
        scores += offset.to(tl.float32)
    scores = tl.where((heads < HEADS)[:, None], scores, 0.0)  # rows of padding only would be NaN
    weights = tl.exp(scores - tl.max(scores, axis=1)[:, None])
    shares = weights / tl.sum(weights, axis=1)[:, None]
    tl.store(out_ptr + row * (HEADS * KEYS) + cols, shares.to(out_ptr.dtype.element_ty), mask=mask)


@triton.jit
def turned_shares_kernel(
    q_ptr, k_ptr, cos_ptr, sin_ptr, out_ptr, rows, keys, scale,
    q_group, q_row, k_group, k_head, k_key,
    HEADS: tl.constexpr, PAIRS: tl.constexpr, KEYS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Softmax of the scores of one head's queries, turned by the angles of their tokens, with all keys."""
    head, group = tl.program_id(1), tl.program_id(2).to(tl.int64)
    places = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    there = (places < rows)[:, None]
    inner, pairs, ends = tl.arange(0, 2 * PAIRS), tl.arange(0, PAIRS), tl.arange(0, KEYS)
    q = tl.load(
        q_ptr + group * q_group + places[:, None] * q_row + head * (2 * PAIRS) + inner[None, :],
        mask=there, other=0.0,
    )  # fmt: skip
    table = (group * rows + places[:, None]) * PAIRS + pairs[None, :]
    cos = tl.load(cos_ptr + table, mask=there, other=0.0)
    sin = tl.load(sin_ptr + table, mask=there, other=0.0)
    even, odd = tl.split(tl.reshape(q.to(tl.float32), [BLOCK, PAIRS, 2]))
    turned = tl.join(even * cos - odd * sin, even * sin + odd * cos)
    turned = tl.reshape(turned, [BLOCK, 2 * PAIRS]).to(q.dtype)
    k = tl.load(
        k_ptr + group * k_group + head * k_head + ends[None, :] * k_key + inner[:, None],
        mask=(ends < keys)[None, :], other=0.0,
    )  # fmt: skip
    scores = tl.dot(turned, k, input_precision="ieee") * scale
    scores = tl.where((ends < keys)[None, :], scores, float("-inf"))
    weights = tl.exp(scores - tl.max(scores, axis=1)[:, None])
    shares = weights / tl.sum(weights, axis=1)[:, None]
    place = ((group * rows + places[:, None]) * HEADS + head) * keys + ends[None, :]
    tl.store(out_ptr + place, shares.to(out_ptr.dtype.element_ty), mask=there & (ends < keys)[None, :])
