"""NVFP4 (NVIDIA Blackwell): 4-bit floats in blocks of 16 with a float8 scale, and one scale for the tensor.

``W = code * scale * whole``: ``whole`` brings the block scales into the range of e4m3. Layouts agree with
torch and cuBLAS; ComfyUI's files differ in the order of the halves of a byte and in the order of the scales,
which ``swapped`` (``nibbles.py``) and ``from_tiles`` undo.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from infinite_talk.ops.compiling import constant
from infinite_talk.ops.linear.fast8 import aligned
from infinite_talk.ops.linear.nibbles import E2M1, E2M1_LARGEST, blocks, join, look_up, to_e2m1
from infinite_talk.ops.linear.packed import Parts, product

BLOCK = 16
_E4M3_LARGEST = 448.0
_MULTIPLE = (16, 32)  # of rows and columns of a weight, for torch._scaled_mm with 4-bit operands
_ROWS = 16  # activations are filled with zero rows to a multiple of it
_PIECE = 4096  # rows of activations that are coded at a time: the codes pass through wider types


@dataclass(frozen=True, slots=True)
class NvidiaFloat4:
    """Weights only. Parts: ``data`` uint8 ``(out, in / 2)``, ``scale`` float8_e4m3fn ``(out, in / 16)``,
    ``whole`` float32 ``(1, 1)``; rows whose length is no multiple of 16 are filled with zeros.

    A block's scale is rounded to e4m3, so that its largest number may be up to 1/16 beyond 6 and becomes 6.
    """

    name: str = "fp4_scaled"

    def pack(self, weight: Tensor) -> Parts:
        return to_nvfp4(weight, weight.abs().amax())

    def unpack(self, parts: Parts, shape: tuple[int, int], dtype: torch.dtype) -> Tensor:
        numbers = look_up(parts["data"], E2M1, dtype)
        torch.unflatten(numbers, -1, (-1, BLOCK)).mul_((parts["scale"].float() * parts["whole"])[..., None])
        return numbers[:, : shape[1]]

    def linear(self, x: Tensor, parts: Parts, shape: tuple[int, int], bias: Tensor | None) -> Tensor:
        return product(x, self.unpack(parts, shape, x.dtype), bias)


@dataclass(frozen=True, slots=True)
class FastNvidiaFloat4:
    """NVFP4 by NVFP4 on Blackwell (compute capability 10 on); elsewhere, and for sizes that the kernel does
    not take, the slow twin ``emulate`` with the same operands.
    """

    name: str = "fp4_scaled_fast"
    stored: NvidiaFloat4 = NvidiaFloat4()

    def pack(self, weight: Tensor) -> Parts:
        return self.stored.pack(weight)

    def unpack(self, parts: Parts, shape: tuple[int, int], dtype: torch.dtype) -> Tensor:
        return self.stored.unpack(parts, shape, dtype)

    def linear(self, x: Tensor, parts: Parts, shape: tuple[int, int], bias: Tensor | None) -> Tensor:
        odd = any(size % multiple for size, multiple in zip(shape, _MULTIPLE, strict=True))
        if not x.numel() or odd or not _has_nvfp4(x.device):
            return self.emulate(x, parts, shape, bias)
        rows = x.reshape(-1, shape[1])
        coded = _coded(F.pad(rows, (0, 0, 0, -len(rows) % _ROWS)))
        out = torch._scaled_mm(
            coded["data"].view(torch.float4_e2m1fn_x2),
            aligned(parts["data"]).view(torch.float4_e2m1fn_x2).t(),
            scale_a=to_tiles(coded["scale"]),
            scale_b=to_tiles(parts["scale"]),
            out_dtype=torch.float32 if x.dtype == torch.float32 else torch.bfloat16,
        )
        out = out[: len(rows)].mul_(coded["whole"] * parts["whole"])
        if bias is not None:
            out = out.add_(bias)
        return out.to(x.dtype).reshape(*x.shape[:-1], shape[0])

    def emulate(self, x: Tensor, parts: Parts, shape: tuple[int, int], bias: Tensor | None) -> Tensor:
        """The slow twin of ``linear``: the same operands, multiplied in float32."""
        rows = x.reshape(-1, shape[1])
        if not rows.numel():
            return x.new_zeros(*x.shape[:-1], shape[0])
        seen = self.stored.unpack(_coded(rows), (len(rows), shape[1]), torch.float32)
        out = product(seen, self.unpack(parts, shape, torch.float32), bias)
        return out.to(x.dtype).reshape(*x.shape[:-1], shape[0])


def to_nvfp4(x: Tensor, largest: Tensor) -> dict[str, Tensor]:
    """The parts of ``x (rows, columns)``, whose largest magnitude is ``largest``."""
    whole = largest.float() / (_E4M3_LARGEST * E2M1_LARGEST)
    whole = torch.where(whole > 0, whole, 1.0).reshape(1, 1)
    cut = blocks(x.float(), BLOCK)
    scale = (cut.abs().amax(dim=-1) / E2M1_LARGEST / whole).clamp(max=_E4M3_LARGEST).to(torch.float8_e4m3fn)
    step = (scale.float() * whole)[..., None]
    # A block too small for its scale is zero; dividing by it would be none.
    relative = torch.where(step > 0, cut / step, torch.zeros((), device=x.device)).clamp(-6.0, 6.0)
    return {"data": join(to_e2m1(relative).flatten(1)), "scale": scale, "whole": whole}


def to_tiles(scale: Tensor) -> Tensor:
    """Block scales ``(rows, n)`` in the order of NVIDIA's tensor cores, flat.

    They are cut into tiles of 128 rows and 4 columns, filled with zeros; within a tile, row ``32 i + j``,
    column ``c`` is at ``16 j + 4 i + c`` (cuBLAS, "1D block scaling factors layout").
    """
    plain = F.pad(scale.view(torch.uint8), (0, -scale.shape[1] % 4, 0, -scale.shape[0] % 128))
    tiles = torch.unflatten(torch.unflatten(plain, 1, (-1, 4)), 0, (-1, 4, 32))  # (tile, i, j, tile, c)
    return tiles.permute(0, 3, 2, 1, 4).reshape(-1).view(scale.dtype)


def from_tiles(tiles: Tensor, rows: int, columns: int) -> Tensor:
    """The inverse of ``to_tiles``: block scales ``(rows, columns)``."""
    high, wide = -(-rows // 128), -(-columns // 4)
    cut = tiles.view(torch.uint8).reshape(high, wide, 32, 4, 4).permute(0, 3, 2, 1, 4)
    return cut.reshape(high * 128, wide * 4)[:rows, :columns].contiguous().view(tiles.dtype)


def _coded(rows: Tensor) -> dict[str, Tensor]:
    """Activations as NVFP4, with the scale of the whole found on the device."""
    largest = torch.linalg.vector_norm(rows, ord=float("inf"))
    pieces = [to_nvfp4(piece, largest) for piece in torch.split(rows, _PIECE)]
    return {
        "data": torch.cat([piece["data"] for piece in pieces]),
        "scale": torch.cat([piece["scale"].view(torch.uint8) for piece in pieces]).view(torch.float8_e4m3fn),
        "whole": pieces[0]["whole"],
    }


@constant
def _has_nvfp4(device: torch.device) -> bool:
    return device.type == "cuda" and torch.cuda.get_device_capability(device) >= (10, 0)


NVFP4 = NvidiaFloat4()
NVFP4_FAST = FastNvidiaFloat4()
