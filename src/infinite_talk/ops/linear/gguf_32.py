"""GGUF's formats with blocks of 32 numbers: a float16 scale, for some a float16 minimum, and 4, 5 or 8 bits each.

In a byte of two 4-bit codes the lower half is number ``i`` and the upper half number ``i + 16`` of the block.
"""

from __future__ import annotations

import torch
from torch import Tensor

IQ4 = (-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113)
"""The numbers of the non-linear 4-bit formats (``kvalues_iq4nl``)."""


def decode_q8_0(blocks: Tensor) -> Tensor:
    """``d q``, q int8."""
    return half(blocks, 0) * blocks[:, 2:].view(torch.int8).float()


def decode_q4_0(blocks: Tensor) -> Tensor:
    """``d (q - 8)``."""
    return half(blocks, 0) * (nibbles(blocks[:, 2:]).float() - 8)


def decode_q4_1(blocks: Tensor) -> Tensor:
    """``d q + m``."""
    return half(blocks, 0) * nibbles(blocks[:, 4:]).float() + half(blocks, 2)


def decode_q5_0(blocks: Tensor) -> Tensor:
    """``d (q - 16)``; the fifth bits of all numbers come first, in 4 bytes."""
    codes = nibbles(blocks[:, 6:]) | (bits(blocks[:, 2:6]) << 4)
    return half(blocks, 0) * (codes.float() - 16)


def decode_q5_1(blocks: Tensor) -> Tensor:
    """``d q + m`` with 5 bits."""
    codes = nibbles(blocks[:, 8:]) | (bits(blocks[:, 4:8]) << 4)
    return half(blocks, 0) * codes.float() + half(blocks, 2)


def decode_iq4_nl(blocks: Tensor) -> Tensor:
    """``d table[q]``."""
    return half(blocks, 0) * look_up_iq4(nibbles(blocks[:, 2:]))


def encode_q8_0(x: Tensor) -> Tensor:
    scale = x.abs().amax(dim=1, keepdim=True) / 127
    codes = (x * _inverse(scale)).round().to(torch.int8)
    return torch.cat([_bytes(scale), codes.view(torch.uint8)], dim=1)


def encode_q4_0(x: Tensor) -> Tensor:
    scale = _signed_largest(x) / -8
    codes = (x * _inverse(scale) + 8.5).clamp(0, 15).to(torch.uint8)
    return torch.cat([_bytes(scale), _join(codes)], dim=1)


def encode_q4_1(x: Tensor) -> Tensor:
    low, high = torch.aminmax(x, dim=1, keepdim=True)
    scale = (high - low) / 15
    codes = ((x - low) * _inverse(scale) + 0.5).clamp(0, 15).to(torch.uint8)
    return torch.cat([_bytes(scale), _bytes(low), _join(codes)], dim=1)


def encode_q5_0(x: Tensor) -> Tensor:
    scale = _signed_largest(x) / -16
    codes = (x * _inverse(scale) + 16.5).clamp(0, 31).to(torch.uint8)
    return torch.cat([_bytes(scale), _fifth(codes), _join(codes & 15)], dim=1)


def encode_q5_1(x: Tensor) -> Tensor:
    low, high = torch.aminmax(x, dim=1, keepdim=True)
    scale = (high - low) / 31
    codes = ((x - low) * _inverse(scale) + 0.5).clamp(0, 31).to(torch.uint8)
    return torch.cat([_bytes(scale), _bytes(low), _fifth(codes), _join(codes & 15)], dim=1)


def half(blocks: Tensor, start: int) -> Tensor:
    """The float16 at a place of each block, as float32 ``(n, 1)``."""
    return blocks[:, start : start + 2].contiguous().view(torch.float16).float()


def nibbles(data: Tensor) -> Tensor:
    """Bytes ``(n, k)`` -> codes ``(n, 2k)``: all lower halves, then all upper ones."""
    return torch.cat([data & 15, data >> 4], dim=1)


def bits(data: Tensor) -> Tensor:
    """Bytes ``(n, k)`` -> their bits ``(n, 8k)``, lowest first."""
    return ((data[:, :, None] >> torch.arange(8, dtype=torch.uint8, device=data.device)) & 1).flatten(1)


def look_up_iq4(codes: Tensor) -> Tensor:
    """Codes 0..15 -> float32 numbers of ``IQ4``."""
    return torch.tensor(IQ4, dtype=torch.float32, device=codes.device)[codes.int()]


def _bytes(scale: Tensor) -> Tensor:
    return scale.to(torch.float16).view(torch.uint8)


def _inverse(scale: Tensor) -> Tensor:
    return torch.where(scale == 0, 0.0, 1.0 / scale)


def _signed_largest(x: Tensor) -> Tensor:
    """The number of the largest magnitude in each row, with its sign, ``(n, 1)``."""
    return x.gather(1, x.abs().argmax(dim=1, keepdim=True))


def _join(codes: Tensor) -> Tensor:
    return codes[:, :16] | (codes[:, 16:] << 4)


def _fifth(codes: Tensor) -> Tensor:
    """The fifth bits of 32 codes in 4 bytes, lowest first."""
    top = (codes >> 4).reshape(-1, 4, 8)
    weights = 1 << torch.arange(8, device=codes.device)
    return (top.int() * weights).sum(dim=2).to(torch.uint8)
