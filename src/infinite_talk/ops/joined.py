"""Several linear layers as one product: their weights lie one after another in memory, and are read as one matrix.

The layers stay what they are, with their own names and tensors; only the place of those tensors changes. So whatever
moves, packs or wraps a layer afterwards ends the joining, and the layers are multiplied one by one again.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def join(layers: Sequence[nn.Module]) -> bool:
    """Lay the weights of plain linear layers of one width in a row.

    Returns:
        Whether that was possible: packed weights have scales of their own, and a LoRA beside a layer has to see it
        alone.
    """
    plain = [layer for layer in layers if type(layer) is nn.Linear and layer.bias is not None]
    kinds = {(layer.in_features, layer.weight.dtype, layer.weight.device) for layer in plain}
    if len(plain) < len(layers) or len(kinds) != 1:
        return False
    for name in ("weight", "bias"):
        parts: list[Tensor] = [getattr(layer, name) for layer in plain]
        whole = torch.cat([part.detach() for part in parts])
        for part, rows in zip(parts, torch.split(whole, [len(part) for part in parts]), strict=True):
            part.data = rows
    return True


def together(layers: Sequence[nn.Module], x: Tensor) -> tuple[Tensor, ...] | None:
    """``layer(x)`` of each layer, from one product; ``None`` if their weights do not lie in a row."""
    plain = [layer for layer in layers if type(layer) is nn.Linear]
    if len(plain) < len(layers):
        return None
    weight, bias = _row([layer.weight for layer in plain]), _row([layer.bias for layer in plain])
    if weight is None or bias is None:
        return None
    return tuple(torch.split(F.linear(x, weight, bias), [layer.out_features for layer in plain], dim=-1))


def _row(parts: Sequence[Tensor]) -> Tensor | None:
    """The tensors as one, if each begins where the one before ends."""
    first, end = parts[0], parts[0].data_ptr()
    for part in parts:
        same = part.dtype == first.dtype and part.shape[1:] == first.shape[1:] and part.is_contiguous()
        if not same or part.data_ptr() != end:
            return None
        end += part.nbytes
    storage = first.untyped_storage()
    if end > storage.data_ptr() + storage.nbytes():
        return None  # neighbours by chance
    return first.as_strided((sum(len(part) for part in parts), *first.shape[1:]), first.stride())
