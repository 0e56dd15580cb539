"""SageAttention (thu-ml): products in 8 or 4 bits, so approximate and faster than exact kernels.

Zhang et al.: version 1 arXiv 2410.02367, 2 arXiv 2411.10958, 3 arXiv 2505.11594. All subtract the mean of the
keys first, which softmax does not notice and rounding does.
"""

from __future__ import annotations

from functools import partial
from importlib import import_module
from typing import Any

from torch import Tensor

from infinite_talk.ops.attention.base import AttentionCallable, GPUs, HeadSizes, Kernel, Layout, Source

_FEWEST_KEYS = 1024
"""Below this only ``sdpa`` runs. On an H200 SageAttention 2 took twice as long as exact kernels over the 512
keys of the text, four times as long over the 32 of the speech, and its error was twice that of long ones."""


def _sage(module: str) -> AttentionCallable:
    function: Any = import_module(module).sageattn

    def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        out: Tensor = function(q, k, v, tensor_layout="NHD", is_causal=False)
        return out

    return attend


def _sage3(module: str, name: str, *, per_block_mean: bool) -> AttentionCallable:
    """Of version 3, with the mean of the queries taken per block of 128, or over all of them."""
    function: Any = getattr(import_module(module), name)

    def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        out: Tensor = function(q, k, v, is_causal=False, per_block_mean=per_block_mean)
        return out

    return attend


SAGEATTN = Kernel(
    name="sageattn",
    title="SageAttention 2 (or 1)",
    exact=False,
    bound=0.06,
    get=(
        "Build version 2 from github.com/thu-ml/SageAttention for this torch (needs nvcc), or take the slower "
        "version 1 with pip install sageattention==1.0.6 (needs triton)."
    ),
    fewest_keys=_FEWEST_KEYS,
    sources=(
        Source(
            package="sageattention",
            module="sageattention",
            gpus=GPUs(
                "an Ampere, Ada, Hopper or RTX Blackwell GPU (8.0, 8.6, 8.9, 9.0, 12.x)",
                (((8, 0), (8, 0)), ((8, 6), (8, 6)), ((8, 9), (9, 0)), ((12, 0), (12, 9))),
            ),
            head_sizes=HeadSizes(128),
            load=lambda: _sage("sageattention"),
            since=(2,),
        ),
        Source(
            package="sageattention",
            module="sageattention",
            gpus=GPUs("an Ampere GPU or newer (8.0+)", (((8, 0), (99, 9)),)),
            head_sizes=HeadSizes(128, only=frozenset({64, 96, 128})),
            load=lambda: _sage("sageattention"),
            before=(2,),
            writes_keys=True,
        ),
    ),
)


def _sage3_kernel(name: str, title: str, *, per_block_mean: bool) -> Kernel:
    """An entry of version 3. Its package was called otherwise at first."""
    names = (("sageattn3", "sageattn3_blackwell"), ("sageattn", "sageattn_blackwell"))
    return Kernel(
        name=name,
        title=title,
        exact=False,
        bound=0.3,
        get="Build the folder sageattention3_blackwell of github.com/thu-ml/SageAttention (needs nvcc 12.8 or newer).",
        fewest_keys=_FEWEST_KEYS,
        sources=tuple(
            Source(
                package=module,
                module=module,
                gpus=GPUs("a Blackwell GPU (10.0+)", (((10, 0), (10, 3)), ((12, 0), (12, 9)))),
                head_sizes=HeadSizes(128, only=frozenset({64, 128})),
                load=partial(_sage3, module, function, per_block_mean=per_block_mean),
                layout=Layout.HEADS_FIRST,
                dense=True,
                writes_keys=True,
            )
            for module, function in names
        ),
    )


SAGEATTN_3 = _sage3_kernel("sageattn_3", "SageAttention 3, one mean of the queries", per_block_mean=False)
SAGEATTN_3_FP4 = _sage3_kernel(
    "sageattn_3_fp4", "SageAttention 3, a mean per block of queries", per_block_mean=True
)
