"""Every attention kernel on this machine: does it run, why not, how long does it take."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from infinite_talk.ops.attention.base import Kernel
from infinite_talk.ops.attention.machine import Here, here
from infinite_talk.ops.attention.registry import KERNELS, Unusable, ready
from infinite_talk.ops.attention.resolving import resolve
from infinite_talk.ops.attention.stopwatch import seconds_of
from infinite_talk.settings import Attention

GPU_SHAPE = (1, 40, 8192, 128)
"""Batch, heads, tokens and head size of a timing: the heads of the 14B model, a quarter of a 480p window."""
CPU_SHAPE = (1, 8, 1024, 64)


@dataclass(frozen=True, slots=True)
class AttentionRow:
    """One kernel on one device."""

    name: str
    title: str
    exact: bool
    usable: bool
    why: str
    """What keeps it from running, as the end of a sentence that begins with its name; empty if nothing does."""
    get: str
    """How to get it; empty if it is there or would be of no use on this device."""
    version: str
    """Package and version it would run from; empty if unusable."""
    chosen: bool
    """Whether ``auto`` takes it."""
    milliseconds: float | None
    """Self-attention at ``GPU_SHAPE`` or ``CPU_SHAPE``; ``None``: unusable, or the memory is too small for it."""


def attention_matrix(device: torch.device | None = None) -> tuple[AttentionRow, ...]:
    """Try and time every kernel. Imports the packages that should run here; takes seconds.

    Args:
        device: default is the first CUDA device, else the CPU. Half precision (bf16) on a GPU, float32 on a CPU.
    """
    device = device or torch.device("cuda" if torch.cuda.is_available() else "cpu")
    on_gpu = device.type == "cuda"
    shape, dtype = (GPU_SHAPE, torch.bfloat16) if on_gpu else (CPU_SHAPE, torch.float32)
    chosen = resolve(Attention.AUTO, device, dtype, strict=False, head_dim=shape[3]).name
    return tuple(
        _row(kernel, here(device), shape, dtype, kernel.name == chosen) for kernel in KERNELS.values()
    )


def _row(
    kernel: Kernel, place: Here, shape: tuple[int, int, int, int], dtype: torch.dtype, chosen: bool
) -> AttentionRow:
    batch, heads, length, width = shape
    found = ready(kernel, place, dtype, width)
    about = (kernel.name, kernel.title, kernel.exact)
    if isinstance(found, Unusable):
        return AttentionRow(*about, False, found.why, found.remedy, "", False, None)
    tokens = torch.randn((3, batch, length, heads, width), device=place.device, dtype=dtype)
    q, k, v = tokens.transpose(2, 3).unbind(0)  # as the model has them
    try:
        seconds = seconds_of(lambda: found.attend(q, k, v), place.device, repeats=3)
    except torch.OutOfMemoryError:
        return AttentionRow(*about, True, "", "", found.version, chosen, None)
    return AttentionRow(*about, True, "", "", found.version, chosen, round(1000 * seconds, 3))
