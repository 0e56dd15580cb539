"""The one owner of randomness: every window's noise follows from the seed and the window's number alone.

So a window can be made again by itself, and another machine can carry on with a half-finished video.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch

from infinite_talk.types import Window


class NoiseSource(Protocol):
    """Where a window's noise comes from; replaced in tests by recorded noise."""

    def __call__(self, window: Window, shape: Sequence[int]) -> torch.Tensor:
        """Standard normal noise of ``shape``, float32, on the CPU."""
        ...


def noise_for(seed: int, window_index: int, shape: Sequence[int]) -> torch.Tensor:
    """Standard normal noise of ``shape``, float32, on the CPU.

    Philox is keyed by (seed, window), so windows are independent and none needs the ones before. numpy's
    sampler computes in plain scalar code: unlike ``torch.randn`` it gives the same bits whatever the
    machine's vector unit.
    """
    key = np.array([seed % 2**64, window_index], dtype=np.uint64)
    values = np.random.Generator(np.random.Philox(key=key)).standard_normal(tuple(shape), dtype=np.float32)
    return torch.from_numpy(values)


def seeded(seed: int) -> NoiseSource:
    """The noise source of a run."""
    return lambda window, shape: noise_for(seed, window.index, shape)
