"""Steps of the video codec, each with two ways to the same numbers: a Triton kernel for GPUs and its plain twin.

Maps are ``(B, C, F, H, W)`` in ``channels_last_3d``. A padded map ``(B, C, PAST + F, H + 2, W + 2)`` has the two
frames before it in front and a border of zeros: the norm writes it, and a causal convolution reads it as it
stands. So nothing is joined or copied between them.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

PAST = 2
"""Frames that a causal convolution of temporal size 3 looks back."""
_LAST = torch.channels_last_3d


@dataclass(frozen=True, slots=True)
class Tiling:
    """How a convolution is cut among the programs of a GPU."""

    frames: int  # of a program, 1 to 3
    pixels: int  # of each of these frames
    wide: int  # channels of output, a power of two
    narrow: int  # as many more, another power of two or 0
    depth: int  # channels of input at a time
    stages: int  # of the pipeline that reads ahead
    warps: int


HOPPER: dict[tuple[int, int], Tiling] = {
    (96, 96): Tiling(2, 64, 64, 32, 32, 3, 4),
    (192, 192): Tiling(1, 128, 128, 64, 64, 3, 8),
    (192, 384): Tiling(1, 256, 128, 0, 64, 3, 8),
    (384, 384): Tiling(1, 256, 128, 0, 64, 3, 8),
    (96, 192): Tiling(3, 128, 64, 32, 32, 3, 8),
    (96, 3): Tiling(3, 128, 16, 0, 32, 3, 8),
}
"""Channels in and out -> the tiling of a 3x3x3 convolution on an H100 or H200. What is not here is cuDNN's.

The fastest of those in ``bench/vae_kernels.py`` on an H200: 450 to 660 TFLOP/s, where cuDNN has 230 to 550. Several
frames of a program save reading; with many channels larger tiles of one frame are better.
"""
HOPPER_DOUBLED: dict[tuple[int, int], Tiling] = {
    (192, 96): Tiling(1, 128, 64, 32, 64, 3, 8),
    (384, 192): Tiling(1, 128, 128, 64, 64, 3, 8),
}
"""The same for the convolution behind a doubling of the picture."""


def fused(x: Tensor) -> bool:
    """Whether the kernels serve ``x``: 16-bit numbers on an NVIDIA GPU, no gradient wanted, Triton there."""
    half = x.dtype in (torch.float16, torch.bfloat16)
    return half and x.is_cuda and not torch.is_grad_enabled() and _triton_found()


def norm_silu_pad(x: Tensor, gamma: Tensor, past: Tensor | None) -> Tensor:
    """A padded map of ``silu(norm(x))``; see ``norm_silu_pad_eager``.

    Args:
        x: ``(B, C, F, H, W)``, ``channels_last_3d``.
        gamma: a factor for each channel; any shape.
        past: the last frames of the padded map before, ``(B, C, PAST, H + 2, W + 2)``; ``None``: zeros.
    """
    from infinite_talk.ops.codec import kernels

    x = x.contiguous(memory_format=_LAST)
    B, C, F, H, W = x.shape
    out = torch.empty((B, C, PAST + F, H + 2, W + 2), dtype=x.dtype, device=x.device, memory_format=_LAST)
    before = x if past is None else past.contiguous(memory_format=_LAST)
    channels = 1 << (C - 1).bit_length()
    pixels = max(1, 2048 // channels)
    grid = (-(-(H + 2) * (W + 2) // pixels), PAST + F, B)
    with torch.cuda.device(x.device):
        kernels.norm_silu_pad[grid](
            *(x, gamma, before, out, F, H, W, C, C**0.5),
            **{"PAST": PAST, "HAS_PAST": past is not None, "ACTIVE": True},
            **{"PIXELS": pixels, "CHANNELS": channels, "num_warps": 4},
        )
    return out


def norm_silu_pad_eager(x: Tensor, gamma: Tensor, past: Tensor | None) -> Tensor:
    """The twin: scale each place's channels to length sqrt(C), then by ``gamma``; SiLU; the past; the border."""
    precision = torch.promote_types(x.dtype, torch.float32)
    length = torch.linalg.vector_norm(x, dim=1, keepdim=True, dtype=precision).clamp_min(1e-12)
    normal = x * (x.shape[1] ** 0.5 / length) * gamma.to(precision).view(1, -1, 1, 1, 1)
    padded = functional.pad(functional.silu(normal).to(x.dtype), (1, 1, 1, 1))
    if past is None:
        past = padded.new_zeros(*padded.shape[:2], PAST, *padded.shape[3:])
    return torch.cat([past, padded], dim=2).contiguous(memory_format=_LAST)


def convolved(padded: Tensor, weight: Tensor, bias: Tensor, shortcut: Tensor | None = None) -> Tensor:
    """The 3x3x3 convolution of a padded map, ``(B, N, F, H, W)``, added to ``shortcut`` where there is one."""
    tiling = _tiling_of(padded, HOPPER, (weight.shape[1], weight.shape[0]))
    if tiling is None:
        return convolved_eager(padded, weight, bias, shortcut)
    return tiled(padded, weight, bias, shortcut, tiling)


def convolved_eager(padded: Tensor, weight: Tensor, bias: Tensor, shortcut: Tensor | None = None) -> Tensor:
    """The twin, and the way for sizes without a tiling."""
    out = functional.conv3d(padded, weight, bias)
    return out if shortcut is None else out.add_(shortcut)


