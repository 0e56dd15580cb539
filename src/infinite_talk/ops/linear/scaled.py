"""8-bit weights with scales: integers or float8, one scale for the whole weight or one for each output row.

``W = data * scale``. The layouts of optimum-quanto, ComfyUI's scaled fp8 and LightX2V differ in names only.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from infinite_talk.ops.linear.packed import Parts, product


@dataclass(frozen=True, slots=True)
class Scaled:
    """Weights only: widened to the dtype of the activations for each product.

    Parts: ``data`` ``(out, in)`` in ``dtype``, ``scale`` float32 ``(out, 1)`` or ``(1, 1)``.
    """

    name: str
    dtype: torch.dtype
    limit: float  # the largest magnitude that the dtype is used for
    rows: bool = True  # a scale for each row when packing; files may have either

    def pack(self, weight: Tensor) -> Parts:
        wide = weight.float()
        largest = wide.abs().amax(dim=1, keepdim=True) if self.rows else wide.abs().amax().reshape(1, 1)
        # By a tensor: CUDA multiplies by the inverse of a number, which rounds otherwise than a CPU's division.
        # A scale of a denormal row would lose its bits, or be zero.
        scale = torch.where(largest > 0, largest / torch.full_like(largest, self.limit), 1.0)
        scale = scale.clamp(min=torch.finfo(torch.float32).tiny)
        data = wide / scale
        if not self.dtype.is_floating_point:
            data = data.round_()
        return {"data": data.clamp_(-self.limit, self.limit).to(self.dtype), "scale": scale}

    def unpack(self, parts: Parts, shape: tuple[int, int], dtype: torch.dtype) -> Tensor:
        # In place, so that the product is computed in float32 and rounded once without a float32 copy. All
        # three dtypes are exact in float32, bfloat16 and float16.
        return parts["data"].to(dtype).mul_(parts["scale"])

    def linear(self, x: Tensor, parts: Parts, shape: tuple[int, int], bias: Tensor | None) -> Tensor:
        # Scaling the weight is less work than scaling the product when there are more tokens than columns,
        # and it cannot leave the range of float16.
        return product(x, self.unpack(parts, shape, x.dtype), bias)


INT8 = Scaled("int8", torch.int8, 127.0)
FP8_E4M3FN = Scaled("fp8_e4m3fn_scaled", torch.float8_e4m3fn, 448.0)
FP8_E5M2 = Scaled("fp8_e5m2_scaled", torch.float8_e5m2, 57344.0)
