"""A package's kernel behind a door that lets in only what it can take."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from infinite_talk.ops.attention.base import AttentionCallable, Kernel, Layout, Source
from infinite_talk.ops.attention.inputs import aligned
from infinite_talk.ops.attention.native import sdpa, wants_gradient
from infinite_talk.ops.attention.opaque import opaque


@dataclass(frozen=True, slots=True, eq=False)
class Guarded:
    """``kernel`` from ``source``, and ``sdpa`` for the calls that its description excludes:

    - a dtype or a head size that it does not have, or values of another width than queries and keys;
    - fewer keys than ``kernel.fewest_keys``: rounding costs more time than it saves, and the error is larger;
    - gradients.

    Which attentions of a model these are depends on its shapes alone, so it is the same in every step.
    """

    kernel: Kernel
    source: Source
    attend: AttentionCallable
    """In our layout, for aligned and unaligned inputs."""
    compiled: AttentionCallable
    """The same while compiling."""

    def __call__(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        if not self.takes(q, k, v):
            return sdpa(q, k, v)
        return self.compiled(q, k, v) if torch.compiler.is_compiling() else self.attend(q, k, v)

    def takes(self, q: Tensor, k: Tensor, v: Tensor) -> bool:
        """Whether the description includes this call."""
        return (
            q.dtype in self.kernel.dtypes
            and q.dtype == k.dtype == v.dtype
            and q.shape[3] == v.shape[3]
            and self.source.head_sizes.include(q.shape[3])
            and k.shape[2] >= self.kernel.fewest_keys
            and not wants_gradient(q, k, v)
        )


@dataclass(frozen=True, slots=True, eq=False)
class Dense:
    """A kernel that is given q, k and v without gaps and in the order of their dimensions.

    In a block these are views with the heads turned to the front. Kernels read them as they are, and ``aligned`` copies
    for those that cannot; all other products of a block have dense inputs anyway.
    """

    attend: AttentionCallable

    def __call__(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return self.attend(q.contiguous(), k.contiguous(), v.contiguous())


def guard(kernel: Kernel, source: Source, function: AttentionCallable) -> Guarded:
    """Put ``function``, which takes its source's layout, behind the door."""
    attend = with_aligned_inputs(function, source)
    return Guarded(kernel, source, attend, opaque(kernel.name, attend))


def with_aligned_inputs(function: AttentionCallable, source: Source) -> AttentionCallable:
    """``function`` in our layout, never given a tensor that it cannot take or must not change."""
    first = source.layout is Layout.HEADS_FIRST

    def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        mine = (q, k, v) if first else (q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2))
        q, keys, v = (aligned(x, dense=source.dense) for x in mine)
        if source.writes_keys and keys is mine[1]:
            keys = keys.clone(memory_format=torch.contiguous_format)
        out = function(q, keys, v)
        return out if first else out.transpose(1, 2)

    return attend


def exact(attention: AttentionCallable) -> AttentionCallable:
    """``attention`` if it is exact, else ``sdpa``: for what decides rather than draws.

    Who a picture token belongs to is read from attention (``models/dit/people.py``); a kernel that rounds its
    inputs to 8 or 4 bits could give it to another person, and divides by the largest value of channels that
    are all zero there.
    """
    kernel = attention.attend if isinstance(attention, Dense) else attention
    return sdpa if isinstance(kernel, Guarded) and not kernel.kernel.exact else attention
