"""Normalisations whose statistics are float32 whatever the dtype of the stream."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def layer_norm(x: Tensor, eps: float, weight: Tensor | None = None, bias: Tensor | None = None) -> Tensor:
    """LayerNorm over the last axis in float32, returned in the dtype of ``x``."""
    if weight is not None and weight.dtype != x.dtype:
        # Mixed dtypes have no kernel on every device; the kernels of one dtype compute in float32 anyway.
        normed = F.layer_norm(
            x.float(), x.shape[-1:], weight.float(), None if bias is None else bias.float(), eps
        )
    else:
        normed = F.layer_norm(x, x.shape[-1:], weight, bias, eps)
    return normed.to(x.dtype)


class LayerNorm(nn.LayerNorm):
    """Affine LayerNorm over the last axis, float32 inside, the dtype of the input outside."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - the name of the parent
        return layer_norm(input, self.eps, self.weight, self.bias)


class RMSNorm(nn.Module):
    """Root-mean-square norm over the last axis: normalised in float32, cast, then scaled by ``weight``."""

    def __init__(self, dim: int, eps: float) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(dim))

    def forward(self, x: Tensor) -> Tensor:
        normed = F.rms_norm(x, x.shape[-1:], None, self.eps).to(x.dtype)
        return (normed * self.weight).to(x.dtype)
