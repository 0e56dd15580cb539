"""Activations in 8 bits: each row scaled by its own largest magnitude, found on the device without waiting.

A row of zeros becomes zeros with a harmless scale. NaN and infinity in a row make its results NaN; they are
never hidden. Nothing saturates: the largest magnitude of a row lands on the largest number of the format.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

E4M3_LARGEST = 448.0
INT8_LARGEST = 127.0
_SMALLEST = 1e-30  # rows below it count as zeros; its inverse times 448 is still a bfloat16


def rows_to_float8(x: Tensor) -> tuple[Tensor, Tensor]:
    """``x (M, K)`` as ``(data float8_e4m3fn, scale float32 (M, 1))`` with ``x = data * scale``.

    Float32 and bfloat16 are scaled in their own dtype, so that no wider copy of ``x`` is made: the factor is
    rounded first and ``scale`` is its exact inverse. The product's rounding to bfloat16 (2^-9) vanishes beside
    that to three bits of mantissa (2^-4). It can exceed 448 by 2^-8, which rounds to 448.
    """
    factor = E4M3_LARGEST / _largest(x)
    if x.dtype == torch.float16:  # its range is too small for the factor
        x = x.float()
    factor = factor.to(x.dtype)
    return (x * factor).to(torch.float8_e4m3fn), factor.float().reciprocal()


def rows_to_int8(x: Tensor) -> tuple[Tensor, Tensor]:
    """``x (M, K)`` as ``(data int8, scale float32 (M, 1))`` with ``x = data * scale``.

    In float32, since bfloat16 has too few bits for 255 levels.
    """
    largest = _largest(x)
    scaled = (x.float() * (INT8_LARGEST / largest)).round_()
    # An integer has no NaN: the scale carries it (and infinity) into the results.
    return scaled.nan_to_num_(0.0, 0.0, 0.0).to(torch.int8), largest / INT8_LARGEST


def _largest(x: Tensor) -> Tensor:
    """The largest magnitude of each row, float32 ``(M, 1)``, never zero; NaN stays NaN."""
    largest: Tensor = torch.linalg.vector_norm(x, ord=float("inf"), dim=-1, keepdim=True)
    return largest.float().clamp(min=_SMALLEST)


@dataclass(frozen=True, slots=True, eq=False)
class Float8Rows:
    """Activations as the product in 8 bits wants them: ``x = data * scale``."""

    data: Tensor  # (..., K) float8_e4m3fn
    scale: Tensor  # (M, 1) float32, M being the product of the other sizes
    dtype: torch.dtype  # of the activations, and of products with them

    @property
    def shape(self) -> torch.Size:
        return self.data.shape

    def plain(self) -> Tensor:
        """The activations, rounded as they are."""
        rows = self.data.float().flatten(0, -2) * self.scale
        return rows.view(self.data.shape).to(self.dtype)


Activations = Tensor | Float8Rows


def float8_rows(x: Tensor) -> Float8Rows:
    """``x (..., K)``, each row with a scale of its own."""
    data, scale = rows_to_float8(x.reshape(-1, x.shape[-1]))
    return Float8Rows(data.view(x.shape), scale, x.dtype)
