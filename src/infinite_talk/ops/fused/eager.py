"""The operations of ``base.py`` in plain torch: what the others are tested against, and what CPUs run."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from infinite_talk.ops.linear.rows import Activations, float8_rows
from infinite_talk.ops.norms import layer_norm
from infinite_talk.ops.rope import Rotation, rotate


class Eager:
    """Each operation one after another, as torch has them."""

    name = "torch"

    def norm(
        self, x: Tensor, factor: Tensor, shift: Tensor, eps: float, *, narrow: bool = False
    ) -> Activations:
        if factor.dim() == 1:
            return _narrowed(layer_norm(x, eps, factor, shift), narrow)
        return _narrowed((layer_norm(x, eps).float() * factor + shift).to(x.dtype), narrow)

    def add_norm(
        self,
        x: Tensor,
        update: Tensor,
        amount: Tensor | None,
        factor: Tensor,
        shift: Tensor,
        eps: float,
        *,
        narrow: bool = False,
        own: bool = False,
    ) -> tuple[Tensor, Activations]:
        if amount is not None:
            y = self.add(x, update, amount)
        else:
            y = x.add_(update) if own and not torch.is_grad_enabled() else x + update
        del x, update
        return y, self.norm(y, factor, shift, eps, narrow=narrow)

    def add(self, x: Tensor, update: Tensor, amount: Tensor, *, own: bool = False) -> Tensor:  # noqa: ARG002
        return (x.float() + update.float() * amount).to(x.dtype)

    def rms_rotate(self, x: Tensor, norm: nn.Module, heads: int, rotation: Rotation | None) -> Tensor:
        split = torch.unflatten(norm(x), -1, (heads, -1))
        del x  # hundreds of megabytes, if nobody else has it
        return split if rotation is None else rotate(split, rotation)

    def total(self, x: Tensor, other: Tensor | None, *, narrow: bool = False) -> Activations:
        return _narrowed(x if other is None else x + other, narrow)

    def gelu(self, layer: nn.Module, x: Activations, *, narrow: bool = False) -> Activations:
        return _narrowed(F.gelu(layer(x), approximate="tanh"), narrow)

    def grouped_attention(
        self,
        x: Tensor,
        k: Tensor,
        v: Tensor,
        queries: nn.Module,
        answers: nn.Module,
        rotation: Rotation | None = None,
    ) -> Tensor:
        """With few keys it is less work to carry them back through the layers than the tokens to them:

        ``(W x + b) . k = x . (W^T k) + b . k``, and ``W' sum_j p_j v_j = sum_j p_j (W' v_j)``, for each head.
        The first does not hold for queries that are turned, each by its own angles.
        """
        heads, count, d = k.shape[1:]
        answer, k = Plain(answers, x.dtype), k / math.sqrt(d)
        if rotation is None:
            scores = _folded_scores(x, k, Plain(queries, x.dtype))
        else:
            q = rotate(torch.unflatten(queries(x), -1, (heads, d)), rotation)
            scores = torch.einsum("gshd,ghld->gshl", q, k).flatten(2)
        shares = torch.unflatten(scores, -1, (heads, count)).softmax(-1).flatten(2)
        values = torch.einsum("ghld,Dhd->ghlD", v, answer.weight.view(-1, heads, d)).flatten(1, 2)
        out = shares @ values
        return out if answer.bias is None else out + answer.bias


EAGER = Eager()


class Plain:
    """Weight and bias of a linear layer of any kind, in one dtype."""

    def __init__(self, layer: Any, dtype: torch.dtype) -> None:  # noqa: ANN401 - plain, packed, with LoRA
        self.weight: Tensor = layer.weight.to(dtype)
        self.bias: Tensor | None = None if layer.bias is None else layer.bias.to(dtype)


def _folded_scores(x: Tensor, k: Tensor, ask: Plain) -> Tensor:
    """``(G, S, heads * L)``: of tokens with keys that went back through the queries' layer."""
    heads, _, d = k.shape[1:]
    keys = torch.einsum("ghld,hdD->ghlD", k, ask.weight.view(heads, d, -1)).flatten(1, 2)
    scores = x @ keys.transpose(1, 2)
    if ask.bias is None:
        return scores
    return scores + (k * ask.bias.view(heads, 1, d)).sum(-1).flatten(1)[:, None]


def _narrowed(x: Tensor, narrow: bool) -> Activations:
    return float8_rows(x) if narrow else x
