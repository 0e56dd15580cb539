"""The operations of ``base.py`` as Triton kernels, one pass over memory each. For inference on NVIDIA GPUs."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from infinite_talk.ops.fused import kernels
from infinite_talk.ops.fused.eager import EAGER, Plain
from infinite_talk.ops.linear.rows import Activations, Float8Rows
from infinite_talk.ops.norms import RMSNorm
from infinite_talk.ops.rope import Rotation

_PIECE = 1024
"""Numbers of a row that are in registers at a time."""
_WIDE = 128
"""Columns of a tile in ``fold``."""
_ROWS = 64
"""Queries of a tile where they are turned and compared with few keys."""


class TritonOps:
    """Where gradients are wanted, or for shapes that a kernel does not have, ``EAGER`` answers."""

    name = "triton"

    def norm(
        self, x: Tensor, factor: Tensor, shift: Tensor, eps: float, *, narrow: bool = False
    ) -> Activations:
        if not _plain(x):
            return EAGER.norm(x, factor, shift, eps, narrow=narrow)
        out, place, scale = _answer(x, narrow)
        _norm(x, None, None, factor, shift, eps, None, place, scale)
        return out

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
        if not _plain(x, update):
            return EAGER.add_norm(x, update, amount, factor, shift, eps, narrow=narrow, own=own)
        y = x if own else torch.empty(x.shape, dtype=x.dtype, device=x.device)
        out, place, scale = _answer(x, narrow)
        _norm(x, update, amount, factor, shift, eps, y, place, scale)
        return y, out

    def add(self, x: Tensor, update: Tensor, amount: Tensor, *, own: bool = False) -> Tensor:
        if not _plain(x, update):
            return EAGER.add(x, update, amount, own=own)
        y = x if own else torch.empty(x.shape, dtype=x.dtype, device=x.device)
        _norm(x, update, amount, None, None, 0.0, y, None, None)
        return y

    def rms_rotate(self, x: Tensor, norm: nn.Module, heads: int, rotation: Rotation | None) -> Tensor:
        pairs = x.shape[-1] // heads // 2
        at_once = _heads_at_once(heads, 2 * pairs)
        if not _plain(x) or not isinstance(norm, RMSNorm) or pairs & (pairs - 1) or not at_once:
            return EAGER.rms_rotate(x, norm, heads, rotation)
        _turn(x, norm, heads, at_once, rotation)
        return torch.unflatten(x, -1, (heads, -1))

    def total(self, x: Tensor, other: Tensor | None, *, narrow: bool = False) -> Activations:
        if not narrow:
            return x if other is None else x.add_(other) if _plain(x, other) else x + other
        if not _plain(x) or not x.is_contiguous() or (other is not None and not other.is_contiguous()):
            return EAGER.total(x, other, narrow=narrow)
        out, place, scale = _answer(x, narrow)
        _rowwise(x, other, place, scale, gelu=False)
        return out

    def gelu(self, layer: nn.Module, x: Activations, *, narrow: bool = False) -> Activations:
        if isinstance(x, Tensor) and not _plain(x):
            return EAGER.gelu(layer, x, narrow=narrow)
        if not narrow and isinstance(layer, nn.Linear) and isinstance(x, Tensor) and layer.bias is not None:
            # cuBLASLt does it to the sums before they leave the chip.
            rows = torch._addmm_activation(
                layer.bias, x.reshape(-1, x.shape[-1]), layer.weight.t(), use_gelu=True
            )
            return rows.view(*x.shape[:-1], -1)
        y: Tensor = layer(x)
        if not y.is_contiguous():
            return EAGER.total(F.gelu(y, approximate="tanh"), None, narrow=narrow)
        out, place, scale = _answer(y, narrow, into=None if narrow else y)
        _rowwise(y, None, place, scale, gelu=True)
        return out

    def grouped_attention(
        self,
        x: Tensor,
        k: Tensor,
        v: Tensor,
        queries: nn.Module,
        answers: nn.Module,
        rotation: Rotation | None = None,
    ) -> Tensor:
        heads, _, d = k.shape[1:]
        usable = _plain(x) and k.stride(3) == v.stride(3) == 1 and x.dtype != torch.float32
        if not usable or d & (d - 1) or d < 16:  # sizes of the matrix units
            return EAGER.grouped_attention(x, k, v, queries, answers, rotation)
        if rotation is None:
            shares = _folded_shares(x, k, Plain(queries, x.dtype))
        else:
            shares = _turned_shares(queries(x), k, rotation)
        answer = Plain(answers, x.dtype)
        values = _fold(v, answer.weight.view(-1, heads, d).permute(1, 2, 0), answer.bias, 1.0)
        return torch.bmm(shares, values)


TRITON = TritonOps()


def _plain(*tensors: Tensor) -> bool:
    """Whether kernels can take these: on the GPU, rows without gaps inside, no gradients, not compiling."""
    return all(
        x.is_cuda and x.dim() == 3 and x.stride(-1) == 1 and not (torch.is_grad_enabled() and x.requires_grad)
        for x in tensors
    )


def _answer(x: Tensor, narrow: bool, into: Tensor | None = None) -> tuple[Activations, Tensor, Tensor | None]:
    """Where an answer of the shape of ``x`` goes: the whole, its numbers, and the scales of its rows."""
    if not narrow:
        out = torch.empty(x.shape, dtype=x.dtype, device=x.device) if into is None else into
        return out, out, None
    data = torch.empty(x.shape, dtype=torch.float8_e4m3fn, device=x.device)
    scale = torch.empty(x.shape[:-1].numel(), 1, dtype=torch.float32, device=x.device)
    return Float8Rows(data, scale, x.dtype), data, scale


def _norm(
    x: Tensor,
    update: Tensor | None,
    amount: Tensor | None,
    factor: Tensor | None,
    shift: Tensor | None,
    eps: float,
    total: Tensor | None,
    out: Tensor | None,
    scale: Tensor | None,
) -> None:
    batch, count, width = x.shape
    kernels.norm_kernel[(batch * count,)](
        x, update, amount, factor, shift, total, out, scale,
        count, x.stride(0), x.stride(1),
        *(update.stride()[:2] if update is not None else (0, 0)),
        *(total.stride()[:2] if total is not None else (0, 0)),
        _batch_stride(amount), _batch_stride(factor), _batch_stride(shift), eps,
        WIDTH=width, PIECE=min(_PIECE, _power(width)),
        ADD=update is not None, GATED=amount is not None, NORM=out is not None, NARROW=scale is not None,
        num_warps=8 if update is None or scale is None else 4,  # measured on an H200
    )  # fmt: skip


def _turn(x: Tensor, norm: RMSNorm, heads: int, at_once: int, rotation: Rotation | None) -> None:
    batch, count, width = x.shape
    cos, sin = (None, None) if rotation is None else rotation
    table = 0 if cos is None or cos.dim() == 2 or cos.shape[0] == 1 else cos.stride(0)
    kernels.rms_rotate_kernel[(batch * count,)](
        x, norm.weight, cos, sin, count, x.stride(0), x.stride(1), table,
        norm.eps,
        WIDTH=width, PAIRS=width // heads // 2, AT_ONCE=at_once,
        TURN=rotation is not None, num_warps=4,
    )  # fmt: skip


def _rowwise(x: Tensor, other: Tensor | None, out: Tensor, scale: Tensor | None, *, gelu: bool) -> None:
    width = x.shape[-1]
    block = _power(width)
    kernels.narrow_kernel[(x.shape[:-1].numel(),)](
        x, other, out, scale, width,
        ADD=other is not None, GELU=gelu, NARROW=scale is not None, BLOCK=block, num_warps=_warps(block),
    )  # fmt: skip


def _fold(k: Tensor, weight: Tensor, bias: Tensor | None, scale: float) -> Tensor:
    """``(G, heads, L, d)`` through ``(heads, d, D)``: ``(G, heads * L, D)``."""
    groups, heads, keys, d = k.shape
    width = weight.shape[2]
    out = torch.empty(groups, heads * keys, width, dtype=k.dtype, device=k.device)
    kernels.fold_kernel[(heads * -(-width // _WIDE),)](
        k, weight, bias, out, scale, groups, keys, width,
        *k.stride()[:3], *weight.stride(),
        HEADS=heads, DIM=d, KEYS=max(16, _power(keys)), BLOCK=_WIDE, BIAS=bias is not None, num_warps=4,
    )  # fmt: skip
    return out


def _scores(x: Tensor, keys: Tensor) -> Tensor:
    """``x @ keys`` as float32, from float32 sums unless the run wants float16 sums: torch has no product of both."""
    if x.dtype is torch.float16 and torch.backends.cuda.matmul.allow_fp16_accumulation:
        return torch.bmm(x, keys).float()
    return torch.bmm(x, keys, out_dtype=torch.float32)


def _folded_shares(x: Tensor, k: Tensor, ask: Plain) -> Tensor:
    """Softmax of the scores of tokens with keys that went back through the queries' layer."""
    heads, _, d = k.shape[1:]
    folded = _fold(k, ask.weight.view(heads, d, -1), None, 1 / math.sqrt(d))
    scores = _scores(x, folded.transpose(1, 2))
    del folded
    offset = None
    if ask.bias is not None:
        offset = torch.einsum("ghld,hd->ghl", k.float(), ask.bias.float().view(heads, d)).contiguous()
        offset /= math.sqrt(d)
    return _shares(scores, offset, heads, k.shape[2], x.dtype)


