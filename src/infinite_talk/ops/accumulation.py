"""Half-precision products whose sums are float16 too: about twice as fast on consumer GPUs, with more rounding."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


def why_not_float16_sums(device: torch.device) -> str | None:
    """What keeps a device from summing in float16; ``None``: nothing."""
    if device.type != "cuda":
        return "sums in float16 need an NVIDIA GPU; this runs on the CPU"
    if not hasattr(torch.backends.cuda.matmul, "allow_fp16_accumulation"):
        return f"sums in float16 need torch 2.7, this is {torch.__version__}"
    return None


@contextmanager
def float16_sums(wanted: bool, device: torch.device) -> Iterator[None]:
    """Let matrix products of float16 sum in float16 inside the block, where the device can.

    The switch belongs to the process (torch has no other), so it is put back at the end.
    """
    if not wanted or why_not_float16_sums(device):
        yield
        return
    matmul = torch.backends.cuda.matmul
    before = matmul.allow_fp16_accumulation
    matmul.allow_fp16_accumulation = True
    try:
        yield
    finally:
        matmul.allow_fp16_accumulation = before
