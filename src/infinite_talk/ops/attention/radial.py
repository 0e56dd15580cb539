"""Radial attention (Li et al., 2025): the farther apart two frames are, the fewer of their pixels see each other.

Tokens of a (frames, rows, columns) grid, P to a frame. A token u of frame i sees a token v of frame j, ``d = |i - j|``:

- always, if j is the first frame (an attention sink);
- else if ``|u - v| <= W(d)``: W(0) = P, W(1) = P // 2, and W(d) the larger of the block size and ``decay L(d)``;
- and, where ``L(d)`` is smaller than a block, in every ``int(block / L(d))``-th frame only;

``L(d) = 2^bits(P) / 2^bits(d)``, ``bits`` being the length of a number in binary. Work is done by blocks of tokens: a
block of queries sees a block of keys if of the keys that are seen in one pair of frames more than 0.6 are each seen by
more than a third of a block. Formulas: mit-han-lab/radial-attention.

There the sparse kernel rounds to 8 bits. Here each block of queries attends exactly to the keys that it sees.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from infinite_talk.ops.attention.base import AttentionCallable
from infinite_talk.ops.attention.native import sdpa


class RadialAttention:
    """Self-attention that leaves out what ``radial_blocks`` does."""

    places = True

    def __init__(self, decay: float, block: int, attend: AttentionCallable = sdpa) -> None:
        """``decay``: 0..1, how fast windows shrink; ``block``: tokens."""
        self._decay, self._block, self._attend = decay, block, attend
        self._seen: dict[tuple[tuple[int, int, int], torch.device], tuple[Tensor, ...]] = {}

    def __call__(self, q: Tensor, k: Tensor, v: Tensor, rows: slice, grid: tuple[int, int, int]) -> Tensor:
        """``q`` (B, heads, n, d) of the tokens ``rows``, ``k`` and ``v`` of all."""
        found, seen = torch.empty_like(q), self._keys(grid, q.device)
        for number in range(rows.start // self._block, -(-rows.stop // self._block)):
            first = max(number * self._block, rows.start) - rows.start
            last = min((number + 1) * self._block, rows.stop) - rows.start
            keys = seen[number]
            found[:, :, first:last] = self._attend(q[:, :, first:last], k[:, :, keys], v[:, :, keys])
        return found

    def _keys(self, grid: tuple[int, int, int], device: torch.device) -> tuple[Tensor, ...]:
        """Numbers of the tokens that each block of queries sees."""
        if (grid, device) not in self._seen:
            self._seen.clear()  # of another size
            total = math.prod(grid)
            of_token = torch.arange(total) // self._block
            mask = radial_blocks(grid, self._block, self._decay)
            self._seen[grid, device] = tuple(row[of_token].nonzero().squeeze(1).to(device) for row in mask)
        return self._seen[grid, device]


def radial_blocks(grid: tuple[int, int, int], block: int, decay: float) -> Tensor:
    """Which blocks of keys each block of queries sees, ``(blocks, blocks)`` bool; a block always sees itself."""
    frames, pixels = grid[0], grid[1] * grid[2]
    total = frames * pixels
    count = -(-total // block)
    token = torch.arange(total)
    frame, place = token // pixels, token % pixels
    mask = torch.eye(count, dtype=torch.bool)
    for number in range(count):
        start, stop = number * block, min((number + 1) * block, total)
        for i in range(start // pixels, (stop - 1) // pixels + 1):
            low, high = max(start, i * pixels) % pixels, (min(stop, (i + 1) * pixels) - 1) % pixels
            width = torch.tensor([_width(abs(i - j), j, pixels, block, decay) for j in range(frames)])[frame]
            # How many of the queries low .. high are at most so far from each key.
            seen_by = torch.minimum(place + width.floor(), torch.tensor(float(high)))
            seen_by = seen_by - torch.maximum(place - width.floor(), torch.tensor(float(low))) + 1
            seen_by = seen_by.clamp(min=0)
            pair = token // block * frames + frame
            size = count * frames
            often = torch.bincount(pair, (seen_by / block > 1 / 3).double(), minlength=size)
            ever = torch.bincount(pair, (seen_by > 0).double(), minlength=size)
            mask[number] |= (often / (ever + 1e-9) > 0.6).view(count, frames).any(dim=1)
    return mask


def _width(distance: int, frame: int, pixels: int, block: int, decay: float) -> float:
    """``W``, or less than 0 where nothing is seen."""
    if frame == 0:
        return float(pixels)
    length: float = 2 ** pixels.bit_length() / 2 ** distance.bit_length()
    if length < block and distance % int(block / length):
        return -float(pixels) - 1
    if distance < 2:
        return float(pixels if distance == 0 else pixels // 2)
    return max(length * decay, float(block))
