"""Weights in the block formats of GGUF, unpacked in torch on any device and multiplied in the base precision.

Each format cuts rows into blocks of 32 or 256 numbers; a block is some bytes with a scale in float16 and the
numbers in 2 to 8 bits (``gguf_32.py``, ``gguf_256.py``). The layouts are those of ``ggml-common.h`` and the
results those of ``gguf.quants.dequantize``, bit by bit in float32.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from infinite_talk.errors import CapabilityError
from infinite_talk.ops.linear import gguf_32, gguf_256
from infinite_talk.ops.linear.packed import Parts, product

_PIECE = 1 << 22
"""Numbers unpacked at a time: their float32 and integer copies stay below a hundred megabytes."""


@dataclass(frozen=True, slots=True)
class Blocks:
    """Weights only. Parts: ``data`` uint8 ``(out, in / block * nbytes)``."""

    name: str
    number: int
    """Of the type in a GGUF file."""
    block: int
    """Numbers in a block."""
    nbytes: int
    """Bytes of a block."""
    decode: Callable[[Tensor], Tensor]
    """Blocks ``(n, nbytes)`` uint8 -> numbers ``(n, block)`` float32."""
    halves: tuple[int, ...]
    """Where a block has its float16 numbers; all else is integers."""
    encode: Callable[[Tensor], Tensor] | None = None
    """Numbers ``(n, block)`` float32 -> blocks; ``None``: this project reads the format only."""

    def pack(self, weight: Tensor) -> Parts:
        if self.encode is None:
            raise CapabilityError(
                f"Weights can be read in {self.name}, not written; {WRITABLE} can. Choose Q8_0, which loses least.",
                code="gguf_read_only",
            )
        rows, columns = weight.shape
        if columns % self.block:
            raise CapabilityError(
                f"Rows of {columns} numbers do not divide into the blocks of {self.block} of {self.name}."
            )
        cut = weight.float().reshape(-1, self.block)
        data = torch.cat([self.encode(piece) for piece in torch.split(cut, _PIECE // self.block)])
        return {"data": data.reshape(rows, -1)}

    def unpack(self, parts: Parts, shape: tuple[int, int], dtype: torch.dtype) -> Tensor:
        out = torch.empty(shape, dtype=dtype, device=parts["data"].device)
        for start, stop in self._pieces(shape):
            out[start:stop] = self._rows(parts["data"][start:stop], shape[1])
        return out

    def linear(self, x: Tensor, parts: Parts, shape: tuple[int, int], bias: Tensor | None) -> Tensor:
        # Row by row of the weight, i.e. column by column of the result, so that the whole weight never exists.
        pieces = self._pieces(shape)
        if len(pieces) == 1:
            return product(x, self._rows(parts["data"], shape[1]).to(x.dtype), bias)
        out = x.new_empty(*x.shape[:-1], shape[0])
        for start, stop in pieces:
            weight = self._rows(parts["data"][start:stop], shape[1]).to(x.dtype)
            out[..., start:stop] = product(x, weight, None if bias is None else bias[start:stop])
        return out

    def finite(self, parts: Parts) -> Tensor:
        """Whether no number is NaN or infinite: a float16 is when all bits of its exponent are set."""
        upper = parts["data"].reshape(-1, self.nbytes)[:, [place + 1 for place in self.halves]]
        return ((upper & 0x7C) != 0x7C).all()

    def _rows(self, data: Tensor, columns: int) -> Tensor:
        """Rows of bytes -> rows of float32."""
        return self.decode(data.reshape(-1, self.nbytes)).reshape(-1, columns)

    def _pieces(self, shape: tuple[int, int]) -> list[tuple[int, int]]:
        step = max(1, _PIECE // shape[1])
        return [(start, min(start + step, shape[0])) for start in range(0, shape[0], step)]


Q4_0 = Blocks("Q4_0", 2, 32, 18, gguf_32.decode_q4_0, (0,), gguf_32.encode_q4_0)
Q4_1 = Blocks("Q4_1", 3, 32, 20, gguf_32.decode_q4_1, (0, 2), gguf_32.encode_q4_1)
Q5_0 = Blocks("Q5_0", 6, 32, 22, gguf_32.decode_q5_0, (0,), gguf_32.encode_q5_0)
Q5_1 = Blocks("Q5_1", 7, 32, 24, gguf_32.decode_q5_1, (0, 2), gguf_32.encode_q5_1)
Q8_0 = Blocks("Q8_0", 8, 32, 34, gguf_32.decode_q8_0, (0,), gguf_32.encode_q8_0)
IQ4_NL = Blocks("IQ4_NL", 20, 32, 18, gguf_32.decode_iq4_nl, (0,))
Q2_K = Blocks("Q2_K", 10, 256, 84, gguf_256.decode_q2_k, (80, 82))
Q3_K = Blocks("Q3_K", 11, 256, 110, gguf_256.decode_q3_k, (108,))
Q4_K = Blocks("Q4_K", 12, 256, 144, gguf_256.decode_q4_k, (0, 2))
Q5_K = Blocks("Q5_K", 13, 256, 176, gguf_256.decode_q5_k, (0, 2))
Q6_K = Blocks("Q6_K", 14, 256, 210, gguf_256.decode_q6_k, (208,))
IQ4_XS = Blocks("IQ4_XS", 23, 256, 136, gguf_256.decode_iq4_xs, (0,))

FORMATS: dict[str, Blocks] = {
    kind.name: kind for kind in (Q8_0, Q6_K, Q5_K, Q5_1, Q5_0, Q4_K, Q4_1, Q4_0, IQ4_XS, IQ4_NL, Q3_K, Q2_K)
}
WRITABLE = ", ".join(kind.name for kind in FORMATS.values() if kind.encode is not None)
