"""``Stand``: what a case runs on: media, the model, and what the memory plan decided; kept between like cases."""

from __future__ import annotations

import gc
import tempfile
import wave
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from infinite_talk.benchmarks.case import EMBEDDED, FULL, Case, What
from infinite_talk.benchmarks.ceilings import Meter
from infinite_talk.benchmarks.random_models import Sizes, random_model, randomised, write_tokenizer
from infinite_talk.device import choose_device
from infinite_talk.effective import Effective, effective
from infinite_talk.engine import Engine, Job
from infinite_talk.errors import UsageError
from infinite_talk.memory import MemoryPlan, Work
from infinite_talk.models.dit import DiTConfig
from infinite_talk.presets import given
from infinite_talk.progress import Progress
from infinite_talk.request import Box, Request, Speaker
from infinite_talk.rooms import Rooms
from infinite_talk.runtime import Runtime, work_of
from infinite_talk.settings import Settings
from infinite_talk.types import FPS, SPEECH_RATE, Size
from infinite_talk.weights.checkpoint import Part
from infinite_talk.weights.model import Model, open_model

Say = Callable[[str], None]
GUIDANCE = {1: (1.0, 1.0), 2: (1.0, 2.0), 3: (3.0, 2.0)}
"""Scales of text and speech that need as many branches."""


@dataclass(frozen=True, slots=True, eq=False)
class Prepared:
    """Everything that a measurement needs."""

    case: Case
    runtime: Runtime
    job: Job
    plan: MemoryPlan
    work: Work
    rooms: Rooms
    config: DiTConfig
    layers: int
    """Of the model as it is published; ``config`` may have fewer."""

    @property
    def how(self) -> Effective:
        return self.runtime.how

    @property
    def device(self) -> torch.device:
        return self.runtime.how.device

    @property
    def warm_up(self) -> float:
        """Seconds."""
        if self.case.warm_up is not None:
            return self.case.warm_up
        return 2.0 if self.device.type == "cuda" else 0.0


class Bench(Engine):
    """An engine on a runtime that is there already."""

    def __init__(self, runtime: Runtime, progress: Callable[[Progress], None]) -> None:
        super().__init__(runtime.settings, progress=progress)
        self.defaults, self._own = runtime.model.defaults, runtime

    def runtime(self, people: int = 1) -> Runtime:
        """The one it was given."""
        return self._own.also_for(people)


class Stand:
    """Prepares cases. What two cases share is made once: the same model, and ceilings of the same shapes."""

    def __init__(self, folder: Path, say: Say) -> None:
        """``folder``: where media and videos go; ``say`` hears what is being done."""
        self.folder, self.say = folder, say
        self._runtime: tuple[object, Runtime, int] | None = None
        self._meters: dict[tuple[torch.device, float], Meter] = {}

    def prepare(self, case: Case) -> Prepared:
        """Media, model and plan of a case.

        Raises:
            UsageError: the case makes no sense for the model.
            CapabilityError: this machine cannot run it.
            CheckpointError: of a folder.
        """
        runtime, layers = self._built(case)
        request = self.request(case, runtime.model)
        job = Bench(runtime, _silent).prepare(request)
        plan = runtime.plan(job.request, job.source, job.plan)
        work = work_of(job.request, job.source, job.plan)
        rooms = runtime.rooms(plan, lambda event: self.say(event.note) if event.note else None)
        config = runtime.model.parts[Part.TRANSFORMER].config
        return Prepared(case, runtime, job, plan, work, rooms, config, layers)

    def meter(self, prepared: Prepared) -> Meter:
        """For ceilings of a prepared case."""
        seconds = prepared.case.ceiling
        if seconds is None:
            seconds = 2.0 if prepared.device.type == "cuda" else 0.05
        return self._meters.setdefault((prepared.device, seconds), Meter(prepared.device, seconds))

    def release(self) -> None:
        """Let the model go; its memory returns to the device."""
        self._runtime = None
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def request(self, case: Case, model: Model) -> Request:
        """Generated media, as long as the windows of the case."""
        size = case.size or (SIZE if case_model(case) == FULL else size_of(model))
        frames = case.frames or model.defaults.window_frames
        motion = min(model.defaults.motion_frames, frames - 4)
        length = frames + (case.windows - 1) * (frames - motion)
        text, audio = GUIDANCE[case.branches]
        picture = self.folder / f"{size.width}x{size.height}.png"
        draw(picture, size)
        boxes = [Box(0, 0, size.width / 2, size.height), Box(size.width / 2, 0, size.width, size.height)]
        speakers = [
            Speaker(
                audio=speak(self.folder / f"{length}-{person}.wav", length, pitch=110 + 60 * person),
                box=boxes[person] if case.people > 1 else None,
            )
            for person in range(case.people)
        ]
        return Request(
            image=picture,
            speakers=tuple(speakers),
            prompt="a person speaks",
            size=f"{size.width}x{size.height}!",
            seed=case.seed,
            steps=case.steps,
            text_guidance=text,
            audio_guidance=audio,
            window_frames=frames,
            motion_frames=motion,
            max_frames=length,
        )

    def _built(self, case: Case) -> tuple[Runtime, int]:
        """The runtime of a case, the one before if it is alike; and how many layers the model has."""
        whole = case.what is What.WINDOW  # needs the encoders of the model, too
        alike = (
            case_model(case),
            case.layers,
            case.precision,
            case.quantization,
            case.attention,
            case.device,
        )
        key = (*alike, case.seed, whole and case_model(case) != FULL)
        if self._runtime is not None and self._runtime[0] == key:
            return self._runtime[1], self._runtime[2]
        self.release()
        self.say(f"making {case_model(case)}, {case.quantization}, attention {case.attention}")
        settings = settings_of(case)
        if case_model(case) == FULL:
            model, layers = self._full(case, settings)
        else:
            model, layers = self._opened(case, settings, randomly=not whole)
        how = effective(settings, gguf=model.gguf, head_dim=model.parts[Part.TRANSFORMER].config.head_dim)
        runtime = Runtime(settings, model, how, case.people)
        self._runtime = (key, runtime, layers)
        return runtime, layers

    def _full(self, case: Case, settings: Settings) -> tuple[Model, int]:
        sizes = Sizes()
        layers = sizes.transformer.num_layers
        config = with_layers(sizes.transformer, case.layers)
        how = effective(settings, gguf=False, head_dim=config.head_dim)
        model = random_model(replace(sizes, transformer=config), how.dtype, how.device, seed=case.seed)
        tokenizer = write_tokenizer(self.folder / "tokenizer", sizes.text.vocab_size)
        return replace(model, tokenizer=tokenizer), layers

    def _opened(self, case: Case, settings: Settings, *, randomly: bool) -> tuple[Model, int]:
        model = open_model(settings, people=case.people)
        config = model.parts[Part.TRANSFORMER].config
        if case.layers is not None and not randomly:
            raise UsageError("--what window with --layers needs --model 14b, whose weights are made here.")
        if not randomly:
            return model, config.num_layers
        how = effective(settings, gguf=False, head_dim=config.head_dim)
        chosen = with_layers(config, case.layers)
        return randomised(model, chosen, how.dtype, how.device, case.seed), config.num_layers


