"""What an attention kernel is, and the plain value that describes one before its package is imported."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

import torch
from torch import Tensor

Capability = tuple[int, int]
"""Compute capability of an NVIDIA GPU, e.g. ``(9, 0)`` for Hopper."""
HALF = frozenset({torch.float16, torch.bfloat16})


class AttentionCallable(Protocol):
    """``(q, k, v) -> out``: q and out ``(B, heads, L, d)``, k and v ``(B, heads, keys, d)``, one dtype."""

    def __call__(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor: ...


class Layout(StrEnum):
    """Order of the dimensions in which a package takes and returns its tensors."""

    HEADS_FIRST = "(B, heads, L, d)"
    TOKENS_FIRST = "(B, L, heads, d)"


@dataclass(frozen=True, slots=True)
class GPUs:
    """NVIDIA GPUs by compute capability: ranges with both ends included."""

    says: str
    """For people, with an article: "a Hopper GPU (9.0)"."""
    ranges: tuple[tuple[Capability, Capability], ...]

    def include(self, capability: Capability) -> bool:
        return any(low <= capability <= high for low, high in self.ranges)


@dataclass(frozen=True, slots=True)
class HeadSizes:
    """Sizes d of a head: multiples of ``step`` up to ``largest``, or those of ``only``."""

    largest: int
    step: int = 8
    only: frozenset[int] = frozenset()

    def include(self, size: int) -> bool:
        if self.only:
            return size in self.only
        return size <= self.largest and size % self.step == 0

    @property
    def says(self) -> str:
        if self.only:
            return "heads of " + " or ".join(map(str, sorted(self.only)))
        return f"heads of a multiple of {self.step} up to {self.largest}"


@dataclass(frozen=True, slots=True)
class Source:
    """One package that offers a kernel, known without importing it."""

    package: str
    """Name of the distribution, as pip knows it."""
    module: str
    """What has to be there to be imported, e.g. ``flash_attn.cute``."""
    gpus: GPUs
    head_sizes: HeadSizes
    load: Callable[[], AttentionCallable]
    """Imports the package and returns its function, in its own layout, with one tensor as answer."""
    layout: Layout = Layout.TOKENS_FIRST
    since: tuple[int, ...] = ()
    """First version that will do; empty: any."""
    before: tuple[int, ...] = ()
    """First version that will not do any more; empty: none."""
    dense: bool = False
    """Takes tensors without gaps only; else rows may lie apart (see ``inputs.py``)."""
    writes_keys: bool = False
    """Overwrites k, so it gets a copy: SageAttention 1 and 3 subtract the mean of the keys in place."""


@dataclass(frozen=True, slots=True)
class Kernel:
    """One entry of the registry."""

    name: str
    title: str
    exact: bool
    """Whether it computes attention up to rounding; else it rounds q, k or v to 8 or 4 bits."""
    bound: float
    """Largest relative error ``|out - ref| / |ref|`` in half precision that its tests accept."""
    get: str
    """How to get it, as a sentence."""
    sources: tuple[Source, ...] = ()
    """The packages, the better one first; empty: torch itself."""
    dtypes: frozenset[torch.dtype] = HALF
    fewest_keys: int = 1
    """Attention over fewer keys is left to ``sdpa``, see ``guarded.py``."""