def _turned_shares(q: Tensor, k: Tensor, rotation: Rotation) -> Tensor:
    """Softmax of the scores of queries ``(G, S, D)``, each turned by its own angles."""
    (groups, rows, _), (_, heads, keys, d) = q.shape, k.shape
    cos, sin = (part.expand(groups, rows, -1).contiguous() for part in rotation)
    out = torch.empty(groups, rows, heads * keys, dtype=q.dtype, device=q.device)
    kernels.turned_shares_kernel[(-(-rows // _ROWS), heads, groups)](
        q, k, cos, sin, out, rows, keys, 1 / math.sqrt(d),
        *q.stride()[:2], *k.stride()[:3],
        HEADS=heads, PAIRS=d // 2, KEYS=max(16, _power(keys)), BLOCK=_ROWS, num_warps=4,
    )  # fmt: skip
    return out


def _shares(scores: Tensor, offset: Tensor | None, heads: int, keys: int, dtype: torch.dtype) -> Tensor:
    groups, rows, _ = scores.shape
    out = torch.empty(scores.shape, dtype=dtype, device=scores.device)
    kernels.shares_kernel[(groups * rows,)](
        scores, offset, out, rows,
        HEADS=heads, KEYS=keys, HEADS_BLOCK=_power(heads), KEYS_BLOCK=_power(keys),
        OFFSET=offset is not None, num_warps=4,
    )  # fmt: skip
    return out


def _heads_at_once(heads: int, d: int) -> int:
    """The largest power of two that divides the heads and stays within a piece; 0: none."""
    at_once = heads & -heads
    while at_once * d > _PIECE and at_once > 1:
        at_once //= 2
    return at_once


def _batch_stride(x: Tensor | None) -> int:
    """From one sample's row to the next one's: 0 if all have the same. Rows of a modulation lie apart."""
    return 0 if x is None or x.dim() < 3 or x.shape[0] == 1 else x.stride(0)


def _power(size: int) -> int:
    return 1 << (size - 1).bit_length()


def _warps(block: int) -> int:
    return 4 if block <= 2048 else 8