SIZE = Size(480, 832)
"""Where nothing is said."""


def case_model(case: Case) -> str:
    """Which model a case means."""
    if case.model is not None:
        return case.model
    return FULL if choose_device(Settings(device=case.device)).type == "cuda" else EMBEDDED


def settings_of(case: Case) -> Settings:
    """Strict: what was chosen runs or the case fails, so that no number stands under a wrong name."""
    named = case_model(case)
    return Settings(
        model=None if named in (FULL, EMBEDDED) else Path(named),
        models_dirs=() if case.models_dir is None else (case.models_dir,),
        device=case.device,
        precision=case.precision,
        quantization=case.quantization,
        attention=case.attention,
        strict=True,
    )


def with_layers(config: DiTConfig, layers: int | None) -> DiTConfig:
    """Fewer layers, if that was asked.

    Raises:
        UsageError: more than there are.
    """
    if layers is None:
        return config
    if layers > config.num_layers:
        raise UsageError(f"{layers} layers were asked for; this model has {config.num_layers}.")
    return replace(config, num_layers=layers)


def size_of(model: Model) -> Size:
    """A small model's own size, ``"192x192!"``; else that of the published tables."""
    width, _, height = given(model.defaults.size).rstrip("!").partition("x")
    return Size(int(height), int(width)) if height else SIZE


def draw(path: Path, size: Size) -> Path:
    """A picture with some texture, once."""
    if not path.is_file():
        rows, columns = np.mgrid[0 : size.height, 0 : size.width]
        noise = np.random.default_rng(0).integers(0, 32, (size.height, size.width))
        channels = (rows * 200 // size.height, columns * 200 // size.width, np.full_like(rows, 100))
        Image.fromarray(np.stack([one + noise for one in channels], -1).astype(np.uint8)).save(path)
    return path


def speak(path: Path, frames: int, *, pitch: float) -> Path:
    """A buzz that comes and goes, as long as so many frames of video, once."""
    if not path.is_file():
        time = np.arange(frames * SPEECH_RATE // FPS) / SPEECH_RATE
        tones = [np.sin(2 * np.pi * pitch * harmonic * time) / harmonic for harmonic in range(1, 8)]
        loud = 0.2 * np.sum(tones, axis=0) * (0.5 + 0.5 * np.sin(2 * np.pi * 3 * time))
        with wave.open(str(path), "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(SPEECH_RATE)
            file.writeframes((loud * 20_000).astype("<i2").tobytes())
    return path


def folder() -> tempfile.TemporaryDirectory[str]:
    """For one run's media."""
    return tempfile.TemporaryDirectory(prefix="infinite-talk-bench-")


def _silent(_event: Progress) -> None:
    pass
