"""How long a kernel takes."""

from __future__ import annotations

from collections.abc import Callable
from statistics import median
from time import perf_counter

import torch


def seconds_of(call: Callable[[], object], device: torch.device, *, repeats: int) -> float:
    """Median seconds of ``call`` after one call to warm up; on a GPU by its own clock."""
    call()
    return median(_once(call, device) for _ in range(repeats))


def _once(call: Callable[[], object], device: torch.device) -> float:
    if device.type != "cuda":
        began = perf_counter()
        call()
        return perf_counter() - began
    with torch.cuda.device(device):
        began_event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        ended = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        began_event.record()
        call()
        ended.record()
        ended.synchronize()
        return float(began_event.elapsed_time(ended)) / 1000
