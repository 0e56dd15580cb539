"""Which operations a device runs."""

from __future__ import annotations

from importlib.util import find_spec

import torch

from infinite_talk.ops.fused.base import FusedOps
from infinite_talk.ops.fused.eager import EAGER


def fused_ops(device: torch.device) -> tuple[FusedOps, str | None]:
    """The fastest operations for a device, and one line if something is missing for them."""
    if device.type != "cuda":
        return EAGER, None
    if find_spec("triton") is None:
        return EAGER, (
            "Triton is not installed, so plain torch does the work between the matrix products, which takes "
            "about a third longer; install it with pip install triton (Linux) or triton-windows."
        )
    if torch.cuda.get_device_capability(device) < (8, 0):
        return EAGER, None
    from infinite_talk.ops.fused.triton_ops import TRITON

    return TRITON, None
