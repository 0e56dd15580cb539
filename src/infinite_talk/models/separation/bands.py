"""The mel bands of a Mel-Band RoFormer: overlapping ranges of the bins of a spectrum.

A bin belongs to a band where the band's triangle of a mel filter bank (Slaney's scale, as librosa makes it) is above
0; the first bin is in the first band and the last one in the last (Wang, Lu, Won, "Mel-Band RoFormer for Music Source
Separation", 2023).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_LINEAR_HZ = 200 / 3
"""Width of one mel below 1000 Hz on Slaney's scale."""
_BREAK_HZ = 1000.0
_LOG_STEP = np.log(6.4) / 27
"""Above it, 27 mels are a factor of 6.4."""


def mel_bands(bands: int, bins: int, rate: int) -> tuple[NDArray[np.int64], ...]:
    """The bins of each band, rising.

    Args:
        bands: how many.
        bins: of the spectrum, from 0 to half the rate.
        rate: samples per second.
    """
    top = rate / 2
    edges = _hertz(np.linspace(0.0, _mel(top), bands + 2))
    frequencies = np.linspace(0.0, top, bins)
    found = []
    for band in range(bands):
        low, high = edges[band], edges[band + 2]
        inside = (frequencies > low) & (frequencies < high)
        inside[0] |= band == 0
        inside[-1] |= band == bands - 1
        found.append(np.flatnonzero(inside))
    return tuple(found)


def _mel(hertz: float) -> float:
    if hertz < _BREAK_HZ:
        return hertz / _LINEAR_HZ
    return float(_BREAK_HZ / _LINEAR_HZ + np.log(hertz / _BREAK_HZ) / _LOG_STEP)


def _hertz(mels: NDArray[np.float64]) -> NDArray[np.float64]:
    knee = _BREAK_HZ / _LINEAR_HZ
    above: NDArray[np.float64] = _BREAK_HZ * np.exp(_LOG_STEP * (mels - knee))
    return np.where(mels < knee, mels * _LINEAR_HZ, above)
