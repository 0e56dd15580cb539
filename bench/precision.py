"""How far does each precision take a layer, a block and a whole video from float32?

    python -m bench.precision                  # on this CPU, in half an hour
    python -m bench.precision --device cuda    # on this GPU, writes precision_cuda.json
    python -m bench.precision --tables         # prints the tables of docs/numerics.md from the files of results

Products in formats that the machine cannot multiply are those of their slow twin, which rounds the same.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from bench import lifelike
from bench.common import RATE, RESULTS, SAMPLES, parser, save, speech
from bench.precision_tables import tables
from bench.sounds import write_wav
from infinite_talk import Engine, Request, Speaker
from infinite_talk.engine import Job
from infinite_talk.generate import generate
from infinite_talk.lipsync.reader import load_reader, read_mouth
from infinite_talk.lipsync.scores import pearson
from infinite_talk.models.dit import DiTConfig, WanTransformer
from infinite_talk.ops.linear import Packed
from infinite_talk.ops.linear.fast8 import has_int8
from infinite_talk.rooms import Rooms
from infinite_talk.settings import Quantization
from infinite_talk.weights.builder import build
from infinite_talk.weights.bundle import load_bundle
from infinite_talk.weights.manifest import EMBEDDED
from infinite_talk.weights.precision import POLICIES, Policy, capability_of

BASES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
MEASURED = tuple(policy for policy in POLICIES.values() if policy.name is not Quantization.GGUF)
LAYERS = {"ffn.0": (13824, 5120), "ffn.2": (5120, 13824)}
"""The two largest weights of a block of the 14B model: rows, columns."""
TOKENS = 192
# A block as wide as the 1.3B model's, with narrow encoders: those layers are never packed.
SMALL = DiTConfig(
    dim=1536, ffn_dim=8960, num_heads=12, num_layers=1, text_dim=256, text_len=64, clip_dim=256, clip_tokens=65,
    audio_blocks=2, audio_channels=64, intermediate_dim=64, output_dim=768,
)  # fmt: skip
LARGE = replace(SMALL, dim=5120, ffn_dim=13824, num_heads=40)
GRID = (3, 16, 16)  # latent frames, height, width; a token has two by two


@dataclass(frozen=True)
class Error:
    """How far a result is from the exact one."""

    relative: float  # Frobenius norm of the difference over that of the exact result
    largest: float  # largest difference of one number, in root mean squares of the exact result

    @classmethod
    def of(cls, found: Tensor, exact: Tensor) -> Error:
        difference, size = found.float() - exact, exact.square().mean().sqrt()
        relative = difference.norm() / exact.norm()
        return cls(float(relative), float(difference.abs().max() / size))


def rounded(errors: Mapping[str, Error]) -> dict[str, dict[str, float]]:
    """For the file: three digits."""
    return {
        name: {"relative": float(f"{error.relative:.3g}"), "largest": float(f"{error.largest:.3g}")}
        for name, error in errors.items()
    }


def kept(policy: Policy, weights: Mapping[str, Tensor]) -> dict[str, Tensor | Packed]:
    """Weights as a policy keeps them. No packing depends on the base precision."""
    return {name: policy.store(name, weight, None) for name, weight in weights.items()}


def layer_errors(policy: Policy, weight: Tensor, x: Tensor) -> dict[str, Error]:
    """One layer's product (no bias) in each base precision, as the policy keeps and multiplies it."""
    exact, (weight_kept,) = x @ weight.T, kept(policy, {"blocks.0.ffn.0.weight": weight}).values()

    def multiply(base: torch.dtype) -> Tensor:
        if isinstance(weight_kept, Packed):
            return weight_kept.format.linear(x.to(base), weight_kept.parts, weight_kept.shape, None)
        return F.linear(x.to(base), weight_kept.to(base))

    return {name: Error.of(multiply(base), exact) for name, base in BASES.items()}


