"""MXFP4 weights (OCP Microscaling Formats 1.0): 4-bit floats in blocks of 32 that share a power of two."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from infinite_talk.ops.linear.nibbles import E2M1, E2M1_LARGEST, blocks, join, look_up, to_e2m1
from infinite_talk.ops.linear.packed import Parts, product

BLOCK = 32
_EXPONENTS = (-126, 127)  # of the shared power of two; the format's lowest, -127, is no normal float32


@dataclass(frozen=True, slots=True)
class MicroscalingFloat4:
    """Weights only. Parts: ``data`` uint8 ``(out, in / 2)``, ``scale`` float8_e8m0fnu ``(out, in / 32)``.

    The power of two is the smallest that keeps the block's largest magnitude within 6: the specification's
    own rule would cut what lies between 6 and 8. Unpacking is exact in float32 and bfloat16.
    """

    name: str = "fp4_experimental"

    def pack(self, weight: Tensor) -> Parts:
        cut = blocks(weight.float(), BLOCK)
        largest = cut.abs().amax(dim=-1)
        # frexp is exact where a logarithm is not: m * 2^e with m in [1/2, 1), so a power of two is m = 1/2.
        mantissa, exponent = torch.frexp(largest / E2M1_LARGEST)
        exponent = torch.where(mantissa == 0.5, exponent - 1, exponent)
        exponent = torch.where(largest > 0, exponent, 0).clamp(*_EXPONENTS)
        scale = torch.ldexp(torch.ones_like(largest), exponent)
        codes = to_e2m1((cut / scale[..., None]).clamp(-E2M1_LARGEST, E2M1_LARGEST))
        return {"data": join(codes.flatten(1)), "scale": scale.to(torch.float8_e8m0fnu)}

    def unpack(self, parts: Parts, shape: tuple[int, int], dtype: torch.dtype) -> Tensor:
        numbers = look_up(parts["data"], E2M1, dtype)
        torch.unflatten(numbers, -1, (-1, BLOCK)).mul_(parts["scale"].float()[..., None])
        return numbers[:, : shape[1]]

    def linear(self, x: Tensor, parts: Parts, shape: tuple[int, int], bias: Tensor | None) -> Tensor:
        return product(x, self.unpack(parts, shape, x.dtype), bias)


MXFP4 = MicroscalingFloat4()
