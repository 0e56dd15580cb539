"""Where the time of a pass goes, kernel by kernel, and whether the loop makes the host wait."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch._C._autograd import DeviceType
from torch.profiler import ProfilerActivity, record_function
from torch.profiler import profile as torch_profile

GROUPS = (
    ("attention", r"flash|fmha|attn|attention|sdpa|sage"),
    ("gemm", r"gemm|nvjet|cutlass|xmma|scaled_mm|cublas|::(add)?mm\b|::bmm|matmul|linear|conv"),
    ("copy", r"memcpy|memset|copy|::cat\b|_to_copy|fill"),
    (
        "elementwise",
        r"elementwise|reduce|triton|norm|vectorized|gelu|softmax|modulat|gate|rotat|rope|quant|::(add|mul|sub|div)",
    ),
)
"""Kernels by name; the first that fits."""
SYNCS = frozenset(
    {
        "cudaStreamSynchronize",
        "cudaDeviceSynchronize",
        "cudaEventSynchronize",
        "aten::_local_scalar_dense",
    }
)
"""What makes the host wait for the device. ``item`` is the fourth; ``Memcpy DtoH`` of unpinned memory is the first."""
STEP = "infinite_talk.step"
ROWS = 40


@dataclass(frozen=True, slots=True)
class Row:
    """All calls of one kernel."""

    name: str
    group: str
    calls: int
    seconds: float


def group_of(name: str) -> str:
    """What kind of kernel a name is of."""
    for group, pattern in GROUPS:
        if re.search(pattern, name, re.IGNORECASE):
            return group
    return "other"


def profiled(
    one_pass: Callable[[], object],
    walk: Callable[[Callable[[int], None]], None],
    device: torch.device,
) -> dict[str, Any]:
    """Profile one pass, then some steps.

    Args:
        one_pass: a forward pass.
        walk: runs the loop and calls its argument after each step.
    """
    rows = kernels_of(one_pass, device)
    seconds = sum(row.seconds for row in rows)
    groups: dict[str, dict[str, float]] = {}
    for row in rows:
        group = groups.setdefault(row.group, {"seconds": 0.0, "calls": 0.0})
        group["seconds"] += row.seconds
        group["calls"] += row.calls
    return {
        "on": "gpu kernels" if device.type == "cuda" else "cpu operators",
        "seconds": seconds,
        "groups": groups,
        "kernels": [
            {"name": row.name[:120], "group": row.group, "calls": row.calls, "seconds": row.seconds}
            for row in rows[:ROWS]
        ],
        "host_syncs_in_loop": syncs_of(walk, device),
    }


def kernels_of(work: Callable[[], object], device: torch.device) -> list[Row]:
    """Kernels on a GPU, operators on a CPU; the most time first."""
    gpu = device.type == "cuda"
    with torch_profile(activities=_activities(gpu)) as profiler:
        work()
        if gpu:
            torch.cuda.synchronize(device)
    rows = []
    for event in profiler.key_averages():
        on_gpu = event.device_type == DeviceType.CUDA
        if on_gpu != gpu or getattr(event, "is_user_annotation", False):
            continue
        micro = event.self_device_time_total if gpu else event.self_cpu_time_total
        rows.append(Row(event.key, group_of(event.key), int(event.count), float(micro) / 1e6))
    return sorted(rows, key=lambda row: -row.seconds)


def syncs_of(walk: Callable[[Callable[[int], None]], None], device: torch.device) -> dict[str, Any]:
    """How often the host waited between the end of the first step and that of the last one, by what did it."""

    def on_step(_step: int) -> None:
        with record_function(STEP):
            pass

    with torch_profile(activities=_activities(device.type == "cuda")) as profiler:
        walk(on_step)
    events = [event for event in profiler.events() or [] if event.device_type == DeviceType.CPU]
    marks = sorted(event.time_range.start for event in events if event.name == STEP)
    found: dict[str, int] = {}
    for event in events:
        if event.name in SYNCS and marks[0] < event.time_range.start < marks[-1]:
            found[event.name] = found.get(event.name, 0) + 1
    return {"steps": len(marks) - 1, "count": sum(found.values()), "by": found}


def _activities(gpu: bool) -> list[ProfilerActivity]:
    return [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if gpu else [])]
