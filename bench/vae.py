"""Where does the video codec's time on a GPU go, and how far is each precision from float32?

    python -m bench.vae --out bench/results/vae_cuda.json
    python -m bench.vae --only convolutions

Random weights of full size, scaled so that the stream stays at the size of a trained one. Times are medians by
the GPU's clock after warming up. Four questions, each with its key in the JSON:

``decode``, ``encode``: seconds, peak memory and distance from float32 (largest and mean, of [-1, 1]) by dtype and
latent frames at once, with the codec's own kernels, and plain with and without ``cudnn.benchmark``.
``convolutions``: TFLOP/s of each distinct 3x3x3 and 3x3 convolution by cuDNN's ways. ``elementwise``: milliseconds
and GB/s of norm, SiLU and joining with the past.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from bench.common import parser, save
from infinite_talk.memory.published import WAN_VAE
from infinite_talk.models.vae import VideoVAE
from infinite_talk.models.vae.layers import CausalConv3d, ChannelNorm, sum_of_frames
from infinite_talk.ops import codec
from infinite_talk.ops.attention.stopwatch import seconds_of

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
QUESTIONS = ("decode", "encode", "convolutions", "elementwise")
CHUNKS = (1, 3, 6, 21)
USUAL = 6
"""Latent frames at once in a run of 480p (``MAP_BYTES_GPU``)."""
FRAMES = 21
"""Frames of a convolution that is timed alone: enough to fill the card, few enough for a minute in all."""


@dataclass(frozen=True)
class Convolution:
    """One distinct convolution of a pass."""

    inputs: int
    outputs: int
    size: tuple[int, ...]
    frames: int
    height: int
    width: int
    stride: tuple[int, ...]

    def operations(self, frames: int) -> float:
        """Of ``frames`` of its output frames."""
        taps = 1
        for side in self.size:
            taps *= side
        return 2.0 * taps * self.inputs * self.outputs * frames * self.height * self.width


def full_vae(device: torch.device, dtype: torch.dtype, seed: int) -> VideoVAE:
    """Full size, random: each convolution keeps the size of its input, each block adds half of it."""
    with torch.device(device):
        torch.manual_seed(seed)
        vae = VideoVAE(WAN_VAE)
    with torch.no_grad():
        for name, parameter in vae.named_parameters():
            if parameter.dim() >= 4 and "gamma" not in name:
                inward = parameter[0].numel()
                gain = 1.0 if "residual.6" in name or "proj" in name else 1.6  # SiLU takes 0.6 of a normal
                nn.init.normal_(parameter, std=gain / inward**0.5)
            elif name.endswith("bias"):
                nn.init.normal_(parameter, std=0.05)
        # The head sees SiLU of a norm: a fifth of [-1, 1] and little beyond it, as pictures are.
        vae.decoder.head[-1].weight *= 0.3
    return vae.to(dtype).eval()


@contextmanager
def autotuned(on: bool, *, tf32: bool = True) -> Iterator[None]:
    """``cudnn.benchmark``, and TF32 in float32 convolutions, as torch has it unless told otherwise."""
    cudnn = torch.backends.cudnn
    before = cudnn.benchmark, cudnn.allow_tf32
    cudnn.benchmark, cudnn.allow_tf32 = on, tf32
    try:
        yield
    finally:
        cudnn.benchmark, cudnn.allow_tf32 = before


def timed(call: Callable[[], object], device: torch.device, repeats: int) -> dict[str, float]:
    """Seconds and peak memory."""
    call()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    seconds = seconds_of(call, device, repeats=repeats)
    peak = torch.cuda.max_memory_allocated(device) / 2**30 if device.type == "cuda" else 0.0
    return {"seconds": round(seconds, 4), "peak_gib": round(peak, 2)}


def apart(found: Tensor, expected: Tensor) -> dict[str, float]:
    difference = (found - expected).abs()
    return {
        "largest": float(difference.max()),
        "mean": float(difference.mean()),
        "finite": bool(found.isfinite().all()),
    }


def convolutions_of(run: Callable[[], object], model: nn.Module) -> dict[Convolution, int]:
    """Every distinct convolution that ``run`` does, and how often; the shapes are its outputs'."""
    found: dict[Convolution, int] = {}

    def seen(layer: Any, _inputs: Any, output: Tensor) -> None:
        flat = output.dim() == 4
        frames, height, width = (output.shape[0] if flat else output.shape[2]), *output.shape[-2:]
        one = Convolution(
            layer.in_channels,
            layer.out_channels,
            tuple(layer.kernel_size),
            frames,
            height,
            width,
            tuple(layer.stride),
        )
        found[one] = found.get(one, 0) + 1

    layers = [layer for layer in model.modules() if isinstance(layer, nn.Conv2d | nn.Conv3d)]
    hooks = [layer.register_forward_hook(seen) for layer in layers]
    run()
    for hook in hooks:
        hook.remove()
    return found


