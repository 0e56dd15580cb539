"""``plan_run``: what a run would need and how it would be made to fit, before any weight is read.

Sizes come from the headers of model files; where there are none, from a preset or the published 14B model.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from infinite_talk.denoise.caches import remembered_streams
from infinite_talk.denoise.guidance import Branch, branches
from infinite_talk.device import codec_dtype, measure_speed
from infinite_talk.effective import effective
from infinite_talk.engine import Engine
from infinite_talk.errors import CheckpointError, UsageError
from infinite_talk.inputs.validate import MAX_FRAMES, prompts_of
from infinite_talk.memory import MemoryPlan, ModelSizes, Work, allocator_limit, full_sizes, plan_memory
from infinite_talk.memory.planner import CONTEXT
from infinite_talk.memory.speed import Speed, card_with, measured_speed
from infinite_talk.plan.buckets import choose_size, parse_size
from infinite_talk.plan.windows import plan_windows
from infinite_talk.presets import OFFICIAL, Defaults, given, resolve
from infinite_talk.request import Request
from infinite_talk.settings import Device, Precision, Quantization, Settings
from infinite_talk.types import FPS
from infinite_talk.weights.checkpoint import Part
from infinite_talk.weights.hub.catalogue import PRESETS
from infinite_talk.weights.model import open_model
from infinite_talk.weights.precision import FORMATS, capability_of, policy_for
from infinite_talk.weights.sizes import sizes_of

FULL = ("14b", "14B")
"""Names of the published model's sizes, for who has no files yet."""
SHAPE = (9, 16)
"""Height and width of a picture that nobody has given."""
FILM_RATE = 1.2e6
"""Bytes of a second of finished video in the take, 480p at the default quality; rough."""
_ADA = (8, 9)


@dataclass(frozen=True, slots=True)
class Forecast:
    """The plan of a run that was not started."""

    model: str
    kept: str  # how the transformer's matrices are kept
    device: str  # what the times are for
    gpu: bool
    work: Work
    seconds: float  # of video
    disk: float  # bytes of model files
    take: float  # bytes that the video takes while it grows; rough
    context: float  # bytes that the driver takes beside the plan's peak
    plan: MemoryPlan
    notes: tuple[str, ...]

    @property
    def run_seconds(self) -> float:
        """Expected for the whole video, loading not counted."""
        return self.plan.seconds_once + self.work.windows * self.plan.seconds_per_window


def plan_run(request: Request, settings: Settings, *, seconds: float | None = None) -> Forecast:
    """Plan a run. Media may be missing: then one window of a wide picture and one speaker is planned.

    Args:
        seconds: of video, for a request without media; such a request costs no look at any file but the models'.

    Raises:
        UsageError, InputError: what is wrong with the request or its files.
        CheckpointError: model files are damaged or missing, and their name is no preset.
        CapabilityError: the run does not fit; says the least memory that would do.
    """
    sizes, kept, defaults, notes = _model(request, settings)
    work, seconds = _work(request, settings, defaults, seconds)
    gpu, limit, speed = _machine(settings, sizes)
    asked = settings.memory
    plan = plan_memory(sizes, work, limit, asked, gpu=gpu, speed=speed)
    return Forecast(
        model=sizes.name,
        kept=kept,
        device=speed.name,
        gpu=gpu,
        work=work,
        seconds=seconds,
        disk=sizes.disk,
        take=seconds * FILM_RATE * work.pixels / (832 * 448),
        context=CONTEXT if gpu else 0.0,
        plan=plan,
        notes=notes,
    )


def _model(request: Request, settings: Settings) -> tuple[ModelSizes, str, Defaults, tuple[str, ...]]:
    """Sizes, how matrices are kept, defaults, and what had to be assumed."""
    name = "" if settings.model is None else str(settings.model)
    if name in FULL:
        return (*_nominal(settings), OFFICIAL, ())
    try:
        opened = open_model(settings, people=max(1, len(request.speakers)))
    except CheckpointError:
        if name not in {preset.name for preset in PRESETS}:
            raise
        note = f"The files of {name} are not here, so the sizes are those of its preset."
        return (*_preset(name, settings), OFFICIAL, (note,))
    if settings.vram is not None and not torch.cuda.is_available():
        policy, said = policy_for(settings.quantization, _ADA, gguf=opened.gguf)
        dtype, device, fused = torch.bfloat16, torch.device("cuda"), True
        notes: tuple[str, ...] = (said,) if said else ()
    else:
        head_dim = opened.parts[Part.TRANSFORMER].config.head_dim
        how = effective(settings, gguf=opened.gguf, head_dim=head_dim)
        policy, dtype, device, notes = how.policy, how.dtype, how.device, how.notes
        fused = how.fused
    sizes = sizes_of(opened, policy, dtype, device, fused=fused, codec=codec_dtype(settings, device))
    kept = f"{opened.version}" if policy.format is None else str(policy.name)
    return sizes, kept, opened.defaults, (*notes, *opened.notes)


