"""xFormers' memory-efficient attention (Meta): exact, for cards on which FlashAttention does not run."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import torch
from torch import Tensor

from infinite_talk.ops.attention.base import HALF, AttentionCallable, GPUs, HeadSizes, Kernel, Source


def _load() -> AttentionCallable:
    function: Any = import_module("xformers.ops").memory_efficient_attention

    def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        out: Tensor = function(q, k, v)
        return out

    return attend


XFORMERS = Kernel(
    name="xformers",
    title="xFormers memory-efficient attention",
    exact=True,
    bound=6e-3,
    get="Install the xformers that was built for this torch and CUDA: pip install xformers from torch's own index.",
    dtypes=HALF | {torch.float32},
    sources=(
        Source(
            package="xformers",
            module="xformers.ops",
            gpus=GPUs("a Turing GPU or newer (7.5+)", (((7, 5), (99, 9)),)),
            head_sizes=HeadSizes(256),
            load=_load,
        ),
    ),
)
