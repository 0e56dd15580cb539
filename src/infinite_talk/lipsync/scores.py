"""Numbers that say whether a mouth follows a reference: correlation, lag, amplitude, rest in silence.

All are pure functions over tracks (F,) of one value per frame; a constant track correlates with nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

MAX_LAG = 5
"""Frames to each side that `best_lag` looks at: 0.2 s, more than any viewer forgives."""
CLOSED = 0.016
"""An opening below this share of the picture's height counts as closed: 3 pixels of 192."""


def _pair(first: ArrayLike, second: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    a, b = np.asarray(first, np.float64), np.asarray(second, np.float64)
    if a.ndim != 1 or a.shape != b.shape:
        raise ValueError(f"two tracks of equal length are needed, got shapes {a.shape} and {b.shape}")
    return a, b


def pearson(first: ArrayLike, second: ArrayLike) -> float:
    """Correlation in -1..1; 0 when a track is constant or shorter than three frames."""
    a, b = _pair(first, second)
    if len(a) < 3:
        return 0.0
    a, b = a - a.mean(), b - b.mean()
    norm = float(np.sqrt((a @ a) * (b @ b)))
    # Below this the tracks are constant up to rounding, and their ratio is noise.
    return float(a @ b) / norm if norm > 1e-9 * len(a) else 0.0


def shifted_correlation(track: ArrayLike, reference: ArrayLike, lag: int) -> float:
    """`pearson` of the track read ``lag`` frames later than the reference, over the frames that both have."""
    a, b = _pair(track, reference)
    if abs(lag) >= len(a):
        return 0.0
    if lag < 0:
        return pearson(a[:lag], b[-lag:])
    return pearson(a[lag:], b[: len(b) - lag])


def best_lag(track: ArrayLike, reference: ArrayLike, limit: int = MAX_LAG) -> tuple[int, float]:
    """Lag in frames with the highest correlation, and that correlation.

    Positive: the track comes after the reference (the mouth moves late). Of equals the smallest shift wins.
    """
    lags = sorted(range(-limit, limit + 1), key=abs)
    values = {lag: shifted_correlation(track, reference, lag) for lag in lags}
    best = max(lags, key=lambda lag: values[lag])
    return best, values[best]


def amplitude_ratio(track: ArrayLike, reference: ArrayLike) -> float:
    """Deviation of the track over that of the reference, in one unit; 0 for a flat reference."""
    a, b = _pair(track, reference)
    return float(a.std() / b.std()) if len(b) and b.std() > 1e-9 else 0.0


def closed_share(opening: ArrayLike, silent: ArrayLike, closed: float = CLOSED) -> float | None:
    """Share of the silent frames with a closed mouth; None when no frame is silent."""
    heights, still = np.asarray(opening, np.float64), np.asarray(silent, bool)
    if heights.shape != still.shape:
        raise ValueError(f"opening {heights.shape} and silence {still.shape} must be equally long")
    return float((heights[still] < closed).mean()) if still.any() else None


@dataclass(frozen=True, slots=True)
class Score:
    """How a track follows a reference."""

    r: float  # correlation without shift
    lag: int  # frames by which the track is late
    r_at_lag: float
    amplitude: float  # ratio of deviations; meaningful only when both tracks have one unit


def score(track: ArrayLike, reference: ArrayLike) -> Score:
    """All of the above for two tracks of equal length."""
    lag, at_lag = best_lag(track, reference)
    return Score(pearson(track, reference), lag, at_lag, amplitude_ratio(track, reference))


__all__ = [
    "CLOSED",
    "MAX_LAG",
    "Score",
    "amplitude_ratio",
    "best_lag",
    "closed_share",
    "pearson",
    "score",
    "shifted_correlation",
]
