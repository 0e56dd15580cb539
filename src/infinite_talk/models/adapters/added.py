"""More to attend to: an adapter's keys and values of each block of the transformer, from its own features."""

from __future__ import annotations

from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from infinite_talk.models.dit.condition import KeysValues


class GivesMore(Protocol):
    """An adapter with keys and values for the blocks' cross-attention."""

    @property
    def layers(self) -> int:
        """Blocks that it has weights for."""
        ...

    @property
    def width(self) -> int:
        """Of the transformer that it is for."""
        ...

    def keys_values(self, block: int, features: Tensor, heads: int) -> KeysValues:
        """Of a block, ``(B * T, heads, L, d)``, for features ``(B, T, L, C)`` of each latent frame."""
        ...


def project(features: Tensor, k: nn.Linear, v: nn.Linear, heads: int) -> KeysValues:
    """Keys and values ``(B * T, heads, L, d)`` of features ``(B, T, L, C)``, computed where the features are.

    The layers' weights stay where they are: each is needed once in a window, and a GPU need not hold all.
    """
    flat = features.flatten(0, 1)
    both = (F.linear(flat, layer.weight.to(flat.device, flat.dtype)) for layer in (k, v))
    return KeysValues(*(torch.unflatten(one, -1, (heads, -1)).transpose(1, 2) for one in both))
