"""The one owner of randomness: every window's noise follows from the seed and the window's number alone.

So a window can be made again by itself, and another machine can carry on with a half-finished video.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from itertools import pairwise
from typing import Protocol

import numpy as np
import torch

from infinite_talk.denoise.steppers import StepNoise
from infinite_talk.errors import UsageError
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


def step_noise(seed: int, window_index: int) -> StepNoise:
    """The noise that stochastic solvers add: a stream of its own for each step of a window.

    Philox is keyed as in ``noise_for``, and the upper word of its counter is the step + 1, so that no stream meets
    another or the window's first noise.
    """
    key = np.array([seed % 2**64, window_index], dtype=np.uint64)

    def noise(step: int, shape: Sequence[int]) -> torch.Tensor:
        counter = np.array([0, 0, 0, step + 1], dtype=np.uint64)
        stream = np.random.Generator(np.random.Philox(key=key, counter=counter))
        return torch.from_numpy(stream.standard_normal(tuple(shape), dtype=np.float32))

    return noise


def seeded(seed: int) -> NoiseSource:
    """The noise source of a run."""
    return lambda window, shape: noise_for(seed, window.index, shape)


@contextmanager
def ahead(source: NoiseSource, windows: Sequence[Window]) -> Iterator[NoiseSource]:
    """A noise source for ``windows`` that draws each window's noise while the one before is worked on.

    The same numbers: a thread of its own draws them, which takes tens of milliseconds for a large window. What it
    has drawn for a window is given once; another shape than that of the window before is drawn when asked for.
    """
    following = {one.index: other for one, other in pairwise(windows)}
    drawn: dict[tuple[int, tuple[int, ...]], Future[torch.Tensor]] = {}
    with ThreadPoolExecutor(1, thread_name_prefix="noise") as drawer:

        def give(window: Window, shape: Sequence[int]) -> torch.Tensor:
            ready = drawn.pop((window.index, tuple(shape)), None)
            noise = source(window, shape) if ready is None else ready.result()
            drawn.clear()
            if (after := following.get(window.index)) is not None:
                drawn[after.index, tuple(shape)] = drawer.submit(source, after, shape)
            return noise

        yield give


def free_noise(
    noise: torch.Tensor, *, frames: int, overlap: int, seed: int, window_index: int = 0
) -> torch.Tensor:
    """FreeNoise (Qiu et al., arXiv 2310.15169): noise of a long video that repeats itself in another order.

    After the first ``frames`` latent frames of ``noise`` ``(16, T, h, w)``, every ``frames - overlap`` are those
    ``frames`` before, shuffled: stretches that a model sees have the same noise, and so go well together.
    """
    key = np.array([seed % 2**64, window_index], dtype=np.uint64)
    order = np.random.Generator(np.random.Philox(key=key).jumped())  # apart from the numbers of ``noise_for``
    repeated, delta = noise.clone(), frames - overlap
    for place in range(frames, noise.shape[1], delta):
        count = min(delta, noise.shape[1] - place)
        start = place - frames
        source = start + torch.from_numpy(order.permutation(count))
        repeated[:, place : place + count] = repeated[:, source]
    return repeated


def carried_on(state: torch.Tensor) -> StepNoise:
    """The noise between steps from a generator that another program has left in ``state``, in the order of asking.

    Raises:
        UsageError: this is no state of a torch generator on the CPU.
    """
    generator = torch.Generator("cpu")
    try:
        generator.set_state(state)
    except (RuntimeError, TypeError) as error:
        raise UsageError(
            "generator_state of samples is no state of a torch.Generator on the CPU; leave it out."
        ) from error
    drawn: dict[int, torch.Tensor] = {}

    def noise(step: int, shape: Sequence[int]) -> torch.Tensor:
        if step not in drawn:
            drawn[step] = torch.randn(tuple(shape), generator=generator, dtype=torch.float32)
        return drawn[step]

    return noise