@torch.inference_mode()
def listed(height: int, width: int, latents: int) -> dict[str, dict[Convolution, int]]:
    """The convolutions of decoding a window, and of encoding 9 frames; counted without work."""
    with torch.device("meta"):
        vae = VideoVAE(WAN_VAE).eval()
        latent = torch.empty(1, 16, latents, height // 8, width // 8)
        video = torch.empty(1, 3, 9, height, width)
    return {
        "decode": convolutions_of(lambda: vae.decode(latent), vae),
        "encode": convolutions_of(lambda: vae.encode(video), vae),
    }


def ways(one: Convolution, device: torch.device, dtype: torch.dtype, frames: int) -> dict[str, Any]:
    """Calls that compute a causal 3x3x3 convolution of ``frames`` output frames, as a picture in the middle."""
    last = torch.channels_last_3d
    shape = (1, one.inputs, frames + 2, one.height, one.width)
    x = torch.randn(shape, device=device, dtype=dtype).contiguous(memory_format=last)
    layer = CausalConv3d(one.inputs, one.outputs, 3).to(device, dtype)
    weight, bias = layer.weight.data, layer.bias
    packed = weight.contiguous(memory_format=last)
    return {
        "conv3d": lambda: functional.conv3d(x, weight, bias, padding=(0, 1, 1)),
        "conv3d, weight channels-last": lambda: functional.conv3d(x, packed, bias, padding=(0, 1, 1)),
        "three conv2d": lambda: sum_of_frames(x, weight, bias),
    }


def flat_ways(one: Convolution, device: torch.device, dtype: torch.dtype, frames: int) -> dict[str, Any]:
    """Calls that compute the 3x3 convolution behind a doubling of the picture."""
    x = torch.randn(frames, one.inputs, one.height // 2, one.width // 2, device=device, dtype=dtype)
    x = x.contiguous(memory_format=torch.channels_last)
    layer = nn.Conv2d(one.inputs, one.outputs, 3, padding=1).to(
        device, dtype, memory_format=torch.channels_last
    )
    doubled = functional.interpolate(x, scale_factor=2.0)
    return {
        "double": lambda: functional.interpolate(x, scale_factor=2.0),
        "conv2d": lambda: layer(doubled),
        "double and conv2d": lambda: layer(functional.interpolate(x, scale_factor=2.0)),
    }


@torch.inference_mode()
def convolutions(
    table: dict[Convolution, int], device: torch.device, dtype: torch.dtype, options: argparse.Namespace
) -> list[dict[str, Any]]:
    """TFLOP/s of each distinct 3x3x3 convolution, and of the flat ones behind a doubling."""
    rows = []
    for one, times in table.items():
        if one.size not in ((3, 3, 3), (3, 3)) or 2 in one.stride:
            continue
        frames = min(one.frames, options.frames)
        make = ways if len(one.size) == 3 else flat_ways
        row: dict[str, Any] = {
            "channels": f"{one.inputs}->{one.outputs}",
            "size": one.size,
            "map": f"{one.frames}x{one.height}x{one.width}",
            "times": times,
            "teraflop": round(times * one.operations(one.frames) / 1e12, 2),
        }
        calls = make(one, device, dtype, frames)
        for name, call in calls.items():
            for tuned in (False, True):
                with autotuned(tuned):
                    took = seconds_of(call, device, repeats=options.repeats)
                label = name + (", benchmark" if tuned else "")
                row[label] = {"ms": round(1000 * took, 3)}
                if name != "double":
                    row[label]["tflops"] = round(one.operations(frames) / took / 1e12, 1)
        rows.append(row)
        print(row)
        del calls
    return rows


@torch.inference_mode()
def elementwise(
    device: torch.device, dtype: torch.dtype, options: argparse.Namespace
) -> list[dict[str, Any]]:
    """What stands between two convolutions of the last level, today: bytes are those that must move."""
    shape = (1, 96, options.frames, options.height, options.width)
    x = torch.randn(shape, device=device, dtype=dtype).contiguous(memory_format=torch.channels_last_3d)
    norm = ChannelNorm(96).to(device, dtype)
    past = x[:, :, :2].clone()
    calls: dict[str, tuple[Callable[[], object], int]] = {
        "copy": (x.clone, 2),
        "norm": (lambda: norm(x), 2),
        "norm and silu": (lambda: functional.silu(norm(x), inplace=True), 2),
        "join with the past": (lambda: torch.cat([past, x], dim=2), 2),
        "norm, silu, join": (lambda: torch.cat([past, functional.silu(norm(x), inplace=True)], dim=2), 2),
        "add": (lambda: x + x, 3),
    }
    rows = []
    for name, (call, maps) in calls.items():
        took = seconds_of(call, device, repeats=options.repeats)
        rows.append({"what": name, "ms": round(1000 * took, 3), "gb_s": round(maps * x.nbytes / took / 1e9)})
        print(rows[-1])
    return rows


def variants(what: str, dtype: str) -> list[tuple[int, bool, bool]]:
    """Latent frames at once, ``cudnn.benchmark``, without the kernels: what is measured of a dtype."""
    usual = USUAL if what == "decode" else 3
    if dtype == "fp32":
        return [(min(4, usual), False, True)]
    plain = [(usual, False, True), (usual, True, True)]
    sizes = CHUNKS if dtype == "fp16" and what == "decode" else (usual,)
    return [*((size, False, False) for size in sizes), *plain]


@contextmanager
def without_kernels(plain: bool) -> Iterator[None]:
    """The codec as it is without its own kernels, where ``plain``."""
    before = codec.fused
    if plain:
        codec.fused = lambda _x: False
    try:
        yield
    finally:
        codec.fused = before


@torch.inference_mode()
def passes(what: str, device: torch.device, options: argparse.Namespace) -> list[dict[str, Any]]:
    """Decode a window, or encode 9 frames, in each precision and in pieces of each size."""
    generator = torch.Generator().manual_seed(options.seed)
    latents, height, width = options.latents, options.height, options.width
    latent = torch.randn(1, 16, latents, height // 8, width // 8, generator=generator).to(device)
    video = (torch.rand(1, 3, 9, height, width, generator=generator) * 2 - 1).to(device)
    rows: list[dict[str, Any]] = []

    def call(vae: VideoVAE, at_once: int) -> Tensor:
        if what == "decode":
            return vae.decode_pieces(latent, at_once)
        return vae.encode(video) if at_once > 1 else vae.encode_pieces(video)

    with autotuned(False, tf32=False):
        expected = call(full_vae(device, torch.float32, options.seed), 1)
    rows.append({"spread": float(expected.std()), "largest": float(expected.abs().max())})
    for name in options.dtypes:
        vae = full_vae(device, DTYPES[name], options.seed)
        for at_once, tuned, plain in variants(what, name):
            row: dict[str, Any] = {
                "dtype": name,
                "latents_at_once": at_once,
                "benchmark": tuned,
                "plain": plain,
            }
            try:
                with autotuned(tuned), without_kernels(plain):
                    row["error"] = apart(call(vae, at_once), expected)
                    row |= timed(partial(call, vae, at_once), device, options.repeats)
            except torch.cuda.OutOfMemoryError:
                row["out_of_memory"] = True
            rows.append(row)
            print(what, row)
        del vae
    return rows


def main() -> None:
    options = parser(__doc__ or "")
    options.add_argument("--only", choices=QUESTIONS, nargs="+", default=QUESTIONS)
    options.add_argument("--dtypes", choices=DTYPES, nargs="+", default=list(DTYPES), help="fp32 first")
    options.add_argument("--height", type=int, default=480)
    options.add_argument("--width", type=int, default=832)
    options.add_argument("--latents", type=int, default=21)
    options.add_argument("--frames", type=int, default=FRAMES, help="frames of a convolution timed alone")
    options.add_argument("--repeats", type=int, default=3)
    asked = options.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    tables = listed(asked.height, asked.width, asked.latents)
    total = {
        name: round(sum(n * one.operations(one.frames) for one, n in table.items()) / 1e12, 3)
        for name, table in tables.items()
    }
    print("TFLOP", total, "; seconds of decode at 690 TFLOP/s:", round(total["decode"] / 690, 3))
    results: dict[str, Any] = {"size": [asked.height, asked.width, asked.latents], "teraflop": total}
    quick = torch.float16 if device.type == "cuda" else torch.float32
    for what in asked.only:
        if what in ("decode", "encode"):
            results[what] = passes(what, device, asked)
        elif what == "convolutions":
            results[what] = convolutions(tables["decode"], device, quick, asked)
        else:
            results[what] = elementwise(device, quick, asked)
    save("vae", asked.out, results)


if __name__ == "__main__":
    main()
