"""Rotary position embedding in real arithmetic: interleaved pairs ``(x[2j], x[2j+1])`` turned by an angle.

Tables are built in float64 and kept in float32, so that a rotation costs two multiplications per number and
no complex types, which compilers and low precisions handle badly.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

BASE = 10000.0


class Rotation(NamedTuple):
    """Cosine and sine of the angle of each pair; float32, ``(..., L, d / 2)``."""

    cos: Tensor
    sin: Tensor


def frequencies(width: int, device: torch.device | None = None) -> Tensor:
    """``10000^(-2j / width)`` for the ``width / 2`` pairs, float64."""
    return BASE ** (-torch.arange(0, width, 2, dtype=torch.float64, device=device) / width)


def line_rotation(positions: Tensor, width: int) -> Rotation:
    """Rotation of ``width`` numbers for (fractional) ``positions`` ``(..., L)``; angles in float32."""
    angles = positions.float()[..., None] * frequencies(width, positions.device).float()
    return Rotation(angles.cos(), angles.sin())


def grid_rotation(grid: tuple[int, int, int], width: int, device: torch.device | None = None) -> Rotation:
    """Rotation of ``width`` numbers for the tokens of a (frames, rows, columns) grid in row-major order.

    The numbers are split into a share for time and two equal, smaller ones for rows and columns, each with
    its own base of frequencies (Wan2.1). Positions start at 0. Tables ``(frames*rows*columns, width/2)``.
    """
    across = 2 * (width // 6)
    shares = (width - 2 * across, across, across)
    angles = []
    for axis, (length, share) in enumerate(zip(grid, shares, strict=True)):
        along = torch.outer(
            torch.arange(length, dtype=torch.float64, device=device), frequencies(share, device)
        )
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
