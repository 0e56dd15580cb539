"""Products in 8 bits: weights as they are stored, activations scaled row by row for each product.

Each has a slow twin, ``emulate``: the same rounding of both operands, then a product in float32. ``linear``
is the twin wherever the kernel cannot run: on another device, or for sizes that it refuses. It is a twin in
numbers and slower by far; which machine should use which format is decided in ``weights/precision.py``.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from infinite_talk.ops.compiling import constant
from infinite_talk.ops.linear.float8 import PLAIN_E4M3FN, PLAIN_E5M2, Float8
from infinite_talk.ops.linear.packed import Parts
from infinite_talk.ops.linear.rows import Activations, Float8Rows, float8_rows, rows_to_float8, rows_to_int8
from infinite_talk.ops.linear.scaled import FP8_E4M3FN, FP8_E5M2, INT8, Scaled

_FLOAT8_MULTIPLE = 16  # both sizes of a weight, for torch._scaled_mm
_ROWWISE_ROWS, _ROWWISE_COLUMNS = 1024, 8192
"""cuBLASLt (torch 2.11, CUDA 13, H100) refuses scales by row for narrow products of long rows: 640 x 13824 with few
tokens. No layer of a published model is one."""
_INT8_MULTIPLE = 8  # the same for torch._int_mm
_INT8_ROWS = 32  # torch._int_mm on CUDA refuses 16 rows and fewer
_PIECE = 4096  # rows at a time, where int32 and float32 copies of them are made


@dataclass(frozen=True, slots=True)
class FastFloat8:
    """float8 by float8 on GPUs that have it (compute capability 8.9 on): activations are always e4m3."""

    name: str
    stored: Float8 | Scaled

    def pack(self, weight: Tensor) -> Parts:
        return self.stored.pack(weight)

    def unpack(self, parts: Parts, shape: tuple[int, int], dtype: torch.dtype) -> Tensor:
        return self.stored.unpack(parts, shape, dtype)

    def takes_rows(self, parts: Parts, shape: tuple[int, int], dtype: torch.dtype) -> bool:
        """Whether ``linear_rows`` can multiply activations of ``dtype`` that came as ``Float8Rows``."""
        data = parts["data"]
        narrow = shape[0] < _ROWWISE_ROWS and shape[1] > _ROWWISE_COLUMNS
        fits = not narrow and not any(size % _FLOAT8_MULTIPLE for size in shape)
        exact = dtype == torch.bfloat16 and data.dtype == torch.float8_e4m3fn
        return fits and exact and has_float8(data.device)

    def linear_rows(self, x: Float8Rows, parts: Parts, shape: tuple[int, int], bias: Tensor | None) -> Tensor:
        """``linear`` of activations whose rows are scaled already."""
        scale = _row_scales(parts, shape[0])
        out = torch._scaled_mm(
            x.data.reshape(-1, shape[1]),
            aligned(parts["data"]).t(),
            scale_a=x.scale,
            scale_b=_ones(shape[0], x.data.device) if scale is None else scale,
            bias=None if bias is None else bias.to(x.dtype),
            out_dtype=x.dtype,
            use_fast_accum=True,  # as exact as the slow one, measured on H200
        )
        return out.reshape(*x.shape[:-1], shape[0])

    def linear(self, x: Tensor, parts: Parts, shape: tuple[int, int], bias: Tensor | None) -> Tensor:
        if not x.numel() or any(size % _FLOAT8_MULTIPLE for size in shape) or not has_float8(x.device):
            return self.emulate(x, parts, shape, bias)
        if self.takes_rows(parts, shape, x.dtype):
            return self.linear_rows(float8_rows(x), parts, shape, bias)
        data, x_scale = rows_to_float8(x.reshape(-1, shape[1]))
        weight = aligned(parts["data"]).t()
        scale = _row_scales(parts, shape[0])
        # Scales by row exist for e4m3 and bfloat16 on all these GPUs; everything else is scaled afterwards.
        # The unscaled product is far beyond float16, well within bfloat16.
        wide = torch.bfloat16 if x.dtype == torch.bfloat16 else torch.float32
        out = _scaled_afterwards(data, x_scale, weight, scale, wide)
        return _finished(out, x, bias)

    def emulate(self, x: Tensor, parts: Parts, shape: tuple[int, int], bias: Tensor | None) -> Tensor:
        """The slow twin of ``linear``: the same operands, multiplied in float32."""
        data, x_scale = rows_to_float8(x.reshape(-1, shape[1]))
        out = data.float() @ parts["data"].float().t() * x_scale
        scale = _row_scales(parts, shape[0])
        return _finished(out if scale is None else out * scale, x, bias)


@dataclass(frozen=True, slots=True)
class FastInt8:
    """int8 by int8, summed in 32-bit integers; GPUs and newer CPUs have it.

    Fewer rows than the CUDA kernel takes are padded with zeros.
    """

    name: str
    stored: Scaled

    def pack(self, weight: Tensor) -> Parts:
        return self.stored.pack(weight)

    def unpack(self, parts: Parts, shape: tuple[int, int], dtype: torch.dtype) -> Tensor:
        return self.stored.unpack(parts, shape, dtype)

    def linear(self, x: Tensor, parts: Parts, shape: tuple[int, int], bias: Tensor | None) -> Tensor:
        if not x.numel() or any(size % _INT8_MULTIPLE for size in shape) or not has_int8(x.device):
            return self.emulate(x, parts, shape, bias)
        weight = aligned(parts["data"]).t()
        scale = parts["scale"].reshape(1, -1)  # (1, out) or (1, 1)
        rows = x.reshape(-1, shape[1])
        out = x.new_empty(len(rows), shape[0])
        for piece, place in zip(torch.split(rows, _PIECE), torch.split(out, _PIECE), strict=True):
            data, x_scale = rows_to_int8(piece)
            if len(piece) < _INT8_ROWS:
                data = torch.nn.functional.pad(data, (0, 0, 0, _INT8_ROWS - len(piece)))
            wide = torch._int_mm(data, weight)[: len(piece)].to(torch.float32).mul_(x_scale).mul_(scale)
            place.copy_(wide if bias is None else wide.add_(bias))
        return out.reshape(*x.shape[:-1], shape[0])

    def emulate(self, x: Tensor, parts: Parts, shape: tuple[int, int], bias: Tensor | None) -> Tensor:
        """The slow twin of ``linear``: the same operands, multiplied in float32."""
        data, x_scale = rows_to_int8(x.reshape(-1, shape[1]))
        out = data.float() @ parts["data"].float().t() * x_scale * parts["scale"].reshape(1, -1)
        return _finished(out, x, bias)


def product(x: Activations, weight: Tensor) -> Tensor:
    """``x (..., K)`` times a plain ``weight (N, K)`` of few rows, in 8 bits where ``x`` is."""
    if not isinstance(x, Float8Rows):
        return F.linear(x, weight.to(x.dtype))
    if not has_float8(x.data.device):
        return F.linear(x.plain(), weight.to(x.dtype))
    count, width = weight.shape
    full = -(-count // _FLOAT8_MULTIPLE) * _FLOAT8_MULTIPLE
    data, scale = rows_to_float8(F.pad(weight.to(x.dtype), (0, 0, 0, full - count)))
    # Few columns are cheap to scale, and scales by row are not there for long and few rows.
    out = _scaled_afterwards(x.data.reshape(-1, width), x.scale, data.t(), scale.t(), x.dtype)
    return out[:, :count].reshape(*x.shape[:-1], count)


def _scaled_afterwards(
    x: Tensor, x_scale: Tensor, weight: Tensor, scale: Tensor | None, dtype: torch.dtype
) -> Tensor:
    """``x (M, K)`` times ``weight (K, N)``, both float8, then the scales ``(M, 1)`` and ``(1, N)``."""
    one = torch.ones((), device=x.device)
    out = torch._scaled_mm(x, weight, scale_a=one, scale_b=one, out_dtype=dtype, use_fast_accum=True)
    out.mul_(x_scale)
    return out if scale is None else out.mul_(scale)


def aligned(weight: Tensor) -> Tensor:
    """A weight that matrix kernels can take: contiguous, and begun at a multiple of 16 bytes."""
    weight = weight.contiguous()
    if not torch.compiler.is_compiling() and weight.data_ptr() % 16:
        weight = weight.clone()
    return weight


def has_float8(device: torch.device) -> bool:
    """Whether a device multiplies float8: NVIDIA Ada, Hopper and newer."""
    return device.type == "cuda" and _capability(device) >= (8, 9)


@constant
def has_int8(device: torch.device) -> bool:
    """Whether a device multiplies int8: GPUs, and CPUs with VNNI. On others torch's product counts one by one,
    twenty times slower than in float32.
    """
    return device.type == "cuda" or (device.type == "cpu" and torch.cpu._is_vnni_supported())


@constant
def _capability(device: torch.device) -> tuple[int, int]:
    return torch.cuda.get_device_capability(device)


def _row_scales(parts: Parts, out: int) -> Tensor | None:
    """The weight's scales as ``(1, out)`` float32; ``None``: it has none."""
    if "scale" not in parts:
        return None
    return parts["scale"].float().reshape(1, -1).expand(1, out).contiguous()


def _ones(count: int, device: torch.device) -> Tensor:
    return torch.ones(1, count, device=device)


def _finished(out: Tensor, x: Tensor, bias: Tensor | None) -> Tensor:
    """The product in the dtype and leading shape of ``x``, with its bias."""
    if bias is not None:
        out = out + bias.to(out.dtype)
    return out.to(x.dtype).reshape(*x.shape[:-1], out.shape[-1])


PLAIN_E4M3FN_FAST = FastFloat8("fp8_e4m3fn_fast", PLAIN_E4M3FN)
PLAIN_E5M2_FAST = FastFloat8("fp8_e5m2_fast", PLAIN_E5M2)
FP8_E4M3FN_FAST = FastFloat8("fp8_e4m3fn_scaled_fast", FP8_E4M3FN)
FP8_E5M2_FAST = FastFloat8("fp8_e5m2_scaled_fast", FP8_E5M2)
INT8_FAST = FastInt8("int8_fast", INT8)
