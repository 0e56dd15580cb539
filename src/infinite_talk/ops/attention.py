"""Attention kernels by name. All compute ``softmax(q k^T / sqrt(d)) v`` without a mask, for every head apart.

A kernel is a plain callable that models receive in their constructor. ``eager`` is the slow, obvious twin
that every other kernel is tested against.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import Protocol

import torch.nn.functional as F
from torch import Tensor

from infinite_talk.errors import CapabilityError


class AttentionCallable(Protocol):
    """``(q, k, v) -> out``: q and out ``(B, heads, L, d)``, k and v ``(B, heads, keys, d)``, one dtype."""

    def __call__(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor: ...


def sdpa(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """PyTorch's fused attention; chooses flash, memory-efficient or plain kernels by hardware and dtype."""
    return F.scaled_dot_product_attention(q, k, v)


def eager(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """The definition, written out in float32. Holds all scores in memory: for tests and comparison."""
    scores = q.float() @ k.float().transpose(-1, -2) / math.sqrt(q.shape[-1])
    return (scores.softmax(dim=-1) @ v.float()).to(v.dtype)


KERNELS: Mapping[str, AttentionCallable] = MappingProxyType({"sdpa": sdpa, "eager": eager})


def attention_named(name: str) -> AttentionCallable:
    """The kernel called ``name``; ``auto`` is ``sdpa``.

    Raises:
        CapabilityError: no kernel has this name.
    """
    try:
        return KERNELS["sdpa" if name == "auto" else name]
    except KeyError:
        known = ", ".join(sorted(KERNELS))
        raise CapabilityError(
            f"There is no attention kernel {name!r}. Choose one of: auto, {known}.", code="attention_unknown"
        ) from None
