"""GGUF's formats with blocks of 256 numbers ("K-quants"): sub-blocks of 16 or 32 have small scales of their own.

A number is ``d * scale * code``, in some formats less ``dmin * minimum``, with ``d`` and ``dmin`` in float16
and the scales of the sub-blocks in 4, 6 or 8 bits.
"""

from __future__ import annotations

import torch
from torch import Tensor

from infinite_talk.ops.linear.gguf_32 import bits, half, look_up_iq4


def decode_q2_k(blocks: Tensor) -> Tensor:
    """16 bytes of scale (low half) and minimum (high half), 64 bytes of codes, d, dmin."""
    scales = blocks[:, :16]
    scale = half(blocks, 80) * (scales & 15).float()
    low = half(blocks, 82) * (scales >> 4).float()
    codes = _pairs(blocks[:, 16:80]).float().reshape(-1, 16, 16)
    return (scale[:, :, None] * codes - low[:, :, None]).flatten(1)


def decode_q3_k(blocks: Tensor) -> Tensor:
    """32 bytes of third bits, 64 bytes of two bits, 12 bytes of scales in 6 bits, d.

    The third bit is inverted: 0 takes 4 off. Byte ``l`` has the bits of numbers ``l``, ``l + 32``, ...
    """
    third = _across(blocks[:, :32], 1, 8)
    codes = _pairs(blocks[:, 32:96]).to(torch.int8) - ((third ^ 1) << 2).to(torch.int8)
    low, high = blocks[:, 96:104], blocks[:, 104:108]
    four = torch.cat([low & 15, low >> 4], dim=1)
    two = torch.cat([(high >> shift) & 3 for shift in (0, 2, 4, 6)], dim=1)
    scale = half(blocks, 108) * ((four | (two << 4)).to(torch.int8) - 32).float()
    return (scale[:, :, None] * codes.float().reshape(-1, 16, 16)).flatten(1)


def decode_q4_k(blocks: Tensor) -> Tensor:
    """d, dmin, 12 bytes of scales and minima in 6 bits, 128 bytes of codes."""
    codes = _halves(blocks[:, 16:144])
    return _scaled_less_minimum(blocks, codes)


def decode_q5_k(blocks: Tensor) -> Tensor:
    """d, dmin, 12 bytes of scales and minima in 6 bits, 32 bytes of fifth bits, 128 bytes of codes."""
    codes = _halves(blocks[:, 48:176]) | (_across(blocks[:, 16:48], 1, 8) << 4)
    return _scaled_less_minimum(blocks, codes)


def decode_q6_k(blocks: Tensor) -> Tensor:
    """128 bytes of the lower four bits, 64 bytes of the upper two, 16 scales int8, d."""
    low = torch.cat([_across(part, 4, 2) for part in torch.split(blocks[:, :128], 64, dim=1)], dim=1)
    codes = (low | (_pairs(blocks[:, 128:192]) << 4)).to(torch.int8) - 32
    scale = half(blocks, 208) * blocks[:, 192:208].view(torch.int8).float()
    return (scale[:, :, None] * codes.float().reshape(-1, 16, 16)).flatten(1)


def decode_iq4_xs(blocks: Tensor) -> Tensor:
    """d, 2 bytes with the upper two bits of 8 scales, 4 bytes with their lower four, 128 bytes of codes."""
    upper = bits(blocks[:, 2:4]).reshape(-1, 8, 2)
    four = torch.stack([blocks[:, 4:8] & 15, blocks[:, 4:8] >> 4], dim=2).flatten(1)
    six = four | (upper[:, :, 0] << 4) | (upper[:, :, 1] << 5)
    scale = half(blocks, 0) * (six.to(torch.int8) - 32).float()
    data = blocks[:, 8:].reshape(-1, 8, 16)
    numbers = look_up_iq4(torch.cat([data & 15, data >> 4], dim=2))
    return (scale[:, :, None] * numbers).flatten(1)


def _scaled_less_minimum(blocks: Tensor, codes: Tensor) -> Tensor:
    """``d scale code - dmin minimum`` for 8 sub-blocks of 32; d and dmin lead the block, then the scales."""
    scale, low = _six_bits(blocks[:, 4:16])
    scale, low = half(blocks, 0) * scale.float(), half(blocks, 2) * low.float()
    return (scale[:, :, None] * codes.float().reshape(-1, 8, 32) - low[:, :, None]).flatten(1)


def _six_bits(data: Tensor) -> tuple[Tensor, Tensor]:
    """12 bytes -> 8 scales and 8 minima of 6 bits.

    Of the first four of each, all six bits are in bytes 0..3 and 4..7; of the last four, the lower four bits
    are in the halves of bytes 8..11 and the upper two in what the first four leave free.
    """
    first, second, third = data[:, 0:4], data[:, 4:8], data[:, 8:12]
    scale = torch.cat([first & 63, (third & 15) | ((first >> 6) << 4)], dim=1)
    low = torch.cat([second & 63, (third >> 4) | ((second >> 6) << 4)], dim=1)
    return scale, low


def _across(data: Tensor, width: int, count: int) -> Tensor:
    """Bytes ``(n, k)`` of ``count`` fields of ``width`` bits -> ``(n, count * k)``, field by field."""
    shifts = torch.arange(0, width * count, width, dtype=torch.uint8, device=data.device)
    return ((data[:, None, :] >> shifts[:, None]) & ((1 << width) - 1)).flatten(1)


def _pairs(data: Tensor) -> Tensor:
    """64 bytes of 2-bit codes -> 256 codes: of each 32 bytes first all lowest pairs, and so on."""
    return torch.cat([_across(part, 2, 4) for part in torch.split(data, 32, dim=1)], dim=1)


def _halves(data: Tensor) -> Tensor:
    """128 bytes of 4-bit codes -> 256 codes: of each 32 bytes first all lower halves, then the upper."""
    return torch.cat([_across(part, 4, 2) for part in torch.split(data, 32, dim=1)], dim=1)