@dataclass(frozen=True)
class BlockCase:
    """A transformer of one block, its inputs, and what it answers in float32."""

    config: DiTConfig
    state: dict[str, Tensor]
    stream: Tensor  # (1, N, D)
    inputs: dict[str, Tensor]  # of ``WanTransformer.condition``
    modulation: Tensor  # (1, 6, D)
    exact: Tensor  # (1, N, D)

    @classmethod
    def make(cls, config: DiTConfig, grid: tuple[int, int, int], random: torch.Generator) -> BlockCase:
        t, h, w = grid
        noise = lambda *shape: torch.randn(shape, generator=random, device=random.device)  # noqa: E731
        inputs = {
            "text": noise(1, config.text_len // 2, config.text_dim),
            "image": noise(1, config.clip_tokens, config.clip_dim),
            "speech": noise(
                1, 1, 4 * (t - 1) + 1, config.audio_window, config.audio_blocks, config.audio_channels
            ),
            "reference": noise(1, config.reference_dim, t, h, w),
        }
        stream = lifelike.activations(t * h * w // 4, config.dim, random)[None]
        case = cls(
            config, lifelike.state(config, random), stream, inputs, noise(1, 6, config.dim) / 4, stream
        )
        return replace(case, exact=case.run(case.state, torch.float32))

    @torch.inference_mode()
    def run(self, weights: Mapping[str, Tensor | Packed], base: torch.dtype) -> Tensor:
        """The stream behind the block ``(1, N, D)``."""
        model = build(lambda: WanTransformer(self.config), weights, dtype=base, device=self.stream.device)
        condition = model.condition(token_masks=None, **self.inputs)
        return model.blocks_forward(self.stream.to(base), self.modulation, condition)

    def errors(self, policy: Policy) -> dict[str, dict[str, Error]]:
        """By base: of the stream behind the block (``output``), and of what the block adds to it (``update``)."""
        weights, found = kept(policy, self.state), {}
        for name, base in BASES.items():
            stream = self.run(weights, base)
            update = Error.of(stream.float() - self.stream, self.exact - self.stream)
            found[name] = {"output": Error.of(stream, self.exact), "update": update}
        return found


class Noting(Rooms):
    """Rooms that remember the latents which they decode."""

    __slots__ = ("latents",)

    def decode_video(self, latent: Tensor) -> Tensor:
        self.latents.append(latent.float().cpu())
        return super().decode_video(latent)


@dataclass(frozen=True)
class Film:
    """What a run of the embedded model made."""

    latents: Tensor  # (16, T, h, w), windows one after another
    frames: Tensor  # (F, H, W, 3) uint8


def film(job: Job, rooms: Rooms, policy: Policy, base: torch.dtype) -> Film:
    """Make a whole video, its transformer's weights kept and multiplied as the policy says."""
    whole = rooms.transformer
    transformer = build(
        lambda: WanTransformer(whole.config),
        whole.state_dict(),
        dtype=base,
        device=rooms.device,
        policy=policy,
    )
    noting = Noting(
        transformer, rooms.vae, rooms.text, rooms.vision, rooms.speech, rooms.defaults, rooms.device, base
    )  # fmt: skip
    object.__setattr__(noting, "latents", [])
    frames = [clip.frames for clip in generate(job.request, job.source, noting)]
    return Film(torch.cat(noting.latents, dim=1), torch.cat(frames))


def film_errors(made: Film, exact: Film) -> dict[str, float]:
    """Latents, frames and the mouth that is read from them, against the run in float32."""
    error = (made.frames.float() - exact.frames.float()).square().mean() / 255**2
    reader = load_reader()
    mouths = [read_mouth(film.frames, reader).opening for film in (made, exact)]
    return {
        "latent": float(f"{Error.of(made.latents, exact.latents).relative:.3g}"),
        "psnr": round(float(-10 * torch.log10(error.clamp_min(1e-8))), 1),
        "mouth_r": round(pearson(*mouths), 4),
    }


def measure_layers(device: torch.device, seed: int) -> dict[str, Any]:
    """By layer, policy and base."""
    found: dict[str, Any] = {}
    for layer, (rows, columns) in LAYERS.items():
        random = lifelike.source(seed, device)
        weight = lifelike.weight(rows, columns, random)
        draw = lifelike.activations if layer == "ffn.0" else lifelike.hidden
        x = draw(TOKENS, columns, random)
        found[layer] = {policy.name: rounded(layer_errors(policy, weight, x)) for policy in MEASURED}
    return found


def measure_blocks(device: torch.device, seed: int) -> dict[str, Any]:
    """By policy, base, and what of the block."""
    config = LARGE if device.type == "cuda" else SMALL
    case = BlockCase.make(config, GRID, lifelike.source(seed, device))
    return {
        policy.name: {base: rounded(both) for base, both in case.errors(policy).items()}
        for policy in MEASURED
    }


def measure_films(device: torch.device, seed: int, seconds: float) -> dict[str, Any]:
    """By policy and base. fp16 has no convolution kernels on CPUs, and bf16 is slow there: once is enough."""
    found: dict[str, Any] = {}
    cuda = device.type == "cuda"
    with tempfile.TemporaryDirectory() as name:
        recording = write_wav(Path(name) / "speech.wav", speech(seconds), RATE)
        request = Request(image=SAMPLES / "portrait.png", speakers=(Speaker(audio=recording),), seed=seed)
        job, rooms = Engine().prepare(request), load_bundle(EMBEDDED, device, torch.float32)
        exact = film(job, rooms, POLICIES[Quantization.DISABLED], torch.float32)
        for policy in MEASURED:
            bases = tuple(BASES) if cuda else ("fp32",)
            if policy.name is Quantization.DISABLED and not cuda:
                bases = ("fp32", "bf16")
            found[policy.name] = {
                base: film_errors(film(job, rooms, policy, BASES[base]), exact) for base in bases
            }
    return found


def multiplied(policy: Policy, device: torch.device) -> bool:
    """Whether the machine multiplies in the policy's format, rather than its twin in float32."""
    if policy.name is Quantization.INT8_FAST:
        return has_int8(device)  # the policy runs on every CPU, the product on newer ones
    return policy.needs is None or policy.needs.includes(capability_of(device))


def main() -> None:
    """Command line."""
    options = parser(__doc__ or "")
    options.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    options.add_argument("--seconds", type=float, default=1.96, help="of speech; default is one window")
    options.add_argument("--tables", action="store_true", help="print the tables and measure nothing")
    asked = options.parse_args()
    out = asked.out or RESULTS / ("precision.json" if asked.device == "cpu" else "precision_cuda.json")
    if asked.tables:
        print(tables(RESULTS))
        return
    if asked.threads:
        torch.set_num_threads(asked.threads)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False  # else nothing is exact
    device, began = torch.device(asked.device), perf_counter()
    values: dict[str, Any] = {
        "drawn": lifelike.MESSAGE,
        "tokens": TOKENS,
        "block": {
            "dim": (LARGE if asked.device == "cuda" else SMALL).dim,
            "tokens": GRID[0] * GRID[1] * GRID[2] // 4,
        },
        "seconds_of_speech": asked.seconds,
        "twin": [policy.name for policy in MEASURED if not multiplied(policy, device)],
        "layers": measure_layers(device, asked.seed),
    }
    save("precision", out, values)  # in case what follows takes longer than the machine is there
    values["blocks"] = measure_blocks(device, asked.seed)
    save("precision", out, values)
    values["films"] = measure_films(device, asked.seed, asked.seconds)
    save("precision", out, values | {"seconds": round(perf_counter() - began, 1)})


if __name__ == "__main__":
    main()
