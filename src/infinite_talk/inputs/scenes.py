"""Scene cuts of a film: frames at which hue, saturation and brightness change at once and everywhere."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

THRESHOLD = 18.0
"""Least mean change of H, S and V from one frame to the next, each 0..255."""
PROMINENCE = 3.0
"""A cut changes this many times more than the frames around it; fast motion changes many frames alike."""
NEIGHBOURS = 2
SHORTEST = 12
"""Frames of the shortest shot, half a second; a cut sooner after another one is left out."""


def find_cuts(pictures: Iterable[NDArray[np.uint8]]) -> tuple[int, ...]:
    """Frame numbers at which a new shot begins, never 0.

    Args:
        pictures: RGB ``(H, W, 3)`` of successive frames, small ones do; only the one before is kept.
    """
    changes = []
    before = None
    for picture in pictures:
        now = _hsv(picture)
        changes.append(0.0 if before is None else _difference(before, now))
        before = now
    cuts: list[int] = []
    for frame, change in enumerate(changes):
        around = changes[max(1, frame - NEIGHBOURS) : frame] + changes[frame + 1 : frame + 1 + NEIGHBOURS]
        prominent = change >= PROMINENCE * (sum(around) / max(1, len(around)))
        if change >= THRESHOLD and prominent and frame - (cuts[-1] if cuts else 0) >= SHORTEST:
            cuts.append(frame)
    return tuple(cuts)


def _hsv(picture: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Hue, saturation and value ``(H, W, 3)``, each 0..255; the hue is a circle."""
    rgb = picture.astype(np.float32)
    value, low = rgb.max(axis=2), rgb.min(axis=2)
    chroma = value - low
    safe = np.where(chroma > 0, chroma, 1)
    red, green, blue = rgb[..., 0], rgb[..., 1], rgb[..., 2]
    sixth = np.where(
        value == red,
        (green - blue) / safe % 6,
        np.where(value == green, 2 + (blue - red) / safe, 4 + (red - green) / safe),
    )
    hue = np.where(chroma > 0, sixth / 6 * 255, 0)
    saturation = 255 * chroma / np.where(value > 0, value, 1)
    return np.stack([hue, saturation, value], axis=2).astype(np.float32)


def _difference(before: NDArray[np.float32], now: NDArray[np.float32]) -> float:
    """Mean change of the three channels. Hue counts as far as both pictures are coloured there."""
    change = np.abs(now - before)
    turn = np.minimum(change[..., 0], 255 - change[..., 0])
    coloured = np.minimum(before[..., 1], now[..., 1]) / 255
    return float(np.mean([np.mean(turn * coloured), change[..., 1].mean(), change[..., 2].mean()]))
