"""The codec's convolutions on a CPU: fewer multiplications, and only kernels that are fast there. No gradients.

A processor without matrix units computes a 3x3x3 convolution at its peak already, so the only way to save time is to
multiply less. ``filtered_in_time`` takes half of the multiplications with the minimal filtering of Winograd (1980), in
the form of Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks" (2015), along time only: there a
transformation adds whole frames, which costs little. Where a picture is doubled before, ``ops/codec`` takes 4/9
(``doubled_by_places``).

Frames are ``(F, C, H, W)`` in ``channels_last``.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from infinite_talk.ops.codec import PAST

BLOCK_BYTES = 4e6
"""Frames that are transformed together: few, so that they stay in the cache, but enough for two cores."""

NARROW = 16
"""Channels below which the transformations cost what they save."""

NEAR, FAR = 3 / 4, 3 / 2
"""F(4, 3) evaluates at 0, +-NEAR, +-FAR and infinity. Of all small binary fractions these lose the fewest digits; with
the usual 1 and 2 the largest error is twice as large."""
_GAP = 2 * (FAR**2 - NEAR**2)
# One flat kernel for each product, from the three frames of a kernel.
FOUR = (
    (1 / (NEAR * FAR) ** 2, 0, 0),
    (-1 / _GAP, -NEAR / _GAP, -(NEAR**2) / _GAP),
    (-1 / _GAP, NEAR / _GAP, -(NEAR**2) / _GAP),
    (1 / _GAP, FAR / _GAP, FAR**2 / _GAP),
    (1 / _GAP, -FAR / _GAP, FAR**2 / _GAP),
    (0, 0, 1),
)
TWO = ((1, 0, 0), (1 / 2, 1 / 2, 1 / 2), (1 / 2, -1 / 2, 1 / 2), (0, 0, 1))
"""F(2, 3) at 0, 1, -1 and infinity."""
BIASES = (1 - 1 / NEAR**2, (1 + NEAR) / 2, (1 - NEAR) / 2, 1 - NEAR**2)
"""How much of the bias goes into the products 0, 1, 2 and 5 of ``FOUR``, so that all four frames have it once."""


def suits(x: Tensor) -> bool:
    """Whether these functions serve ``x``: on a CPU, in full precision, without gradients."""
    on_cpu = x.device.type == "cpu" and x.dtype in (torch.float32, torch.float64)
    return on_cpu and not torch.is_grad_enabled() and not torch.compiler.is_compiling()


def filtered_in_time(frames: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """The causal 3x3x3 convolution of ``frames`` ``(PAST + F, C, H, W)``: ``(F, K, H, W)``.

    As ``sum_of_frames``, with 6 flat convolutions instead of 12 for each four frames, 4 instead of 6 for two that
    remain. Rounding weighs 1.5 times as much as in ``sum_of_frames``, a few 1e-6 of the largest value, and depends in
    the last bits on how a video is cut into pieces.

    Args:
        weight: ``(K, C, 3, 3, 3)``, its first frame for the oldest.
    """
    if frames.shape[1] < NARROW:
        return sum_of_frames(frames, weight, bias)
    count, height, width = len(frames) - PAST, *frames.shape[2:]
    out = _empty(frames, (count, len(weight), height, width))
    step = 4 * max(1, int(BLOCK_BYTES / (frames[0].numel() * frames.itemsize)))
    fours, done = count // 4 * 4, 0
    if fours:
        kernels = _combined(FOUR, weight)
        for done in range(0, fours, step):
            upto = min(fours, done + step)
            _by_four(frames[done : upto + PAST], kernels, bias, out[done:upto])
    done = fours
    if count - done >= 2:
        _by_two(frames[done : done + 2 + PAST], _combined(TWO, weight), bias, out[done : done + 2])
        done += 2
    if done < count:
        out[done:] = sum_of_frames(frames[done:], weight, bias)
    return out


def sum_of_frames(frames: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """The same by its definition: three flat convolutions over shifted frames."""
    count = len(frames) - PAST
    kernels = weight.unbind(2)
    total = functional.conv2d(frames[:count], kernels[0], bias, padding=1)
    total += functional.conv2d(frames[1 : 1 + count], kernels[1], padding=1)
    total += functional.conv2d(frames[2:], kernels[2], padding=1)
    return total


def _by_four(frames: Tensor, kernels: Tensor, bias: Tensor | None, out: Tensor) -> None:
    """Groups of four frames: ``(PAST + 4 n, C, H, W)`` to ``out`` ``(4 n, K, H, W)``."""
    last = len(out)
    d0, d1, d2, d3, d4, d5 = (frames[i : last + i - 3 : 4] for i in range(6))
    b0, b1, b2, b5 = (None if bias is None else bias * share for share in BIASES)
    even, odd = torch.sub(d4, d2, alpha=FAR**2), torch.sub(d3, d1, alpha=FAR**2)
    y1 = _conv(torch.add(even, odd, alpha=NEAR), kernels[1], b1)
    y2 = _conv(even.sub_(odd, alpha=NEAR), kernels[2], b2)
    torch.sub(d4, d2, alpha=NEAR**2, out=even)
    torch.sub(d3, d1, alpha=NEAR**2, out=odd)
    y3 = _conv(torch.add(even, odd, alpha=FAR), kernels[3])
    y4 = _conv(even.sub_(odd, alpha=FAR), kernels[4])
    both, product = NEAR**2 + FAR**2, (NEAR * FAR) ** 2
    y0 = _conv(torch.add(d4, d0, alpha=product).sub_(d2, alpha=both), kernels[0], b0)
    y5 = _conv(torch.add(d5, d1, alpha=product).sub_(d3, alpha=both), kernels[5], b5)
    near, far = y1 + y2, y3 + y4
    torch.add(near, far, out=out[2::4])
    torch.add(y0.add_(near, alpha=1 / NEAR**2), far, alpha=1 / FAR**2, out=out[0::4])
    near, far = y1.sub_(y2), y3.sub_(y4)
    torch.add(y5.add_(near, alpha=NEAR), far, alpha=FAR, out=out[3::4])
    torch.add(near.mul_(1 / NEAR), far, alpha=1 / FAR, out=out[1::4])


def _by_two(frames: Tensor, kernels: Tensor, bias: Tensor | None, out: Tensor) -> None:
    """Two frames: ``(PAST + 2, C, H, W)`` to ``out`` ``(2, K, H, W)``."""
    d0, d1, d2, d3 = torch.split(frames, 1)
    y1, y2 = _conv(d1 + d2, kernels[1], bias), _conv(d2 - d1, kernels[2])
    torch.add(_conv(d0 - d2, kernels[0]).add_(y1), y2, out=out[:1])
    torch.add(_conv(d3 - d1, kernels[3]).add_(y1), y2, alpha=-1, out=out[1:])


def _combined(rows: tuple[tuple[float, ...], ...], weight: Tensor) -> Tensor:
    """Flat kernels ``(products, K, C, 3, 3)``, computed in float64."""
    products = weight.new_tensor(rows, dtype=torch.float64)
    return torch.einsum("pt,kctyx->pkcyx", products, weight.double()).to(weight.dtype)


def _conv(x: Tensor, kernel: Tensor, bias: Tensor | None = None) -> Tensor:
    return functional.conv2d(x, kernel, bias, padding=1)


def along_channels(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """A 1x1(x1) convolution of ``(B, C, ...)`` as a matrix product; torch's own kernel for it is slow on a CPU."""
    return functional.linear(x.movedim(1, -1), weight.flatten(1), bias).movedim(-1, 1)


def along_time(x: Tensor, weight: Tensor, bias: Tensor | None, stride: int = 1) -> Tensor:
    """A 3x1x1 convolution of ``(B, C, F, H, W)`` as three matrix products, ``stride`` frames apart."""
    places = x.movedim(1, -1)  # (B, F, H, W, C)
    count = (x.shape[2] - 3) // stride + 1
    oldest, middle, newest = weight.flatten(2).unbind(2)
    total = functional.linear(places[:, : count * stride : stride][:, :count], oldest, bias)
    rows = total.view(-1, len(weight))
    for start, kernel in ((1, middle), (2, newest)):
        seen = places[:, start::stride][:, :count]
        rows.addmm_(seen.reshape(-1, x.shape[1]), kernel.t())
    return total.movedim(-1, 1)


def _empty(like: Tensor, shape: tuple[int, int, int, int]) -> Tensor:
    return torch.empty(shape, dtype=like.dtype, device=like.device, memory_format=torch.channels_last)
