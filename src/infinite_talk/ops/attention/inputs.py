"""Tensors as kernels need them: rows without gaps, starting at multiples of 16 bytes.

Kernels read 16 bytes at a time and mostly do not check: a tensor that starts elsewhere is the "misaligned
address" that ends a CUDA process. Tensors of the model are fine as they are, and then nothing is copied.
"""

from __future__ import annotations

import torch
from torch import Tensor

ALIGNMENT = 16
"""Bytes of the widest load of a GPU, and the granule of Hopper's bulk copies."""


def aligned(x: Tensor, *, dense: bool = False) -> Tensor:
    """``x`` itself if a kernel can take it, else a copy without gaps.

    It can if the last dimension lies without gaps, ``x`` and all its rows start at multiples of 16 bytes,
    and nothing is repeated by a stride of 0.

    Args:
        dense: whether gaps between rows have to go, too.
    """
    return x if is_aligned(x, dense=dense) else x.clone(memory_format=torch.contiguous_format)


def is_aligned(x: Tensor, *, dense: bool = False) -> bool:
    """Whether ``x`` needs no copy. Looks at the address, so not for a compiler's tensors."""
    *outer, last = x.stride()
    if last != 1 or (dense and not x.is_contiguous()) or x.data_ptr() % ALIGNMENT:
        return False
    # A dimension of size 1 counts as well: its stride, which means nothing, goes into descriptors of copies.
    return all(stride > 0 and stride * x.itemsize % ALIGNMENT == 0 for stride in outer)
