"""Triton kernels behind ``steps``: norm with SiLU into padded maps, and convolutions. Import only where Triton is.

Maps are ``(B, F, H, W, C)`` without gaps, which torch calls ``channels_last_3d``. Padded maps have ``PAST`` frames
in front and a border of zeros one pixel wide, so that a convolution reads without asking where it is.
"""
# mypy: disable-error-code="no-untyped-def, untyped-decorator"

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit(do_not_specialize=["F"])
def norm_silu_pad(
    x, gamma, past, out, F, H, W, C, root, PAST: tl.constexpr, HAS_PAST: tl.constexpr, ACTIVE: tl.constexpr,
    PIXELS: tl.constexpr, CHANNELS: tl.constexpr,
):  # fmt: skip
    """``out`` ``(B, PAST + F, H + 2, W + 2, C)``: ``past`` or zeros, then ``silu(norm(x))`` in a border of zeros.

    Each program writes ``PIXELS`` pixels of one padded frame. Statistics and products are float32.
    """
    frame, batch = tl.program_id(1), tl.program_id(2)
    plane = (H + 2) * (W + 2)
    pixel = tl.program_id(0) * PIXELS + tl.arange(0, PIXELS)
    channel = tl.arange(0, CHANNELS)
    there = (pixel < plane)[:, None] & (channel < C)[None, :]
    target = out + (batch * (PAST + F) + frame).to(tl.int64) * plane * C
    place = pixel[:, None] * C + channel[None, :]
    if frame < PAST:
        if HAS_PAST:
            remembered = past + (batch * PAST + frame).to(tl.int64) * plane * C
            tl.store(target + place, tl.load(remembered + place, there, other=0.0), there)
        else:
            tl.store(target + place, tl.zeros((PIXELS, CHANNELS), out.dtype.element_ty), there)
    else:
        row, column = pixel // (W + 2) - 1, pixel % (W + 2) - 1
        inside = (row >= 0) & (row < H) & (column >= 0) & (column < W)
        source = x + (batch * F + frame - PAST).to(tl.int64) * H * W * C
        read = (row * W + column)[:, None] * C + channel[None, :]
        value = tl.load(source + read, inside[:, None] & (channel < C)[None, :], other=0.0).to(tl.float32)
        length = tl.maximum(tl.sqrt(tl.sum(value * value, 1)), 1e-12)
        scale = tl.load(gamma + channel, channel < C, other=0.0).to(tl.float32)
        value = value * (root / length)[:, None] * scale[None, :]
        if ACTIVE:
            value = value * tl.sigmoid(value)
        tl.store(target + place, value.to(out.dtype.element_ty), there)


@triton.jit
def _answer(out, shortcut, bias, total, pixel, column, there, N, HAS_SHORTCUT: tl.constexpr):
    """Write a tile of sums with its bias, added to the shortcut where there is one."""
    place = pixel[:, None] * N + column[None, :]
    total += tl.load(bias + column, column < N, other=0.0).to(tl.float32)[None, :]
    there = there[:, None] & (column < N)[None, :]
    if HAS_SHORTCUT:
        total += tl.load(shortcut + place, there, other=0.0).to(tl.float32)
    tl.store(out + place, total.to(out.dtype.element_ty), there)


@triton.jit
def _answers(
    out, shortcut, bias, s0, s1, s2, pixel, column, there, left, jump, N, HAS_SHORTCUT: tl.constexpr,
    FRAMES: tl.constexpr,
):  # fmt: skip
    """The tiles of ``FRAMES`` frames, ``jump`` numbers apart, of which ``left`` are kept."""
    _answer(out, shortcut, bias, s0, pixel, column, there, N, HAS_SHORTCUT)
    _answer(out + jump, shortcut + jump, bias, s1, pixel, column, there & (left > 1), N, HAS_SHORTCUT)
    if FRAMES > 2:
        out += 2 * jump
        shortcut += 2 * jump
        _answer(out, shortcut, bias, s2, pixel, column, there & (left > 2), N, HAS_SHORTCUT)


@triton.jit
def _products(u0, u1, u2, u3, u4, weight, apart, s0, s1, s2, FRAMES: tl.constexpr):
    """Add what five frames of input give to the sums of three, with weights of three times, ``apart`` numbers apart."""
    v0, v1, v2 = tl.load(weight), tl.load(weight + apart), tl.load(weight + 2 * apart)
    s0 = tl.dot(u2, v2, tl.dot(u1, v1, tl.dot(u0, v0, s0)))
    s1 = tl.dot(u3, v2, tl.dot(u2, v1, tl.dot(u1, v0, s1)))
    if FRAMES > 2:
        s2 = tl.dot(u4, v2, tl.dot(u3, v1, tl.dot(u2, v0, s2)))
    return s0, s1, s2


