"""Times: of calls one by one, and the rate of a call under load."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import pairwise
from statistics import median, pstdev
from time import perf_counter
from typing import Any

import psutil
import torch

Call = Callable[[], object]


@dataclass(frozen=True, slots=True)
class Spread:
    """Several times of the same work, in seconds."""

    median: float
    min: float
    max: float
    relative_std: float
    """Standard deviation over the mean."""
    all: tuple[float, ...]

    @classmethod
    def of(cls, times: Sequence[float]) -> Spread:
        mean = sum(times) / len(times)
        deviation = pstdev(times) / mean if mean > 0 else 0.0
        return cls(median(times), min(times), max(times), deviation, tuple(times))

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Peak:
    """The most memory while something ran, in bytes: tensors, and what the allocator held for them.

    On a CPU, where torch does not count, both are the process's resident memory.
    """

    allocated: int
    reserved: int
    above: int
    """Of the tensors, what came on top of those that were there before, such as weights."""


class Marks:
    """Points in time of a device's work; taking one does not make the host wait."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._marks: list[Any] = []

    def mark(self) -> None:
        """Now, in the order of the device's work."""
        if self._device.type != "cuda":
            self._marks.append(perf_counter())
            return
        event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        event.record(torch.cuda.current_stream(self._device))
        self._marks.append(event)

    def seconds(self) -> list[float]:
        """Between each two marks; waits for the last one."""
        marks = self._marks
        if self._device.type != "cuda":
            return [after - before for before, after in pairwise(marks)]
        settle(self._device)
        return [float(before.elapsed_time(after)) / 1000 for before, after in pairwise(marks)]


def settle(device: torch.device) -> None:
    """Wait until the device has done all it was told."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def times_of(call: Call, device: torch.device, *, repeats: int, warm_up: float) -> Spread:
    """Seconds of each of ``repeats`` calls that follow each other.

    Args:
        warm_up: seconds of work before; one call at least.
    """
    began = perf_counter()
    while True:
        call()
        settle(device)
        if perf_counter() - began >= warm_up:
            break
    marks = Marks(device)
    marks.mark()
    for _ in range(repeats):
        call()
        marks.mark()
    return Spread.of(marks.seconds())


def sustained(call: Call, device: torch.device, seconds: float) -> float:
    """Seconds of one call under load: the device is kept busy for ``seconds``, and the second half counts.

    A card at its power limit slows down within a fraction of a second; a short burst would promise too much.
    """
    call()
    once = times_of(call, device, repeats=1, warm_up=0.0).median
    batch = max(1, round(seconds / 8 / max(once, 1e-7)))
    marks = Marks(device)
    marks.mark()
    for _ in range(8):
        for _ in range(batch):
            call()
        marks.mark()
    return sum(marks.seconds()[4:]) / (4 * batch)


@contextmanager
def peak_memory(device: torch.device) -> Iterator[list[Peak]]:
    """A list that has the peak after the block."""
    found: list[Peak] = []
    if device.type == "cuda":
        settle(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
    else:
        before = _resident()
    try:
        yield found
    finally:
        if device.type == "cuda":
            settle(device)
            most = torch.cuda.max_memory_allocated(device)
            found.append(Peak(most, torch.cuda.max_memory_reserved(device), most - before))
        else:
            resident = _resident()
            found.append(Peak(resident, resident, max(0, resident - before)))


def _resident() -> int:
    return int(psutil.Process().memory_info().rss)
