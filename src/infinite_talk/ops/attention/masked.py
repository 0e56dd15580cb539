"""Attention to some of the keys, or with a weight for each: torch's own kernel, which takes a mask."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def masked(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
    """``(B, heads, L, d)`` as ``AttentionCallable``; ``mask`` broadcasts to ``(B, heads, L, keys)``.

    Bool: which keys a query sees, at least one. Float: added to the scores.
    """
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
