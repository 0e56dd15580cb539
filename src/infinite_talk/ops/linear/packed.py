"""``Packed``: a weight matrix in fewer bits, and ``Format``: how its bits are read and multiplied."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

Parts = Mapping[str, Tensor]
"""The tensors that stand for one weight: numbers, scales. Their names and dtypes are the format's."""


class Format(Protocol):
    """One way of storing a matrix ``(out, in)``; a value without state."""

    @property
    def name(self) -> str:
        """For logs, metadata and messages."""
        ...

    def pack(self, weight: Tensor) -> Parts:
        """The parts of a plain weight, on its device.

        Raises:
            CapabilityError: weights of this format can be read only.
        """
        ...

    def unpack(self, parts: Parts, shape: tuple[int, int], dtype: torch.dtype) -> Tensor:
        """The plain weight ``shape``; the slow, obvious twin of ``linear`` is a product with it."""
        ...

    def linear(self, x: Tensor, parts: Parts, shape: tuple[int, int], bias: Tensor | None) -> Tensor:
        """``x (..., in)`` times the weight's transpose, plus ``bias``; in the dtype of ``x``."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class Packed:
    """One weight as a checkpoint stores it, or as a policy has packed it."""

    format: Format
    shape: tuple[int, int]  # of the whole weight: (out, in)
    parts: Parts

    def unpack(self, dtype: torch.dtype = torch.float32) -> Tensor:
        """The plain weight."""
        return self.format.unpack(self.parts, self.shape, dtype)

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> Packed:
        """The same weight on another device."""
        moved = {name: part.to(device, non_blocking=non_blocking) for name, part in self.parts.items()}
        return Packed(self.format, self.shape, moved)

    @property
    def nbytes(self) -> int:
        """Bytes of all parts."""
        return sum(part.nbytes for part in self.parts.values())


def product(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """``x (..., in)`` times a plain weight ``(out, in)`` of the same dtype, plus ``bias`` of any dtype."""
    return F.linear(x, weight, None if bias is None else bias.to(x.dtype))
