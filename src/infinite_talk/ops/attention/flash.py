"""FlashAttention 2, 3 and 4 (Dao-AILab): exact, in half precision.

Shah et al., FlashAttention-3, arXiv 2407.08608. Sizes and GPUs are those that the packages check themselves.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

from torch import Tensor

from infinite_talk.ops.attention.base import AttentionCallable, GPUs, HeadSizes, Kernel, Source

_TO_256 = HeadSizes(256)
_AMPERE = GPUs("an Ampere GPU or newer (8.0+)", (((8, 0), (99, 9)),))
_HOPPER = GPUs("a Hopper GPU (9.0)", (((9, 0), (9, 0)),))


def _function(module: str) -> AttentionCallable:
    """``flash_attn_func`` of a module; some versions return the logarithms of the sums with the answer."""
    function: Any = import_module(module).flash_attn_func

    def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        out = function(q, k, v, causal=False)
        result: Tensor = out[0] if isinstance(out, tuple) else out
        return result

    return attend


FLASH_ATTN_2 = Kernel(
    name="flash_attn_2",
    title="FlashAttention 2",
    exact=True,
    bound=6e-3,
    get="Install flash-attn 2 built for this torch: pip install flash-attn --no-build-isolation (needs nvcc).",
    sources=(
        Source(
            package="flash-attn",
            module="flash_attn.flash_attn_interface",
            gpus=_AMPERE,
            head_sizes=_TO_256,
            load=lambda: _function("flash_attn.flash_attn_interface"),
            since=(2,),
            before=(3,),
        ),
    ),
)

FLASH_ATTN_3 = Kernel(
    name="flash_attn_3",
    title="FlashAttention 3",
    exact=True,
    bound=6e-3,
    get="Install it with pip install fa3-fwd (CUDA 13), or build the folder hopper/ of Dao-AILab/flash-attention.",
    sources=(
        Source(
            package="flash_attn_3",
            module="flash_attn_interface",
            gpus=_HOPPER,
            head_sizes=_TO_256,
            load=lambda: _function("flash_attn_interface"),
        ),
        Source(
            package="fa3-fwd",
            module="fa3_fwd_interface",
            gpus=_HOPPER,
            head_sizes=_TO_256,
            load=lambda: _function("fa3_fwd_interface"),
        ),
    ),
)

FLASH_ATTN_4 = Kernel(
    name="flash_attn_4",
    title="FlashAttention 4",
    exact=True,
    bound=6e-3,
    get="Install it with pip install --pre 'flash-attn-4[cu13]'; its kernels are compiled at the first use.",
    sources=(
        Source(
            package="flash-attn-4",
            module="flash_attn.cute.interface",
            gpus=_AMPERE,
            head_sizes=HeadSizes(128),  # 256 on Hopper; the model has 128
            load=lambda: _function("flash_attn.cute.interface"),
        ),
    ),
)
