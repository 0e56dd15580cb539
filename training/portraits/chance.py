"""Random numbers as pure functions of a seed: the same on every device, in every batch and in any order.

A 32-bit integer mix (two multiply-xorshift rounds) of seed and counter is computed in int64, where the low
32 bits of a product are exact on CPU and GPU alike; the upper 24 bits become a float32 without rounding.
"""

from __future__ import annotations

import torch
from torch import Tensor

_WORD = 0xFFFFFFFF


def _mix(value: Tensor) -> Tensor:
    """Scramble 32-bit words held in int64; every input bit reaches every output bit."""
    value = value & _WORD
    value = ((value ^ (value >> 16)) * 0x7FEB352D) & _WORD
    value = ((value ^ (value >> 15)) * 0x846CA68B) & _WORD
    return value ^ (value >> 16)


def uniform(seeds: Tensor, stream: int, counters: Tensor) -> Tensor:
    """Uniform float32 in [0, 1) for every pair of broadcast ``seeds`` and ``counters`` (int64, any sign).

    ``stream`` separates uses: two streams of one seed are independent.
    """
    word = _mix(seeds + 0x9E3779B9 * (stream + 1))
    word = _mix(word ^ _mix((seeds >> 32) + 0x85EBCA6B))
    word = _mix(word + _mix(counters + 0xC2B2AE35))
    return (word >> 8).to(torch.float32) * 2.0**-24


def table(seeds: Tensor, stream: int, count: int) -> Tensor:
    """``count`` uniforms per seed: (N, count)."""
    return uniform(seeds[:, None], stream, torch.arange(count, device=seeds.device))


def smooth_noise(seeds: Tensor, stream: int, frames: Tensor, period: float) -> Tensor:
    """Smooth noise (N, F) with about unit deviation at absolute frame numbers ``frames`` (F,).

    Random knots every ``period`` frames, joined by a cubic B-spline: continuous up to the second derivative,
    and defined for any frame without knowing its neighbours.
    """
    time = frames.to(torch.float32) / period
    knot = torch.floor(time)
    t = time - knot
    weights = (
        torch.stack(((1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, -3 * t**3 + 3 * t**2 + 3 * t + 1, t**3), dim=-1)
        / 6
    )  # (F, 4)
    knots = knot.to(torch.int64)[:, None] + torch.arange(-1, 3, device=frames.device)  # (F, 4)
    values = uniform(seeds[:, None, None], stream, knots) - 0.5  # (N, F, 4)
    return (values * weights).sum(-1) * 5.0  # uniform deviation 0.29, spline keeps 0.69 of it


__all__ = ["smooth_noise", "table", "uniform"]
