"""Weights cast to float8 as they are, without a scale: the plain "fp8" files.

What is larger than the format's largest number would become NaN or a wrong number in silence, so it is
refused; what is smaller than its normal numbers loses bits, which is why the scaled kind is more exact.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from infinite_talk.errors import CapabilityError
from infinite_talk.ops.linear.packed import Parts, product


@dataclass(frozen=True, slots=True)
class Float8:
    """Weights only: widened to the dtype of the activations for each product. Parts: ``data (out, in)``."""

    name: str
    dtype: torch.dtype

    def pack(self, weight: Tensor) -> Parts:
        limit = torch.finfo(self.dtype).max
        outside = int((weight.abs() > limit).sum())
        if outside:
            raise CapabilityError(
                f"{outside} of its numbers are larger than {limit:g}, the largest of {self.name}. Take the "
                "scaled kind, which has no such limit.",
                code="out_of_range",
            )
        return {"data": weight.to(self.dtype)}

    def unpack(self, parts: Parts, shape: tuple[int, int], dtype: torch.dtype) -> Tensor:
        return parts["data"].to(dtype)  # exact in every base precision

    def linear(self, x: Tensor, parts: Parts, shape: tuple[int, int], bias: Tensor | None) -> Tensor:
        return product(x, self.unpack(parts, shape, x.dtype), bias)


PLAIN_E4M3FN = Float8("fp8_e4m3fn", torch.float8_e4m3fn)
PLAIN_E5M2 = Float8("fp8_e5m2", torch.float8_e5m2)
