"""``PackedLinear``: takes the place of ``nn.Linear`` when its weight is packed."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from infinite_talk.ops.linear.fast8 import FastFloat8
from infinite_talk.ops.linear.lora import LoRALinear
from infinite_talk.ops.linear.packed import Packed
from infinite_talk.ops.linear.rows import Activations, Float8Rows

_PART = "weight_"
"""Buffers are called by this and the part's name."""


class PackedLinear(nn.Module):
    """``x W^T + b`` with a packed ``W``. The parts are buffers, so they move with the module."""

    def __init__(self, packed: Packed, bias: Tensor | None, dtype: torch.dtype) -> None:
        """``dtype``: of ``weight`` when somebody asks for the plain one."""
        super().__init__()
        self.out_features, self.in_features = packed.shape
        self.format = packed.format
        self.dtype = dtype
        self._names = tuple(packed.parts)
        for name, part in packed.parts.items():
            self.register_buffer(_PART + name, part)
        self.bias = None if bias is None else nn.Parameter(bias, requires_grad=False)

    @property
    def packed(self) -> Packed:
        """The weight as it is kept."""
        parts = {name: self.get_buffer(_PART + name) for name in self._names}
        return Packed(self.format, (self.out_features, self.in_features), parts)

    @property
    def weight(self) -> Tensor:
        """The plain weight, computed anew each time."""
        return self.packed.unpack(self.dtype)

    def forward(self, x: Activations) -> Tensor:
        packed = self.packed
        if isinstance(x, Float8Rows):
            assert isinstance(packed.format, FastFloat8), "ask takes_float8 first"
            return packed.format.linear_rows(x, packed.parts, packed.shape, self.bias)
        return packed.format.linear(x, packed.parts, packed.shape, self.bias)

    def extra_repr(self) -> str:
        return f"{self.in_features}, {self.out_features}, {self.format.name}"


def takes_float8(*layers: nn.Module, dtype: torch.dtype) -> bool:
    """Whether all of these layers multiply ``Float8Rows`` of ``dtype``, so that one rounding serves them."""
    return all(_takes_float8(layer, dtype) for layer in layers)


def _takes_float8(layer: nn.Module, dtype: torch.dtype) -> bool:
    if isinstance(layer, LoRALinear):
        return layer.terms.takes_float8 and _takes_float8(layer.base, dtype)
    return (
        isinstance(layer, PackedLinear)
        and isinstance(layer.format, FastFloat8)
        and layer.format.takes_rows(layer.packed.parts, layer.packed.shape, dtype)
    )
