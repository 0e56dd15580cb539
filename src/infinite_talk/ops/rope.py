"""Rotary position embedding in real arithmetic: interleaved pairs ``(x[2j], x[2j+1])`` turned by an angle.

Tables are built in float64 and kept in float32, so that a rotation costs two multiplications per number and
no complex types, which compilers and low precisions handle badly.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from infinite_talk.errors import UsageError

BASE = 10000.0


class Rotation(NamedTuple):
    """Cosine and sine of the angle of each pair; float32, ``(..., L, d / 2)``."""

    cos: Tensor
    sin: Tensor


def frequencies(width: int, device: torch.device | None = None, base: float = BASE) -> Tensor:
    """``base^(-2j / width)`` for the ``width / 2`` pairs, float64."""
    return base ** (-torch.arange(0, width, 2, dtype=torch.float64, device=device) / width)


def line_rotation(positions: Tensor, width: int) -> Rotation:
    """Rotation of ``width`` numbers for (fractional) ``positions`` ``(..., L)``; angles in float32."""
    angles = positions.float()[..., None] * frequencies(width, positions.device).float()
    return Rotation(angles.cos(), angles.sin())


def grid_rotation(
    grid: tuple[int, int, int],
    width: int,
    device: torch.device | None = None,
    riflex: int = 0,
    ntk: tuple[float, float, float] = (1.0, 1.0, 1.0),
) -> Rotation:
    """Rotation of ``width`` numbers for the tokens of a (frames, rows, columns) grid in row-major order.

    The numbers are split into a share for time and two equal, smaller ones for rows and columns, each with
    its own base of frequencies (Wan2.1). Positions start at 0. Tables ``(frames*rows*columns, width/2)``.

    Args:
        riflex: which frequency of the time axis, from 1, turns by 0.9 of a circle over all frames, so that a
            video longer than those of the training does not repeat itself (RIFLEx, Zhao et al., 2025); 0: none.
        ntk: factors of the base for time, rows and columns; more than 1 turns slower (NTK-aware scaling).

    Raises:
        UsageError: the time axis has no such frequency, or a factor is not positive.
    """
    across = 2 * (width // 6)
    shares = (width - 2 * across, across, across)
    if not 0 <= riflex <= shares[0] // 2 or not all(factor > 0 for factor in ntk):
        raise UsageError(
            f"RIFLEx frequency {riflex} and NTK factors {ntk}: this model has time frequencies 1 to "
            f"{shares[0] // 2}, 0 is none, and factors are greater than 0 (1 changes nothing).",
            code="positions",
        )
    angles = []
    for axis, (length, share) in enumerate(zip(grid, shares, strict=True)):
        turns = frequencies(share, device, BASE * ntk[axis])
        if axis == 0 and riflex:
            turns[riflex - 1] = 0.9 * 2 * math.pi / length
        along = torch.outer(torch.arange(length, dtype=torch.float64, device=device), turns)
        shape = [1, 1, 1, share // 2]
        shape[axis] = length
        angles.append(along.view(shape).expand(*grid, -1))
    table = torch.cat(angles, dim=-1).flatten(0, 2)
    return Rotation(table.cos().float(), table.sin().float())


def rotate(x: Tensor, rotation: Rotation) -> Tensor:
    """Turn ``x`` ``(B, L, heads, d)`` by ``(L, d/2)`` or ``(B, L, d/2)`` angles; float32 inside.

    An uncompiled CPU run multiplies complex numbers, which is one pass over memory instead of eight and gives
    the same bits; compilers do better with the real form.
    """
    if x.device.type == "cpu" and not torch.compiler.is_compiling():
        return rotate_complex(x, rotation)
    return rotate_real(x, rotation)


def rotate_real(x: Tensor, rotation: Rotation) -> Tensor:
    """The definition, in real numbers."""
    cos, sin = rotation.cos.unsqueeze(-2), rotation.sin.unsqueeze(-2)
    even, odd = torch.unflatten(x.float(), -1, (-1, 2)).unbind(-1)
    return torch.stack((even * cos - odd * sin, even * sin + odd * cos), dim=-1).flatten(-2).to(x.dtype)


def rotate_complex(x: Tensor, rotation: Rotation) -> Tensor:
    """The same as a product of complex numbers."""
    turn = torch.complex(rotation.cos, rotation.sin).unsqueeze(-2)
    pairs = torch.view_as_complex(torch.unflatten(x.float(), -1, (-1, 2)).contiguous())
    return torch.view_as_real(pairs * turn).flatten(-2).to(x.dtype)
