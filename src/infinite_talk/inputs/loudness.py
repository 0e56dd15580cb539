"""Loudness of speech: every recording is brought to -23 LUFS (ITU-R BS.1770) before the model hears it."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

TARGET = -23.0
"""LUFS."""
BLOCK = 0.4
"""Seconds of one gating block; the measure is undefined for anything shorter."""
STEPS_PER_SECOND = 10
"""Gating blocks overlap by 75 %: one begins every tenth of a second."""
PIECE = 60
"""Seconds measured at once, so that hours of speech need no memory."""
WARM_UP = 1
"""Seconds before a piece that let the weighting filters settle."""
ABSOLUTE_GATE = -70.0
RELATIVE_GATE = -10.0


def integrated_loudness(samples: NDArray[np.float32], rate: int) -> float:
    """Gated loudness of mono speech ``(samples,)`` in LUFS; ``-inf`` for silence.

    A recording shorter than one gating block is measured as if it were repeated. Long ones are measured in
    pieces; the result differs from measuring at once by less than 0.001 LU.
    """
    if not samples.size:
        return float("-inf")
    shortest = int(np.ceil(BLOCK * rate))
    if samples.size < shortest:
        samples = np.resize(samples, shortest)
    blocks = np.concatenate([_block_loudness(piece, warm, rate) for piece, warm in _pieces(samples, rate)])
    heard = blocks[blocks >= ABSOLUTE_GATE]
    if not heard.size:
        return float("-inf")
    return _mean_loudness(heard[heard > _mean_loudness(heard) + RELATIVE_GATE])


def normalise_loudness(samples: NDArray[np.float32], rate: int) -> float | None:
    """Bring mono speech ``(samples,)`` to -23 LUFS in place; silence stays as it is.

    Returns:
        the factor that was applied, ``None`` for silence (nothing above -70 LUFS).
    """
    loudness = integrated_loudness(samples, rate)
    if loudness < ABSOLUTE_GATE:
        return None
    factor = float(10 ** ((TARGET - loudness) / 20))
    for start in range(0, samples.size, PIECE * rate):
        samples[start : start + PIECE * rate] *= factor
    return factor


def _pieces(samples: NDArray[np.float32], rate: int) -> Iterator[tuple[NDArray[np.float32], int]]:
    """Pieces with the gating blocks that begin in one minute each, and how many blocks of it are warm-up."""
    if samples.size <= (PIECE + 2 * WARM_UP) * rate:
        yield samples, 0
        return
    step = rate / STEPS_PER_SECOND
    # Blocks that lie wholly inside, with the rounding of the last one that pyloudnorm has.
    total = round((samples.size / rate - BLOCK) * STEPS_PER_SECOND) + 1
    for first in range(0, total, PIECE * STEPS_PER_SECOND):
        warm = min(first, WARM_UP * STEPS_PER_SECOND)
        last = min(first + PIECE * STEPS_PER_SECOND, total) - 1
        begin = round((first - warm) * step)
        yield samples[begin : round((last + BLOCK * STEPS_PER_SECOND) * step)], warm


def _block_loudness(piece: NDArray[np.float32], warm: int, rate: int) -> NDArray[np.float64]:
    """Loudness of each gating block of a piece after its warm-up; ``-inf`` for digital silence."""
    if piece.size < BLOCK * rate:
        piece = np.pad(piece, (0, int(np.ceil(BLOCK * rate)) - piece.size))
    import pyloudnorm  # brings scipy, a second that a refusal need not wait for

    meter = pyloudnorm.Meter(rate, block_size=BLOCK)
    meter.integrated_loudness(piece)
    return np.asarray(meter.blockwise_loudness[warm:], dtype=np.float64)


def _mean_loudness(blocks: NDArray[np.float64]) -> float:
    """Loudness of the mean power of gating blocks."""
    return float(10 * np.log10(np.mean(10 ** (blocks / 10))))
