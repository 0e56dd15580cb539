"""4-bit NormalFloat weights (Dettmers et al., QLoRA, 2023): 16 quantiles of a normal distribution per block."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from infinite_talk.ops.linear.nibbles import blocks, join, look_up
from infinite_talk.ops.linear.packed import Parts, product

CODEBOOK = (
    -1.0,
    -0.6961928009986877,
    -0.5250730514526367,
    -0.39491748809814453,
    -0.28444138169288635,
    -0.18477343022823334,
    -0.09105003625154495,
    0.0,
    0.07958029955625534,
    0.16093020141124725,
    0.24611230194568634,
    0.33791524171829224,
    0.44070982933044434,
    0.5626170039176941,
    0.7229568362236023,
    1.0,
)
"""The numbers of the format, relative to the largest magnitude of a block (appendix E of the paper)."""
BLOCK = 64


@dataclass(frozen=True, slots=True)
class NormalFloat4:
    """Weights only. Parts: ``data`` uint8 ``(out, in / 2)``, ``scale`` float32 ``(out, in / 64)``; rows whose
    length is no multiple of 64 are filled with zeros.

    Unpacked in float32 and rounded once. A codebook in bfloat16 would move all weights of a code the same way,
    and behind inputs that are not zero on average, as those of a second feed-forward layer, that adds up.
    """

    name: str = "nf4"

    def pack(self, weight: Tensor) -> Parts:
        cut = blocks(weight.float(), BLOCK)
        largest = cut.abs().amax(dim=-1)
        relative = cut / torch.where(largest > 0, largest, 1.0)[..., None]
        book = torch.tensor(CODEBOOK, device=weight.device)
        codes = torch.bucketize(relative, (book[1:] + book[:-1]) / 2, out_int32=True)
        return {"data": join(codes.flatten(1)), "scale": largest}

    def unpack(self, parts: Parts, shape: tuple[int, int], dtype: torch.dtype) -> Tensor:
        relative = look_up(parts["data"], CODEBOOK, torch.float32)
        torch.unflatten(relative, -1, (-1, BLOCK)).mul_(parts["scale"][..., None])
        return relative[:, : shape[1]].to(dtype)

    def linear(self, x: Tensor, parts: Parts, shape: tuple[int, int], bias: Tensor | None) -> Tensor:
        return product(x, self.unpack(parts, shape, x.dtype), bias)


NF4 = NormalFloat4()
