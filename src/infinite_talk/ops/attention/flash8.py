"""FlashAttention 3 in 8 bits: queries, keys and values as float8 with one scale for each head. Hopper only.

Without more the rounding would show: one channel of the keys that is far from zero makes the scale of its head
coarse. So the mean of each channel is taken from the keys, which changes every score of a query by the same
amount and the softmax not at all, and from the values, to whose answer it is added again, since the weights of
a query add up to one. On hard inputs the relative error falls from 0.19 to 0.02 (SageAttention takes the mean
of the keys likewise, arXiv 2410.02367).
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

import torch
from torch import Tensor

from infinite_talk.ops.attention.base import AttentionCallable, GPUs, HeadSizes, Kernel, Source
from infinite_talk.ops.linear.rows import E4M3_LARGEST

_PARTS = 32
"""Into how many parts the tokens are cut for the statistics, so that few heads fill a GPU."""
_BLOCK = 32  # tokens of a tile
_HOPPER = GPUs("a Hopper GPU (9.0)", (((9, 0), (9, 0)),))
FEWEST_KEYS = 1024
"""Over fewer keys, those of text, picture and speech, the statistics cost more than 8 bits save: there it is exact."""


def _function(module: str) -> AttentionCallable:
    """Attention over ``(B, L, heads, d)`` by a module's ``flash_attn_func``."""
    function: Any = import_module(module).flash_attn_func

    def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        if k.shape[1] < FEWEST_KEYS:
            return _first(function(q, k, v, causal=False))
        (q8, q_scale, _), (k8, k_scale, _) = narrowed(q, centre=False), narrowed(k, centre=True)
        v8, v_scale, mean = narrowed(v, centre=True)
        scales = {"q_descale": q_scale, "k_descale": k_scale, "v_descale": v_scale}
        out = _first(function(q8, k8, v8, causal=False, **scales))
        assert mean is not None
        return _plus_mean(out, mean).to(q.dtype)

    return attend


def _first(found: Tensor | tuple[Tensor, ...]) -> Tensor:
    """Some versions return the logarithms of the sums with the answer."""
    return found[0] if isinstance(found, tuple) else found


def _plus_mean(x: Tensor, mean: Tensor) -> Tensor:
    """``x`` ``(B, L, heads, d)`` plus ``(B, heads, d)``, in place."""
    from infinite_talk.ops.attention import kernels

    batch, length, heads, d = x.shape
    width = heads * d
    block = 1 << (width - 1).bit_length()
    kernels.add_mean_kernel[(batch * length,)](x, mean, length, width, BLOCK=block, num_warps=8)
    return x


def narrowed(x: Tensor, *, centre: bool) -> tuple[Tensor, Tensor, Tensor | None]:
    """``x`` ``(B, L, heads, d)`` as ``data * scale + mean``: float8_e4m3fn, ``(B, heads)``, ``(B, heads, d)``.

    Args:
        centre: take the mean of each channel over the tokens; else it is ``None``.
    """
    from infinite_talk.ops.attention import kernels

    batch, length, heads, d = x.shape
    places = batch * heads
    per_part = -(-length // (_PARTS * _BLOCK)) * _BLOCK
    parts = torch.empty(3, _PARTS, places, d, dtype=torch.float32, device=x.device)
    scale = torch.empty(batch, heads, dtype=torch.float32, device=x.device)
    mean = torch.empty(batch, heads, d, dtype=torch.float32, device=x.device) if centre else None
    data = torch.empty(x.shape, dtype=torch.float8_e4m3fn, device=x.device)
    strides = x.stride()[:3]
    kernels.range_kernel[(places, _PARTS)](
        x, parts, length, heads, per_part, *strides, *parts.stride()[:2], DIM=d, BLOCK=_BLOCK, num_warps=4
    )
    kernels.scale_kernel[(places,)](
        *(parts, mean, scale, length, _PARTS, *parts.stride()[:2]),
        DIM=d, PARTS=_PARTS, CENTRE=centre, num_warps=4,
    )  # fmt: skip
    kernels.narrow_heads_kernel[(-(-length // _BLOCK), places)](
        x, mean, scale, data, length, heads, *strides, DIM=d, BLOCK=_BLOCK, CENTRE=centre, num_warps=4
    )
    return data, scale, mean


def narrowed_slowly(x: Tensor, *, centre: bool) -> tuple[Tensor, Tensor, Tensor | None]:
    """The slow twin of ``narrowed``."""
    wide = x.float()
    mean = wide.mean(dim=1) if centre else None
    wide = wide if mean is None else wide - mean[:, None]
    scale = wide.abs().amax(dim=(1, 3)).clamp(min=1e-30) / E4M3_LARGEST
    return (wide / scale[:, None, :, None]).to(torch.float8_e4m3fn), scale, mean


FLASH_ATTN_3_FP8 = Kernel(
    name="flash_attn_3_fp8",
    title="FlashAttention 3 in 8 bits",
    exact=False,
    bound=0.1,  # 0.085 on an H200 for peaked scores, 0.02 to 0.05 for a model's
    get="Install it with pip install fa3-fwd (CUDA 13); it needs triton, too.",
    # The answers in 8 bits come in bf16, and not every build has the plain kernel for few keys in fp16.
    dtypes=frozenset({torch.bfloat16}),
    sources=tuple(
        Source(
            package=package,
            module=module,
            gpus=_HOPPER,
            head_sizes=HeadSizes(128, only=frozenset({64, 128})),
            load=lambda module=module: _function(module),  # type: ignore[misc]
        )
        for package, module in (
            ("flash_attn_3", "flash_attn_interface"),
            ("fa3-fwd", "fa3_fwd_interface"),
        )
    ),
)
