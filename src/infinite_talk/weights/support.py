"""Every precision on this machine: does its fast product run, and what runs if not."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from infinite_talk.settings import Quantization
from infinite_talk.weights.precision import capability_of, policy_for


@dataclass(frozen=True, slots=True)
class PrecisionRow:
    """One precision of the transformer's weights on one device."""

    name: str
    native: bool
    """Whether it runs as asked for."""
    runs: str
    """What runs; the same weights if not native."""
    why: str
    """What keeps it from running as asked for; empty if nothing does."""


def precision_matrix(device: torch.device | None = None) -> tuple[PrecisionRow, ...]:
    """Every precision on ``device``, default is the first CUDA device, else the CPU. Runs nothing."""
    device = device or torch.device("cuda" if torch.cuda.is_available() else "cpu")
    capability = capability_of(device)
    rows = []
    for asked in Quantization:
        policy, note = policy_for(asked, capability, gguf=asked is Quantization.GGUF or None)
        rows.append(PrecisionRow(asked.value, policy.name is asked, policy.name.value, note or ""))
    return tuple(rows)
