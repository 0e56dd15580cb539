"""Which tiling serves each convolution of the video codec best, and where does decoding's time go?

    python -m bench.vae_kernels --out bench/results/vae_kernels_cuda.json

On an H100 or H200. For each 3x3x3 convolution of the decoder and for those behind a doubling: TFLOP/s of the
product, in its own size, by cuDNN (with and without ``cudnn.benchmark``) and by each tiling of
``ops/codec``, with the largest distance from cuDNN's answer in units of its deviation. A tiling that the
compiler or the card refuses says why. Then the norm against a plain copy, and the kernels of one decoding.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from bench.common import parser, save
from bench.vae import autotuned, full_vae
from infinite_talk.ops import codec
from infinite_talk.ops.attention.stopwatch import seconds_of
from infinite_talk.ops.codec import Tiling

SHAPES = {
    (96, 96): (480, 832, 12),
    (192, 192): (240, 416, 24),
    (384, 384): (120, 208, 24),
    (192, 384): (120, 208, 24),
    (96, 3): (480, 832, 12),
}
"""Channels in and out -> height, width and frames."""
DOUBLED = {(192, 96): (240, 416, 24), (384, 192): (120, 208, 24)}
_NARROW = (
    Tiling(3, 128, 64, 32, 32, 3, 8),
    Tiling(2, 128, 64, 32, 32, 3, 8),
    Tiling(2, 64, 64, 32, 32, 3, 4),
    Tiling(1, 128, 64, 32, 32, 4, 4),
    Tiling(1, 128, 64, 32, 32, 5, 8),
    Tiling(1, 256, 64, 32, 32, 4, 8),
    Tiling(1, 256, 128, 0, 32, 4, 8),
)
_WIDE = (
    Tiling(2, 128, 128, 0, 32, 3, 8),
    Tiling(1, 128, 128, 0, 64, 4, 4),
    Tiling(1, 128, 128, 0, 64, 4, 8),
    Tiling(1, 256, 128, 0, 64, 3, 8),
    Tiling(1, 128, 256, 0, 64, 3, 8),
    Tiling(3, 128, 64, 32, 32, 3, 8),
)
CANDIDATES: dict[tuple[int, int], tuple[Tiling, ...]] = {
    (96, 96): _NARROW,
    (192, 192): (
        *_NARROW[:3],
        Tiling(2, 128, 64, 32, 64, 2, 8),
        Tiling(1, 128, 64, 32, 64, 4, 8),
        Tiling(1, 128, 128, 64, 64, 3, 8),
        Tiling(1, 256, 64, 32, 64, 3, 8),
    ),
    (384, 384): _WIDE,
    (192, 384): _WIDE[:5],
    (96, 3): (Tiling(3, 128, 16, 0, 32, 3, 8), Tiling(1, 128, 16, 0, 32, 5, 4)),
}
CANDIDATES_DOUBLED = (
    Tiling(1, 128, 64, 32, 64, 3, 8),
    Tiling(1, 128, 64, 32, 64, 4, 4),
    Tiling(1, 256, 64, 32, 64, 3, 8),
    Tiling(1, 128, 128, 64, 64, 3, 8),
)


def measured(call: Callable[[], Tensor], expected: Tensor, operations: float, repeats: int) -> dict[str, Any]:
    """Milliseconds, TFLOP/s and distance, or why there are none."""
    try:
        found = call()
        apart = float((found.float() - expected.float()).abs().max() / expected.float().std())
        took = seconds_of(call, expected.device, repeats=repeats)
    except Exception as problem:
        return {"refused": f"{type(problem).__name__}: {problem}"[:200]}
    return {
        "ms": round(1000 * took, 3),
        "tflops": round(operations / took / 1e12, 1),
        "apart": round(apart, 4),
    }


@torch.inference_mode()
def convolution(channels: tuple[int, int], device: torch.device, repeats: int) -> dict[str, Any]:
    """All ways for one causal convolution with a shortcut."""
    (inputs, outputs), (height, width, frames) = channels, SHAPES[channels]
    half = {"device": device, "dtype": torch.float16}
    last = torch.channels_last_3d
    x = torch.randn(1, inputs, frames + 2, height + 2, width + 2, **half).contiguous(memory_format=last)
    weight = torch.randn(outputs, inputs, 3, 3, 3, **half) / (27 * inputs) ** 0.5
    weight = weight.contiguous(memory_format=last)
    bias = torch.randn(outputs, **half)
    shortcut = torch.randn(1, outputs, frames, height, width, **half).contiguous(memory_format=last)
    expected = functional.conv3d(x, weight, bias) + shortcut
    operations = 54.0 * inputs * outputs * frames * height * width
    ways: dict[str, Any] = {}
    for tuned in (False, True):
        with autotuned(tuned):
            ways[f"cudnn, benchmark {tuned}"] = measured(
                lambda: codec.convolved_eager(x, weight, bias, shortcut), expected, operations, repeats
            )
    for tiling in CANDIDATES[channels]:
        ways[str(tiling)] = measured(
            lambda tiling=tiling: codec.tiled(x, weight, bias, shortcut, tiling),
            expected,
            operations,
            repeats,
        )
    return ways


@torch.inference_mode()
def doubled(channels: tuple[int, int], device: torch.device, repeats: int) -> dict[str, Any]:
    """All ways for one convolution behind a doubling; operations are those of the plain way."""
    (inputs, outputs), (height, width, frames) = channels, DOUBLED[channels]
    half = {"device": device, "dtype": torch.float16}
    x = torch.randn(frames, inputs, height, width, **half).contiguous(memory_format=torch.channels_last)
    weight = torch.randn(outputs, inputs, 3, 3, **half) / (9 * inputs) ** 0.5
    bias = torch.randn(outputs, **half)
    expected = codec.doubled_eager(x, weight, bias)
    operations = 18.0 * inputs * outputs * frames * 4 * height * width
    ways: dict[str, Any] = {}
    with autotuned(True):
        plain: dict[str, Callable[..., Tensor]] = {
            "double and conv2d": codec.doubled_eager,
            "four conv2d": codec.doubled_by_places,
        }
        for name, way in plain.items():
            ways[name] = measured(lambda way=way: way(x, weight, bias), expected, operations, repeats)
    for tiling in CANDIDATES_DOUBLED:
        ways[str(tiling)] = measured(
            lambda tiling=tiling: codec.doubled_tiled(x, weight, bias, tiling), expected, operations, repeats
        )
    return ways


@torch.inference_mode()
def norms(device: torch.device, repeats: int) -> list[dict[str, Any]]:
    """The norm with SiLU into a padded map: GB/s of reading the map and writing it."""
    rows = []
    for channels, (height, width) in ((96, (480, 832)), (192, (240, 416)), (384, (120, 208))):
        x = torch.randn(1, channels, 12, height, width, device=device, dtype=torch.float16)
        x = x.contiguous(memory_format=torch.channels_last_3d)
        gamma = torch.randn(channels, device=device, dtype=torch.float16)
        found, twin = codec.norm_silu_pad(x, gamma, None), codec.norm_silu_pad_eager(x, gamma, None)
        took = seconds_of(
            lambda x=x, gamma=gamma: codec.norm_silu_pad(x, gamma, None), device, repeats=repeats
        )
        copy = seconds_of(x.clone, device, repeats=repeats)
        rows.append(
            {
                "channels": channels,
                "gb_s": round(2 * x.nbytes / took / 1e9),
                "copy_gb_s": round(2 * x.nbytes / copy / 1e9),
                "apart": float((found.float() - twin.float()).abs().max()),
            }
        )
    return rows


@torch.inference_mode()
def kernels(device: torch.device, seed: int, at_once: int) -> list[dict[str, Any]]:
    """The twenty kernels that take most of one decoding of 81 frames of 480x832, in milliseconds."""
    vae = full_vae(device, torch.float16, seed)
    latent = torch.randn(1, 16, 21, 60, 104, device=device)
    vae.decode_pieces(latent, at_once)
    activities = [torch.profiler.ProfilerActivity.CPU, torch.profiler.ProfilerActivity.CUDA]
    with torch.profiler.profile(activities=activities) as profile:
        vae.decode_pieces(latent, at_once)
        torch.cuda.synchronize()
    events = sorted(profile.key_averages(), key=lambda event: -event.self_device_time_total)
    return [
        {"kernel": e.key[:100], "ms": round(e.self_device_time_total / 1000, 2), "times": e.count}
        for e in events[:20]
    ]


def main() -> None:
    options = parser(__doc__ or "")
    options.add_argument("--repeats", type=int, default=5)
    options.add_argument("--latents-at-once", type=int, default=6)
    asked = options.parse_args()
    device = torch.device("cuda")
    results: dict[str, Any] = {"norms": norms(device, asked.repeats)}
    print(results["norms"])
    for channels in SHAPES:
        key = f"{channels[0]}->{channels[1]}"
        results[key] = convolution(channels, device, asked.repeats)
        print(key, *(f"\n  {way}: {found}" for way, found in results[key].items()))
    for channels in DOUBLED:
        key = f"doubled {channels[0]}->{channels[1]}"
        results[key] = doubled(channels, device, asked.repeats)
        print(key, *(f"\n  {way}: {found}" for way, found in results[key].items()))
    results["kernels"] = kernels(device, asked.seed, asked.latents_at_once)
    print(*results["kernels"], sep="\n")
    save("vae_kernels", asked.out, results)


if __name__ == "__main__":
    main()
