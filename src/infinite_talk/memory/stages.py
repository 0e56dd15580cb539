"""What a choice costs, stage by stage: bytes on the device and the host, and expected time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache, partial

from infinite_talk.memory import costs
from infinite_talk.memory.costs import Need
from infinite_talk.memory.flops import decode_flops, encode_flops
from infinite_talk.memory.sizes import Encoder, ModelSizes
from infinite_talk.memory.speed import Speed
from infinite_talk.memory.work import Work
from infinite_talk.models.vae.tiles import decoder_reach, encoder_reach
from infinite_talk.types import FPS

PROCESS = 0.7e9
"""Python, torch and transformers before any weight is read (0.55 to 0.75 GB resident on a CPU)."""
CUDA_PROCESS = 3.0e9
"""The same with CUDA's libraries."""
PER_WINDOW = ("encode", "denoise", "decode")
"""Stages of every window; the others come once per video."""
BEFORE = ("text", "speech")
"""Stages before the transformer is loaded in the first run of a process."""


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
    batched: bool = False


class Needs:
    """What the stages of one model at one work need beside weights; each is computed once."""

    def __init__(self, model: ModelSizes, work: Work, *, gpu: bool = True) -> None:
        """``gpu``: the device has a memory of its own; else the host is the device."""
        self.model, self.work, self.gpu = model, work, gpu
        self.held = 0.0 if gpu else PROCESS + features_bytes(model, work)
        self.codec = model.codec
        self.encoders = model.encoders
        self.encode = cache(partial(costs.encode_need, model, work, gpu=gpu))
        self.denoise = cache(partial(costs.denoise_need, model, work))
        self.decode = cache(partial(costs.decode_need, model, work, gpu=gpu))
        self.kept = cache(partial(costs.kept_bytes, model, work))

    def of(self, choice: Choice) -> Iterator[tuple[str, float, Need]]:
        """Name of a stage, bytes of the small model that works in it, and what it needs beside weights."""
        model = self.model
        yield "text", model.text.resident(choice.text_streamed), Need(0.0, model.text.work)
        yield "speech", model.speech.weights, Need(0.0, model.speech.work)
        yield "image", model.vision.weights, Need(0.0, model.vision.work)
        # Whole frames: a picture goes four at a time (``models/vae/still.py``), motion frames as they come.
        stride = self.model.vae.temporal_stride
        at_once = choice.frames
        if choice.tile is None:
            at_once = min(at_once, -(-self.work.motion // stride) * stride)
        waiting = self.kept(kept=choice.keys_kept, batched=choice.batched)
        first = waiting if self.work.windows > 1 else 0.0  # nothing waits in the first window
        yield "encode", self.codec, self.encode(at_once, choice.tile).beside(first)
        yield "denoise", 0.0, self.denoise(choice.rows, kept=choice.keys_kept, batched=choice.batched)
        yield "decode", self.codec, self.decode(choice.frames, choice.tile).beside(waiting)

    def peak(self, choice: Choice) -> float:
        """The most bytes on the device."""
        transformer = self.transformer(choice)
        return self.held + max(
            transformer(name) + (self.encoders if choice.keep_encoders else small) + need.bytes
            for name, small, need in self.of(choice)
        )

    def transformer(self, choice: Choice) -> Callable[[str], float]:
        """Bytes of the transformer's weights in a stage: in a first run it is not there yet in some."""
        resident = resident_bytes(self.model, choice.swap, choice.prefetch)
        return lambda stage: 0.0 if self.work.first and stage in BEFORE else resident

    def host(self, choice: Choice) -> float:
        """Host memory beside a GPU: the process, swapped blocks, and streamed layers of the text encoder.

        Other encoders that are away are in their files, which the operating system keeps while there is room.
        """
        if not self.gpu:
            return 0.0
        text = self.model.text
        layers = text.layers * text.layer if choice.text_streamed else 0.0
        features = features_bytes(self.model, self.work)
        return CUDA_PROCESS + choice.swap * self.model.block + layers + features


def stages_of(needs: Needs, choice: Choice, speed: Speed | None = None) -> tuple[Stage, ...]:
    """All stages in order."""
    model, work = needs.model, needs.work
    transformer = needs.transformer(choice)
    host = needs.host(choice)
    stages = []
    for name, small, need in needs.of(choice):
        weights = transformer(name) + (needs.encoders if choice.keep_encoders else small)
        activations = need.activations + needs.held
        peak = weights + activations + need.workspace
        seconds = 0.0 if speed is None else _seconds(name, model, work, choice, speed)
        stages.append(Stage(name, weights, activations, need.workspace, peak, host, seconds))
    return tuple(stages)


def resident_bytes(model: ModelSizes, swap: int, prefetch: int) -> float:
    """Bytes of the transformer on the device: blocks that stay, and landing places of those that come."""
    landing = min(swap, prefetch + 1) if swap else 0
    return model.rest + (model.transformer.num_layers - swap + landing) * model.block


def features_bytes(model: ModelSizes, work: Work) -> float:
    """Speech features of the whole video, float32, on the host."""
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
    if name == "decode":
        share = costs.tiles_share(model.vae, work, choice.tile, decoder_reach(model.vae))
        return share * decode_flops(model.vae, work) / speed.codec
    share = costs.tiles_share(model.vae, work, choice.tile, encoder_reach(model.vae))
    # A window encodes the frames it continues.
    return share * encode_flops(model.vae, replace(work, frames=work.motion)) / speed.codec
