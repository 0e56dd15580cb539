"""A kernel as one operator of torch, into which compilers do not look."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor

from infinite_talk.ops.attention.base import AttentionCallable


def opaque(name: str, attend: AttentionCallable) -> AttentionCallable:
    """``attend`` as the operator ``infinite_talk::NAME``; only while compiling, since each call costs a little.

    A compiler has tensors without addresses, kernels look at addresses. Whatever happens inside happens when
    the compiled program runs. The answer lies in memory as ``(B, L, heads, d)``, because a compiler wants to know.
    """

    def run(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return attend(q, k, v).transpose(1, 2).contiguous().transpose(1, 2)

    def shape(q: Tensor, k: Tensor, v: Tensor) -> Tensor:  # noqa: ARG001 - the operator's signature
        batch, heads, length, _ = q.shape
        return q.new_empty(batch, length, heads, v.shape[3]).transpose(1, 2)

    schema = "(Tensor q, Tensor k, Tensor v) -> Tensor"
    operator = torch.library.custom_op(f"infinite_talk::{name}", run, mutates_args=(), schema=schema)
    operator.register_fake(shape)
    return cast("AttentionCallable", operator)
