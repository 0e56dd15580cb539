"""Two 4-bit codes in a byte: the earlier one in the lower half, as torch, cuBLAS and the OCP formats have it."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

E2M1 = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, -0.0, -0.5, -1.0, -1.5, -2.0, -3.0, -4.0, -6.0)
"""The 16 numbers of a 4-bit float with two bits of exponent and one of mantissa, by code (OCP MX 1.0)."""
E2M1_LARGEST = 6.0

# Between neighbours of E2M1: what is above goes up. Halfway goes to the even mantissa, so each second border
# is a hair below the middle.
_BORDERS = (0.25, 0.75, 1.25, 1.75, 2.5, 3.5, 5.0)


def join(codes: Tensor) -> Tensor:
    """Codes 0..15 ``(..., 2n)`` of any integer type -> bytes ``(..., n)`` uint8."""
    pairs = torch.unflatten(codes.to(torch.uint8), -1, (-1, 2))
    return pairs[..., 0] | (pairs[..., 1] << 4)


def look_up(data: Tensor, table: tuple[float, ...], dtype: torch.dtype) -> Tensor:
    """Bytes ``(..., n)`` -> the numbers that their codes stand for, ``(..., 2n)`` in ``dtype``.

    One look-up for each byte, in a table of all 256 pairs.
    """
    numbers = torch.tensor(table, device=data.device).to(dtype)
    byte = torch.arange(256, device=data.device)
    pairs = torch.stack([numbers[byte & 15], numbers[byte >> 4]], dim=-1)
    return F.embedding(data.int(), pairs).flatten(-2)


def swapped(data: Tensor) -> Tensor:
    """Bytes with their halves exchanged, for files that have the earlier code in the upper half."""
    return (data >> 4) | (data << 4)


def to_e2m1(x: Tensor) -> Tensor:
    """Float32 numbers, at most 6 in magnitude -> codes 0..15 of the nearest ``E2M1``, int32. Zeros keep signs."""
    middle = torch.tensor(_BORDERS, device=x.device)
    below = torch.nextafter(middle, torch.zeros_like(middle))
    upwards = torch.arange(len(_BORDERS), device=x.device) % 2 == 1
    codes = torch.bucketize(x.abs(), torch.where(upwards, below, middle), out_int32=True)
    return codes | (torch.signbit(x).to(torch.int32) << 3)


def blocks(x: Tensor, size: int) -> Tensor:
    """Rows ``(..., n)`` cut into blocks ``(..., ceil(n / size), size)``; the last is filled with zeros."""
    return torch.unflatten(F.pad(x, (0, -x.shape[-1] % size)), -1, (-1, size))
