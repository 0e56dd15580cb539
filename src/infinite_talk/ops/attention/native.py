"""PyTorch's own attention: the fastest of its fused kernels, found by measuring, and the definition itself."""

from __future__ import annotations

import math
import warnings

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from infinite_talk.ops.attention.base import HALF, Kernel
from infinite_talk.ops.attention.choices import Choices, fastest
from infinite_talk.ops.attention.inputs import aligned
from infinite_talk.ops.attention.opaque import opaque
from infinite_talk.ops.attention.stopwatch import seconds_of

BACKENDS = (
    SDPBackend.CUDNN_ATTENTION,
    SDPBackend.FLASH_ATTENTION,
    SDPBackend.EFFICIENT_ATTENTION,
    SDPBackend.MATH,
)
"""What torch has on a GPU; all exact. An earlier one is kept unless a later one is clearly faster."""
MOST_SCORES = 512 << 20
"""Bytes of scores up to which ``MATH``, which holds them all in memory, is tried."""
_CHOSEN: Choices[SDPBackend | None] = Choices(64)
"""The choice for each kind of call, for the life of the process; ``None``: torch's own, since none was better."""


def sdpa(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """PyTorch's fused attention.

    On a GPU its kernels differ by a factor of two, and which is best depends on shape, card and version. So
    the first call of a shape tries them all, and later ones take the best. On the CPU, and where gradients
    are wanted, torch chooses.
    """
    if q.device.type != "cuda" or wants_gradient(q, k, v):
        return F.scaled_dot_product_attention(q, k, v)
    if torch.compiler.is_compiling():
        return _opaque(q, k, v)
    return _measured(q, k, v)


def eager(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """The definition, written out in float32. Holds all scores in memory: for tests and comparison."""
    scores = q.float() @ k.float().transpose(-1, -2) / math.sqrt(q.shape[-1])
    return (scores.softmax(dim=-1) @ v.float()).to(v.dtype)


def wants_gradient(*tensors: Tensor) -> bool:
    """Whether a result will be differentiated; only torch's own attention can be."""
    return torch.is_grad_enabled() and any(x.requires_grad for x in tensors)


def kind_of(q: Tensor, k: Tensor, v: Tensor) -> tuple[object, ...]:
    """What a choice depends on. Lengths count by the power of two above them."""
    lengths = ((x.shape[2] - 1).bit_length() for x in (q, k))
    return (q.device, q.dtype, *q.shape[:2], *lengths, q.shape[3], v.shape[3])


def _measured(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    q, k, v = aligned(q), aligned(k), aligned(v)
    kind = kind_of(q, k, v)
    if kind not in _CHOSEN and not torch.cuda.is_current_stream_capturing():  # a recording cannot be timed
        _CHOSEN.set(kind, fastest(BACKENDS, lambda one: _seconds(one, q, k, v)))
    backend = _CHOSEN.get(kind)
    if backend is None:
        return F.scaled_dot_product_attention(q, k, v)
    return _with(backend, q, k, v)


def _with(backend: SDPBackend, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    # The switch is the process's, not the thread's.
    with _CHOSEN.lock, sdpa_kernel(backend):
        return F.scaled_dot_product_attention(q, k, v)


def _seconds(backend: SDPBackend, q: Tensor, k: Tensor, v: Tensor) -> float | None:
    """Time of one call, ``None`` if this kernel cannot run it."""
    if backend is SDPBackend.MATH and 4 * q.shape[0] * q.shape[1] * q.shape[2] * k.shape[2] > MOST_SCORES:
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch warns of every reason why a kernel cannot
            return seconds_of(lambda: _with(backend, q, k, v), q.device, repeats=3)
    except RuntimeError:  # "No available kernel", the kernel's own complaint, or too little memory for it
        return None


_opaque = opaque("sdpa", _measured)

SDPA = Kernel(
    name="sdpa",
    title="PyTorch scaled_dot_product_attention",
    exact=True,
    bound=6e-3,
    get="It is part of torch.",
    dtypes=HALF | {torch.float32, torch.float64},
)
EAGER = Kernel(
    name="eager",
    title="the definition, for comparison",
    exact=True,
    bound=6e-3,
    get="It is part of this program.",
    dtypes=HALF | {torch.float32, torch.float64},
)
