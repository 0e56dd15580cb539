"""UltraViCo (Tian et al., 2025): in a window longer than those of the training, weaken the attention beyond them.

Scores above 0 between tokens that are more than half a trained window apart are multiplied by ``alpha``; and the first
frame does not see frames after the trained ones. A window of the trained length or less than half of it is as it was
(thu-ml/DiT-Extrapolation; distances are counted in tokens, as there). The scores have to be seen, so no fused kernel
can do it: this is the definition, some queries at a time.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

TRAINED_FRAMES = 21
"""Latent frames of Wan2.1's training: 81 frames."""
_MOST_SCORES = 256 << 20
"""Bytes of scores at a time."""


class UltraViCo:
    """Self-attention with decay beyond the trained window."""

    places = True

    def __init__(self, alpha: float, trained: int = TRAINED_FRAMES) -> None:
        """``alpha``: 0..1, 1 changes nothing but the first frame; ``trained``: latent frames."""
        self._alpha, self._trained = alpha, trained

    def __call__(self, q: Tensor, k: Tensor, v: Tensor, rows: slice, grid: tuple[int, int, int]) -> Tensor:
        """``q`` (B, heads, n, d) of the tokens ``rows``, ``k`` and ``v`` of all."""
        pixels = grid[1] * grid[2]
        keys = torch.arange(k.shape[2], device=q.device)
        at_once = max(1, _MOST_SCORES // (4 * q.shape[0] * q.shape[1] * k.shape[2]))
        found = torch.empty_like(q)
        for first in range(0, q.shape[2], at_once):
            some = slice(first, min(first + at_once, q.shape[2]))
            asking = torch.arange(rows.start + some.start, rows.start + some.stop, device=q.device)[:, None]
            scores = q[:, :, some].float() @ k.float().transpose(-1, -2) / math.sqrt(q.shape[-1])
            far = (asking - keys).abs() > pixels * self._trained / 2
            scores = torch.where(far & (scores > 0), scores * self._alpha, scores)
            scores = scores.masked_fill((asking < pixels) & (keys >= pixels * self._trained), -math.inf)
            found[:, :, some] = (scores.softmax(dim=-1) @ v.float()).to(v.dtype)
        return found