def tiled(padded: Tensor, weight: Tensor, bias: Tensor, shortcut: Tensor | None, tiling: Tiling) -> Tensor:
    """``convolved`` by the kernel, cut as ``tiling`` says."""
    from infinite_talk.ops.codec import kernels

    B, K, seen, *_ = padded.shape
    F, H, W, N = seen - PAST, padded.shape[3] - 2, padded.shape[4] - 2, len(weight)
    out = torch.empty((B, N, F, H, W), dtype=padded.dtype, device=padded.device, memory_format=_LAST)
    beside = out if shortcut is None else shortcut.contiguous(memory_format=_LAST)
    weight = weight.contiguous(memory_format=_LAST)  # (N, time, height, width, K)
    grid = (_tiles(H * W, N, tiling), -(-F // tiling.frames), B)
    several: dict[str, Any] = {"FRAMES": tiling.frames} if tiling.frames > 1 else {}
    kernel = kernels.causal_conv if several else kernels.causal_conv_frame
    with torch.cuda.device(padded.device):
        kernel[grid](
            *(padded, weight, bias, beside, out, F, H, W),
            **{"K": K, "N": N, "HAS_SHORTCUT": shortcut is not None},
            **several,
            **_constants(tiling),
        )
    return out


def doubled(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """The 3x3 convolution of ``x`` ``(frames, K, H, W)`` with each pixel repeated in both directions."""
    tiling = _tiling_of(x, HOPPER_DOUBLED, (weight.shape[1], weight.shape[0]))
    if tiling is None:
        return doubled_eager(x, weight, bias)
    return doubled_tiled(x, weight, bias, tiling)


def doubled_eager(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """The twin, and the way for sizes without a tiling: as it is said."""
    twice = functional.interpolate(x, scale_factor=2.0, mode="nearest")
    return functional.conv2d(twice, weight, bias, padding=1)


def doubled_tiled(x: Tensor, weight: Tensor, bias: Tensor, tiling: Tiling) -> Tensor:
    """``doubled`` by the kernel, which never makes the doubled picture."""
    from infinite_talk.ops.codec import kernels

    x = x.contiguous(memory_format=torch.channels_last)
    frames, K, H, W = x.shape
    N, last = len(weight), torch.channels_last
    out = torch.empty((frames, N, 2 * H, 2 * W), dtype=x.dtype, device=x.device, memory_format=last)
    small = by_places(weight).permute(0, 1, 3, 4, 2).contiguous()
    with torch.cuda.device(x.device):
        kernels.doubled_conv[(_tiles(H * W, N, tiling), 4, frames)](
            x, small, bias, out, H, W, K=K, N=N, **_constants(tiling)
        )
    return out


def doubled_by_places(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """What the kernel computes, in plain steps: four 2x2 convolutions at once, 2.25 times fewer products.

    ``out[2 i + p, 2 j + q]`` sees the pixels ``i + p - 1``, ``i + p`` and ``j + q - 1``, ``j + q`` only.
    """
    frames, _, H, W = x.shape
    kernels = by_places(weight).flatten(0, 1)
    four = functional.conv2d(x, kernels, None if bias is None else bias.repeat(4), padding=1)
    four = torch.unflatten(four, 1, (2, 2, -1))  # (frames, 2, 2, N, H + 1, W + 1)
    shape, last = (frames, len(weight), 2 * H, 2 * W), torch.channels_last
    out = torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=last)
    for row in range(2):
        for column in range(2):
            part = four[:, row, column, :, row : row + H, column : column + W]
            out[:, :, row::2, column::2] = part
    return out


def by_places(weight: Tensor) -> Tensor:
    """3x3 kernels ``(N, K, 3, 3)`` as 2x2 kernels ``(4, N, K, 2, 2)`` for the places of a doubled pixel's square.

    The first place of a line sees one pixel once and its own twice, the second its own twice and one once.
    Sums are float32.
    """
    exact = weight.to(torch.promote_types(weight.dtype, torch.float32))
    kernels = [_halved(rows, 3) for rows in _halved(exact, 2)]
    return torch.stack([kernel for pair in kernels for kernel in pair]).to(weight.dtype)


def _halved(weight: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    """Three taps along ``dim`` as two, for the first and for the second of two equal pixels."""
    one, two, three = weight.unbind(dim)
    return torch.stack([one, two + three], dim), torch.stack([one + two, three], dim)


def _tiles(pixels: int, channels: int, tiling: Tiling) -> int:
    return -(-pixels // tiling.pixels) * -(-channels // (tiling.wide + tiling.narrow))


def _constants(tiling: Tiling) -> dict[str, Any]:
    return {
        "PIXELS": tiling.pixels,
        "WIDE": tiling.wide,
        "NARROW": tiling.narrow,
        "DEPTH": tiling.depth,
        "STAGES": tiling.stages,
        "num_warps": tiling.warps,
    }


def _tiling_of(x: Tensor, table: dict[tuple[int, int], Tiling], channels: tuple[int, int]) -> Tiling | None:
    """The tiling for ``channels`` in and out, on the cards for which there are any."""
    hopper = x.is_cuda and fused(x) and _capability(x.device) == (9, 0)
    return table.get(channels) if hopper else None


@cache
def _capability(device: torch.device) -> tuple[int, int]:
    return torch.cuda.get_device_capability(device)


@cache
def _triton_found() -> bool:
    return find_spec("triton") is not None
