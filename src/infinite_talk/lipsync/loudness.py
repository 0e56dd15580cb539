"""Loudness of a recording, one value per video frame."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

FLOOR_DB = -60.0
SILENCE_DB = -38.0
"""Below the loud parts of the recording by this much, a frame is silent."""
_GUARD = 3  # frames beside speech that are not counted as silence: mouths open early and close late


def loudness_db(
    samples: NDArray[np.float32], rate: int, frames: int, fps: float = 25.0
) -> NDArray[np.float32]:
    """Level of each frame in decibels relative to the loud parts (95th percentile), -60 .. about 3.

    Args:
        samples: (S,) or (S, channels) in -1..1; channels are averaged as power.
        frames: length of the result; frames after the end of the recording are silent.
    """
    power = np.square(samples.astype(np.float64))
    if power.ndim == 2:
        power = power.mean(1)
    total = np.concatenate(([0.0], np.cumsum(power)))
    # Each frame takes twice its own time: a window of 80 ms at 25 fps steadies the level of low voices.
    middle = (np.arange(frames) + 0.5) * rate / fps
    half = rate / fps
    start = np.clip(np.round(middle - half), 0, len(power)).astype(int)
    stop = np.clip(np.round(middle + half), 0, len(power)).astype(int)
    mean = (total[stop] - total[start]) / (2 * half)
    level = 10 * np.log10(np.maximum(mean, 1e-12))
    if not len(level):
        return np.zeros(0, np.float32)
    loud = max(float(np.percentile(level, 95)), -70.0)  # a recording of nothing stays silent
    clipped: NDArray[np.float32] = np.clip(level - loud, FLOOR_DB, 6.0).astype(np.float32)
    return clipped


def envelope(level_db: NDArray[np.float32]) -> NDArray[np.float32]:
    """Decibels to 0..1 over the range that speech uses (-40 dB to the loud parts); peaks reach 1.15."""
    height: NDArray[np.float32] = np.clip(1 + level_db / 40.0, 0.0, 1.15).astype(np.float32)
    return height


def silence(level_db: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Frames in a pause, at least three frames away from any sound."""
    sounds = level_db > SILENCE_DB
    padded = np.pad(sounds, _GUARD)
    near = np.lib.stride_tricks.sliding_window_view(padded, 2 * _GUARD + 1).any(axis=1)
    return np.asarray(~near, np.bool_)


__all__ = ["FLOOR_DB", "SILENCE_DB", "envelope", "loudness_db", "silence"]
