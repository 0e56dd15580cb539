"""What a choice costs, stage by stage: bytes on the device and the host, and expected time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from infinite_talk.memory import costs
from infinite_talk.memory.costs import Need
from infinite_talk.memory.sizes import Encoder, ModelSizes
from infinite_talk.memory.speed import Speed
from infinite_talk.memory.work import Work
from infinite_talk.types import FPS

PROCESS = 0.7e9
"""Python, torch and transformers before any weight is read (0.55 to 0.75 GB resident on a CPU)."""
CUDA_PROCESS = 3.0e9
"""The same with CUDA's libraries."""
PER_WINDOW = ("encode", "denoise", "decode")
"""Stages of every window; the others come once per video."""


@dataclass(frozen=True, slots=True)
class Stage:
    """What a run does for a while.

    Bytes on the device, but ``host``. Seconds of one window, or of the video for what is done once; 0 when
    the machine's speed is not known.
    """

    name: str
    weights: float
    activations: float
    workspace: float
    peak: float
    host: float
    seconds: float


@dataclass(frozen=True, slots=True)
class Choice:
    """One way to run: where things live, and how much is worked on at a time."""

    keep_encoders: bool
    text_streamed: bool
    swap: int
    prefetch: int
    keys_kept: bool
    rows: int | None
    frames: int
    tile: int | None


def stages_of(
    model: ModelSizes, work: Work, choice: Choice, *, gpu: bool = True, speed: Speed | None = None
) -> tuple[Stage, ...]:
    """All stages in order. Without a ``gpu`` the host is the device."""
    transformer = resident_bytes(model, choice.swap, choice.prefetch)
    held = features_bytes(model, work) + (0.0 if gpu else PROCESS)
    host = host_bytes(model, choice) if gpu else 0.0
    stages = []
    for name, small, need in _needs(model, work, choice):
        weights = transformer + (model.encoders if choice.keep_encoders else small)
        activations = need.activations + held
        peak = weights + activations + need.workspace
        seconds = 0.0 if speed is None else _seconds(name, model, work, choice, speed)
        stages.append(Stage(name, weights, activations, need.workspace, peak, host, seconds))
    return tuple(stages)


def peak_bytes(model: ModelSizes, work: Work, choice: Choice, *, gpu: bool = True) -> float:
    """The most that any stage needs on the device."""
    return max(stage.peak for stage in stages_of(model, work, choice, gpu=gpu))


def host_bytes(model: ModelSizes, choice: Choice) -> float:
    """Host memory beside a GPU: the process, swapped blocks, and encoders while they are away."""
    away = 0.0 if choice.keep_encoders else model.encoders
    return CUDA_PROCESS + choice.swap * model.block + away


def resident_bytes(model: ModelSizes, swap: int, prefetch: int) -> float:
    """Bytes of the transformer on the device: blocks that stay, and landing places of those that come."""
    landing = min(swap, prefetch + 1) if swap else 0
    return model.rest + (model.transformer.num_layers - swap + landing) * model.block


def features_bytes(model: ModelSizes, work: Work) -> float:
    """Speech features of the whole video, float32."""
    config = model.transformer
    frames = work.windows * work.new_frames + work.motion
    return 4.0 * work.people * frames * config.audio_blocks * config.audio_channels


def pass_seconds(model: ModelSizes, work: Work, choice: Choice, speed: Speed) -> float:
    """One pass of the transformer; copies run beside the work when they are ahead of it."""
    matrices, attention = costs.pass_flops(model.transformer, work.tokens(model.transformer.patch_size))
    fast = speed.fast if model.format is not None and model.format.name.endswith("_fast") else 1.0
    computing = matrices / (fast * speed.transformer) + attention / speed.transformer
    copying = choice.swap * model.block / speed.link
    return max(computing, copying) if choice.prefetch else computing + copying


def _needs(model: ModelSizes, work: Work, choice: Choice) -> Iterator[tuple[str, float, Need]]:
    """Name of a stage, bytes of the small model that works in it, and what it needs beside weights."""
    yield "text", model.text.resident(choice.text_streamed), Need(0.0, model.text.work)
    yield "speech", model.speech.weights, Need(0.0, model.speech.work)
    yield "image", model.vision.weights, Need(0.0, model.vision.work)
    yield "encode", model.codec, _encode_need(model, work, choice.frames, choice.tile)
    yield "denoise", 0.0, _denoise_need(model, work, choice.rows, kept=choice.keys_kept)
    yield "decode", model.codec, _decode_need(model, work, choice.frames, choice.tile)


_encode_need = lru_cache(maxsize=4096)(costs.encode_need)
_denoise_need = lru_cache(maxsize=4096)(costs.denoise_need)
_decode_need = lru_cache(maxsize=4096)(costs.decode_need)


def _seconds(name: str, model: ModelSizes, work: Work, choice: Choice, speed: Speed) -> float:
    """Expected time of a stage: of one window, or of the video."""
    once: dict[str, tuple[Encoder, float]] = {
        "text": (model.text, work.texts),
        "speech": (model.speech, work.people * work.windows * work.new_frames / FPS),
        "image": (model.vision, 1),
    }
    if name in once:
        encoder, runs = once[name]
        moved = 0.0 if choice.keep_encoders else 2 * encoder.weights / speed.link
        return runs * encoder.flops / speed.transformer + moved
    if name == "denoise":
        return work.steps * work.branches * pass_seconds(model, work, choice, speed)
    flops = costs.frame_flops(model.vae, work.pixels) * costs.tiles_share(model.vae, work, choice.tile)
    if name == "decode":
        return work.frames * flops / speed.codec
    # The encoder has one residual block less in each level, and a window encodes the frames it continues.
    return work.motion * flops / speed.codec * model.vae.num_res_blocks / (model.vae.num_res_blocks + 1)
