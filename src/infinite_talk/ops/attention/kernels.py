"""Triton kernels that prepare attention in 8 bits. Import only where Triton is installed."""
# mypy: disable-error-code="no-untyped-def, untyped-decorator"

from __future__ import annotations

import triton
import triton.language as tl

LARGEST = tl.constexpr(448.0)  # of float8_e4m3fn
SMALLEST = tl.constexpr(1e-30)


@triton.jit
def range_kernel(
    x_ptr, parts_ptr, length, heads, per_part, x_batch, x_token, x_head, parts_kind, parts_part,
    DIM: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Sum, smallest and largest number of each channel over a part of the tokens of one head."""
    head, part = tl.program_id(0), tl.program_id(1)
    start = x_ptr + (head // heads).to(tl.int64) * x_batch + (head % heads) * x_head
    channels, rows = tl.arange(0, DIM), tl.arange(0, BLOCK)
    total = tl.zeros([BLOCK, DIM], tl.float32)
    low = tl.full([BLOCK, DIM], float("inf"), tl.float32)
    high = tl.full([BLOCK, DIM], float("-inf"), tl.float32)
    for first in range(part * per_part, (part + 1) * per_part, BLOCK):
        tokens = first + rows
        there = (tokens < length)[:, None]
        place = start + tokens.to(tl.int64)[:, None] * x_token + channels[None, :]
        x = tl.load(place, mask=there, other=0.0).to(tl.float32)
        total += x
        low = tl.minimum(low, tl.where(there, x, float("inf")))
        high = tl.maximum(high, tl.where(there, x, float("-inf")))
    out = parts_ptr + part * parts_part + head * DIM + channels
    tl.store(out, tl.sum(total, axis=0))
    tl.store(out + parts_kind, tl.min(low, axis=0))
    tl.store(out + 2 * parts_kind, tl.max(high, axis=0))


@triton.jit
def scale_kernel(
    parts_ptr, mean_ptr, scale_ptr, length, parts, parts_kind, parts_part,
    DIM: tl.constexpr, PARTS: tl.constexpr, CENTRE: tl.constexpr,
):  # fmt: skip
    """From the parts of one head: the mean of each channel, and the scale that the numbers apart from it want."""
    head = tl.program_id(0)
    channels, rows = tl.arange(0, DIM), tl.arange(0, PARTS)
    there = (rows < parts)[:, None]
    place = parts_ptr + rows[:, None] * parts_part + head * DIM + channels[None, :]
    mean = tl.zeros([DIM], tl.float32)
    if CENTRE:
        mean = tl.sum(tl.load(place, mask=there, other=0.0), axis=0) / length
        tl.store(mean_ptr + head * DIM + channels, mean)
    low = tl.min(tl.load(place + parts_kind, mask=there, other=float("inf")), axis=0)
    high = tl.max(tl.load(place + 2 * parts_kind, mask=there, other=float("-inf")), axis=0)
    largest = tl.max(tl.maximum(high - mean, mean - low), axis=0)
    tl.store(scale_ptr + head, tl.maximum(largest, SMALLEST) / LARGEST)


@triton.jit
def narrow_heads_kernel(
    x_ptr, mean_ptr, scale_ptr, out_ptr, length, heads, x_batch, x_token, x_head,
    DIM: tl.constexpr, BLOCK: tl.constexpr, CENTRE: tl.constexpr,
):  # fmt: skip
    """``(x - mean) / scale`` of one head as float8, ``(B, L, heads, DIM)`` without gaps."""
    head, rows = tl.program_id(1), tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    batch, own = (head // heads).to(tl.int64), head % heads
    channels, there = tl.arange(0, DIM), (rows < length)[:, None]
    tokens = rows.to(tl.int64)[:, None]
    x = tl.load(
        x_ptr + batch * x_batch + tokens * x_token + own * x_head + channels[None, :], mask=there, other=0.0
    ).to(tl.float32)
    if CENTRE:
        x -= tl.load(mean_ptr + head * DIM + channels)[None, :]
    x = x / tl.load(scale_ptr + head)
    place = ((batch * length + tokens) * heads + own) * DIM + channels[None, :]
    tl.store(out_ptr + place, x.to(tl.float8e4nv), mask=there)


@triton.jit
def add_mean_kernel(x_ptr, mean_ptr, length, width, BLOCK: tl.constexpr):
    """Add ``mean`` ``(B, width)`` to each token of ``x`` ``(B, length, width)``."""
    row = tl.program_id(0).to(tl.int64)
    cols = tl.arange(0, BLOCK)
    mask = cols < width
    mean = tl.load(mean_ptr + (row // length) * width + cols, mask=mask, other=0.0)
    x = tl.load(x_ptr + row * width + cols, mask=mask, other=0.0).to(tl.float32)
    tl.store(x_ptr + row * width + cols, (x + mean).to(x_ptr.dtype.element_ty), mask=mask)