def _nominal(settings: Settings, gguf: str = "Q4_K") -> tuple[ModelSizes, str]:
    """The published 14B model, kept as asked."""
    base = 4 if settings.precision is Precision.FP32 else 2
    if settings.quantization is Quantization.GGUF:
        return full_sizes(gguf, base=base), f"gguf {gguf}"
    plain = "fp32" if base == 4 else "fp16" if settings.precision is Precision.FP16 else "bf16"
    kept = FORMATS[settings.quantization]
    return full_sizes(kept, base=base), plain if kept is None else str(settings.quantization)


def _preset(name: str, settings: Settings) -> tuple[ModelSizes, str]:
    """The 14B model as a preset has it: the bytes of its transformer, unless it is to be packed otherwise."""
    preset = next(one for one in PRESETS if one.name == name)
    if not preset.complete:
        raise UsageError(f"The preset {name} is a single part; choose a whole model for a plan.")
    disk = float(preset.size)
    if settings.quantization is not Quantization.DISABLED:
        sizes, kept = _nominal(settings)
        return replace(sizes, name=name, disk=disk), kept
    stored = sum(file.size for part in ("transformer", "adapter") for file in preset.of(part))
    sizes, kept = _nominal(settings)
    # A file in float32 is read in the base precision.
    block = min(sizes.block, max(0.0, stored - sizes.rest) / sizes.transformer.num_layers)
    return replace(sizes, name=name, block=block, disk=disk), f"{kept}, matrices as in the file"


def _work(
    request: Request, settings: Settings, defaults: Defaults, seconds: float | None
) -> tuple[Work, float]:
    """What is to be done, and seconds of video."""
    if request.image or request.video:
        job = Engine(settings).prepare(request)
        resolved, size = job.request, job.source.size
        people, windows, frames = len(job.source.speech), len(job.plan.windows), job.plan.length
    else:
        resolved = resolve(request, defaults)
        size = choose_size(parse_size(given(resolved.size)), *SHAPE)
        people, windows, frames = max(1, len(request.speakers)), 1, given(resolved.window_frames)
        if seconds is not None:
            frames = max(1, min(round(seconds * FPS), resolved.max_frames or MAX_FRAMES))
            motion = given(resolved.motion_frames)
            windows = len(plan_windows(frames, frames=given(resolved.window_frames), motion=motion).windows)
    asked = branches(given(resolved.text_guidance), given(resolved.audio_guidance), resolved.compat)
    work = Work(
        first=True,
        size=size,
        frames=given(resolved.window_frames),
        motion=given(resolved.motion_frames),
        steps=given(resolved.steps),
        branches=len(asked),
        remembered=remembered_streams(resolved.step_cache, len(asked)),
        silent=sum(branch in (Branch.UNCOND, Branch.DROP_AUDIO) for branch in asked),
        people=people,
        texts=len({*prompts_of(resolved.prompt), given(resolved.negative_prompt)}),
        windows=windows,
    )
    return work, frames / FPS


def _machine(settings: Settings, sizes: ModelSizes) -> tuple[bool, float, Speed]:
    """Whether it has a GPU, what tensors may take, and what it does in a second.

    With ``vram`` and no GPU here, one is imagined: the smallest of the table that has so much memory.
    """
    here = torch.cuda.is_available() and settings.device is not Device.CPU
    if not here and settings.vram is not None:
        card = card_with(settings.vram)
        return True, allocator_limit(settings.vram), card.speed()
    device = torch.device("cuda", 0) if here else torch.device("cpu")
    dtype = {2: torch.bfloat16, 4: torch.float32}[sizes.base if here else 4]
    flops = measure_speed(device, dtype)
    if not here:
        return False, float("inf"), replace(measured_speed(flops, gpu=False), name="this CPU")
    fast = (capability_of(device) or (0, 0)) >= _ADA
    free = float(torch.cuda.mem_get_info(device)[0])
    limit = free if settings.vram is None else min(free, allocator_limit(settings.vram))
    return (
        True,
        limit,
        replace(measured_speed(flops, gpu=True, fast=fast), name=torch.cuda.get_device_name(device)),
    )