@triton.jit(do_not_specialize=["F"])
def causal_conv(
    x, weight, bias, shortcut, out, F, H, W, K: tl.constexpr, N: tl.constexpr, HAS_SHORTCUT: tl.constexpr,
    FRAMES: tl.constexpr, PIXELS: tl.constexpr, WIDE: tl.constexpr, NARROW: tl.constexpr, DEPTH: tl.constexpr,
    STAGES: tl.constexpr,
):  # fmt: skip
    """3x3x3 convolution of a padded map as a product of matrices that never stands in memory.

    A program computes ``FRAMES`` (2 or 3) frames of ``PIXELS`` pixels and ``WIDE + NARROW`` channels: 96 channels
    are 64 and 32, as the sides of a tile are powers of two. The frames share what they read: for each of the 9
    places of the kernel in the plane, ``FRAMES + 2`` frames of input and 3 slices of weights serve ``3 FRAMES``
    products, where a program for each frame would read as much for 3.

    Args:
        x: ``(B, F + 2, H + 2, W + 2, K)``.
        weight: ``(N, 3, 3, 3, K)``, time, height, width.
        bias: ``(N)``.
        shortcut: as ``out``; added where ``HAS_SHORTCUT``.
        out: ``(B, F, H, W, N)``.
        DEPTH: channels of input at a time, a divisor of ``K``.
    """
    TILES: tl.constexpr = (N + WIDE + NARROW - 1) // (WIDE + NARROW)
    tile, first, batch = tl.program_id(0), tl.program_id(1) * FRAMES, tl.program_id(2)
    pixel = (tile // TILES) * PIXELS + tl.arange(0, PIXELS)
    clamped = tl.minimum(pixel, H * W - 1)
    step = tl.full((), K, tl.int64) * (H + 2) * (W + 2)  # numbers of a frame; offsets may exceed 31 bits
    depth = tl.arange(0, DEPTH)
    read = ((clamped // W) * (W + 2) + clamped % W)[:, None] * K + depth[None, :]
    left = F - first  # frames beyond the last are never kept; the last one is read in their place
    x0 = x + (batch * (F + 2) + first) * step
    x3, x4 = x0 + tl.minimum(3, left + 1) * step, x0 + tl.minimum(4, left + 1) * step
    wide = (tile % TILES) * (WIDE + NARROW) + tl.arange(0, WIDE)
    seen_wide = weight + tl.minimum(wide, N - 1)[None, :] * (27 * K) + depth[:, None]
    a0, a1, a2 = _zeros(PIXELS, WIDE)
    if NARROW:
        narrow = (tile % TILES) * (WIDE + NARROW) + WIDE + tl.arange(0, NARROW)
        seen_narrow = weight + tl.minimum(narrow, N - 1)[None, :] * (27 * K) + depth[:, None]
        b0, b1, b2 = _zeros(PIXELS, NARROW)
    for part in tl.range(0, 9 * K // DEPTH, num_stages=STAGES):
        tap = part // (K // DEPTH)
        at = (tap // 3 * (W + 2) + tap % 3) * K + (part - tap * (K // DEPTH)) * DEPTH
        u0, u1, u2 = (
            tl.load(x0 + at + read),
            tl.load(x0 + step + at + read),
            tl.load(x0 + 2 * step + at + read),
        )
        u3 = tl.load(x3 + at + read)
        u4 = tl.load(x4 + at + read) if FRAMES > 2 else u3
        a0, a1, a2 = _products(u0, u1, u2, u3, u4, seen_wide + part * DEPTH, 9 * K, a0, a1, a2, FRAMES)
        if NARROW:
            b0, b1, b2 = _products(u0, u1, u2, u3, u4, seen_narrow + part * DEPTH, 9 * K, b0, b1, b2, FRAMES)
    jump = tl.full((), N, tl.int64) * H * W
    out += (batch * F + first) * jump
    shortcut += (batch * F + first) * jump
    there = pixel < H * W
    _answers(out, shortcut, bias, a0, a1, a2, pixel, wide, there, left, jump, N, HAS_SHORTCUT, FRAMES)
    if NARROW:
        _answers(out, shortcut, bias, b0, b1, b2, pixel, narrow, there, left, jump, N, HAS_SHORTCUT, FRAMES)


@triton.jit
def _zeros(PIXELS: tl.constexpr, CHANNELS: tl.constexpr):
    empty = tl.zeros((PIXELS, CHANNELS), tl.float32)
    return empty, empty, empty


@triton.jit(do_not_specialize=["F"])
def causal_conv_frame(
    x, weight, bias, shortcut, out, F, H, W, K: tl.constexpr, N: tl.constexpr, HAS_SHORTCUT: tl.constexpr,
    PIXELS: tl.constexpr, WIDE: tl.constexpr, NARROW: tl.constexpr, DEPTH: tl.constexpr, STAGES: tl.constexpr,
):  # fmt: skip
    """As ``causal_conv``, a frame to a program: reads more, but each sum has one product in flight at a time."""
    TILES: tl.constexpr = (N + WIDE + NARROW - 1) // (WIDE + NARROW)
    tile, frame, batch = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    pixel = (tile // TILES) * PIXELS + tl.arange(0, PIXELS)
    there = pixel < H * W
    clamped = tl.minimum(pixel, H * W - 1)
    row_of = W + 2
    step = tl.full((), K, tl.int64) * (H + 2) * row_of
    depth = tl.arange(0, DEPTH)
    base = x + (batch * (F + 2) + frame) * step
    read = ((clamped // W) * row_of + clamped % W)[:, None] * K + depth[None, :]
    wide = (tile % TILES) * (WIDE + NARROW) + tl.arange(0, WIDE)
    seen_wide = weight + tl.minimum(wide, N - 1)[None, :] * (27 * K) + depth[:, None]
    a = tl.zeros((PIXELS, WIDE), tl.float32)
    if NARROW:
        narrow = (tile % TILES) * (WIDE + NARROW) + WIDE + tl.arange(0, NARROW)
        seen_narrow = weight + tl.minimum(narrow, N - 1)[None, :] * (27 * K) + depth[:, None]
        b = tl.zeros((PIXELS, NARROW), tl.float32)
    for part in tl.range(0, 27 * K // DEPTH, num_stages=STAGES):
        tap = part // (K // DEPTH)
        at = (tap // 3 % 3 * row_of + tap % 3) * K + (part - tap * (K // DEPTH)) * DEPTH
        u = tl.load(base + (tap // 9) * step + at + read)
        a = tl.dot(u, tl.load(seen_wide + part * DEPTH), a)
        if NARROW:
            b = tl.dot(u, tl.load(seen_narrow + part * DEPTH), b)
    start = (batch * F + frame) * (tl.full((), N, tl.int64) * H * W)
    out += start
    shortcut += start
    _answer(out, shortcut, bias, a, pixel, wide, there, N, HAS_SHORTCUT)
    if NARROW:
        _answer(out, shortcut, bias, b, pixel, narrow, there, N, HAS_SHORTCUT)


@triton.jit
def doubled_conv(
    x, weight, bias, out, H, W, K: tl.constexpr, N: tl.constexpr, PIXELS: tl.constexpr, WIDE: tl.constexpr,
    NARROW: tl.constexpr, DEPTH: tl.constexpr, STAGES: tl.constexpr,
):  # fmt: skip
    """3x3 convolution of a picture of twice the size, from the pixels before doubling.

    Of the doubled pixels that a 3x3 kernel sees many are equal: each of the four places ``(row, column)`` in a
    2x2 square of the output is a 2x2 convolution with summed weights. A program computes one place of ``PIXELS``
    squares of a frame.

    Args:
        x: ``(frames, H, W, K)``.
        weight: ``(4, N, 2, 2, K)``: the place, then the kernel.
        bias: ``(N)``.
        out: ``(frames, 2 H, 2 W, N)``.
    """
    TILES: tl.constexpr = (N + WIDE + NARROW - 1) // (WIDE + NARROW)
    tile, place, frame = tl.program_id(0), tl.program_id(1), tl.program_id(2).to(tl.int64)
    pixel = (tile // TILES) * PIXELS + tl.arange(0, PIXELS)
    there = pixel < H * W
    row, column = pixel // W, pixel % W
    depth = tl.arange(0, DEPTH)
    source = x + frame * H * W * K
    weight += place * (N * 4 * K)
    wide = (tile % TILES) * (WIDE + NARROW) + tl.arange(0, WIDE)
    seen_wide = weight + tl.minimum(wide, N - 1)[None, :] * (4 * K) + depth[:, None]
    a = tl.zeros((PIXELS, WIDE), tl.float32)
    if NARROW:
        narrow = (tile % TILES) * (WIDE + NARROW) + WIDE + tl.arange(0, NARROW)
        seen_narrow = weight + tl.minimum(narrow, N - 1)[None, :] * (4 * K) + depth[:, None]
        b = tl.zeros((PIXELS, NARROW), tl.float32)
    for part in tl.range(0, 4 * K // DEPTH, num_stages=STAGES):
        tap = part // (K // DEPTH)
        down, across = row + (place // 2 + tap // 2 - 1), column + (place % 2 + tap % 2 - 1)
        inside = there & (down >= 0) & (down < H) & (across >= 0) & (across < W)
        at = (down * W + across)[:, None] * K + (part - tap * (K // DEPTH)) * DEPTH + depth[None, :]
        u = tl.load(source + at, inside[:, None], other=0.0)
        a = tl.dot(u, tl.load(seen_wide + part * DEPTH), a)
        if NARROW:
            b = tl.dot(u, tl.load(seen_narrow + part * DEPTH), b)
    target = out + frame * 4 * H * W * N
    square = (2 * row + place // 2) * (2 * W) + 2 * column + place % 2
    _answer(target, target, bias, a, square, wide, there, N, False)
    if NARROW:
        _answer(target, target, bias, b, square, narrow, there, N, False)
