"""A sequence of features is dealt out to latent frames: to each its neighbourhood.

FantasyTalking's ``split_audio_sequence`` and ``split_tensor_with_padding`` (github.com/Fantasy-AMAP/fantasy-talking,
Apache-2.0), which FantasyPortrait shares.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Dealt(NamedTuple):
    """Features by latent frame."""

    features: Tensor  # (B, T, L, D), short ones filled with zeros at the end
    lengths: Tensor  # (T,) int64: how many of the L are features


def ranges(length: int, frames: int) -> list[tuple[int, int]]:
    """First and last index (inclusive, may lie outside) of what each latent frame gets of ``length`` features.

    A latent frame stands for four of ``frames`` video frames; it gets the features of about these, half to either side
    of its middle. The first one, which stands for one frame, is given as many, before the first index of the second.
    """
    per_frame = length / frames
    half = int(per_frame * 4 / 2)
    centres = [
        int((per_frame * (4 * i - 3) + per_frame * (4 * i + 1)) / 2) - 1 for i in range((frames - 1) // 4 + 1)
    ]
    found = [(centre - half, centre + half) for centre in centres]
    # The published formula, which reads the second range; one latent frame alone has none.
    upper = found[1][0] if len(found) > 1 else half
    return [(upper - 2 * half, upper), *found[1:]]


def lengths_of(length: int, frames: int, more: int = 0) -> Tensor:
    """How many of ``length`` features each latent frame gets; see ``deal``."""
    there = [
        max(min(end + more, length - 1) + 1 - max(begin - more, 0), 0)
        for begin, end in ranges(length, frames)
    ]
    return torch.tensor(there)


def deal(features: Tensor, frames: int, more: int = 0) -> Dealt:
    """Features ``(B, L, D)`` of ``frames`` video frames by latent frame.

    Args:
        more: features beyond its range that a latent frame gets on either side.
    """
    length, parts = features.shape[1], []
    for nearest, farthest in ranges(length, frames):
        begin, end = nearest - more, farthest + more
        there = features[:, max(begin, 0) : max(end + 1, 0)]
        parts.append(torch.nn.functional.pad(there, (0, 0, 0, end - begin + 1 - there.shape[1])))
    return Dealt(torch.stack(parts, dim=1), lengths_of(length, frames, more))


def for_latents(dealt: Tensor, first: int, latents: int) -> Tensor:
    """Of ``(B, T, ...)`` the latent frames ``first`` .. ``first + latents - 1``; zeros after the last one."""
    there = dealt[:, first : first + latents]
    missing = latents - there.shape[1]
    if not missing:
        return there
    return torch.cat([there, there.new_zeros((there.shape[0], missing, *there.shape[2:]))], dim=1)
