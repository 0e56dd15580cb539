"""``Runtime``: one model on one machine: what runs, the memory plan of a run, and the models, built when needed."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from infinite_talk.denoise.caches import remembered_streams
from infinite_talk.denoise.guidance import Branch, branches
from infinite_talk.denoise.sampler import Sampler
from infinite_talk.device import measure_speed
from infinite_talk.effective import Effective, effective
from infinite_talk.errors import CapabilityError, OutOfMemoryError
from infinite_talk.inputs.validate import prompts_of
from infinite_talk.memory import MemoryPlan, ModelSizes, Work, allocator_limit, plan_memory, replan
from infinite_talk.memory.speed import measured_speed
from infinite_talk.memory.streaming import BlockStream, stream_blocks, together
from infinite_talk.models.dit import WanTransformer
from infinite_talk.models.dit.fusing import fuse_qkv
from infinite_talk.models.speech import SpeechEncoder
from infinite_talk.models.text import TextEncoder
from infinite_talk.models.tiny_vae import TinyVAE
from infinite_talk.models.vae import VideoVAE
from infinite_talk.models.vision import ImageEncoder
from infinite_talk.ops.compiling import compile_blocks, for_moving_weights
from infinite_talk.ops.linear.gguf import Q8_0
from infinite_talk.presets import given
from infinite_talk.progress import Listener, Phase, Progress
from infinite_talk.request import Request
from infinite_talk.rooms import Resident, Rooms
from infinite_talk.settings import Settings
from infinite_talk.types import Plan, Source
from infinite_talk.weights.builder import Store, build
from infinite_talk.weights.checkpoint import Checkpoint, Part
from infinite_talk.weights.lora import Merging, attach
from infinite_talk.weights.model import Model, open_model
from infinite_talk.weights.precision import AsStored
from infinite_talk.weights.reader import shapes_of
from infinite_talk.weights.sizes import dtype_of, sizes_of
from infinite_talk.weights.tokenizer import tokenizer_of

if TYPE_CHECKING:
    from infinite_talk.media.recipe import Machine

TEXT_LAYERS = "model.block"
"""Where the layers of the text encoder are, which pass through one by one where it does not fit."""


AS_STORED = AsStored()


class Runtime:
    """What is built stays for the next run; the memory plan may change between runs and within one."""

    def __init__(self, settings: Settings, model: Model, how: Effective, people: int) -> None:
        self.settings, self.model, self.how = settings, model, how
        self._suits = {people > 1}
        self._announced = False
        self._listen: Listener | None = None
        self._plan: MemoryPlan | None = None
        self._stream: BlockStream | None = None
        self._transformer = Resident(self._build_transformer, keep=True)
        others = [part for part in model.parts if part is not Part.TRANSFORMER]
        self._others: dict[Part, Resident[Any]] = {p: Resident(self._maker(p), keep=True) for p in others}

    @classmethod
    def of(cls, settings: Settings, people: int) -> Runtime:
        """Open the files and choose what runs.

        Raises:
            CheckpointError: a file is missing, damaged, or does not fit.
            CapabilityError, UsageError: this machine cannot run what was chosen.
        """
        if settings.threads is not None:
            torch.set_num_threads(settings.threads)
        model = open_model(settings, people=people)
        head_dim = model.parts[Part.TRANSFORMER].config.head_dim
        how = effective(settings, gguf=model.gguf, head_dim=head_dim)
        return cls(settings, model, how, people)

    def suits(self, people: int) -> bool:
        """Whether the files were chosen for as many people."""
        return (people > 1) in self._suits

    def also_for(self, people: int) -> Runtime:
        """The same files were found for another number of people."""
        self._suits.add(people > 1)
        return self

    @property
    def machine(self) -> Machine:
        """For recipes: how the models run."""
        from infinite_talk.media.recipe import Machine

        return Machine(
            device=self.how.device.type,
            precision=self.how.precision,
            threads=self.settings.threads,
            crf=self.settings.crf,
            quantization=self.how.quantization,
            attention=self.how.attention.name,
            decoder="tiny" if Part.TINY_VAE in self.model.parts else "exact",
            products=self.how.extras,
        )

    def announce(self, listen: Listener) -> None:
        """Say once what runs and what is not as asked."""
        if self._announced:
            return
        self._announced = True
        for note in (*self.how.notes, *self.model.notes):
            listen(Progress(phase=Phase.LOADING, runs=str(self.how), note=note))

    # Memory

    def plan(self, request: Request, source: Source, windows: Plan, *, timed: bool = False) -> MemoryPlan:
        """Where everything will live during a run.

        Args:
            timed: measure this machine, so that the plan tells seconds.

        Raises:
            CapabilityError: the run cannot fit.
            UsageError: the memory settings make no sense for this model.
        """
        return self.plan_for(self._work(request, source, windows), timed=timed)

    def plan_for(self, work: Work, *, timed: bool = False) -> MemoryPlan:
        """``plan`` for who has no request."""
        gpu, model, asked = self.how.device.type == "cuda", self._sizes(), self.settings.memory
        speed = None
        if timed:
            fast = self.how.quantization.endswith("_fast")
            speed = measured_speed(measure_speed(self.how.device, self.how.dtype), gpu=gpu, fast=fast)
        try:
            return plan_memory(
                model, work, self._limit(), asked, gpu=gpu, host_limit=_host_free(), speed=speed
            )
        except CapabilityError:
            if gpu:
                raise
            # Pages of a CPU can be swapped, and free memory is a guess: it runs, and may be slow.
            return plan_memory(model, work, float("inf"), asked, gpu=False, speed=speed)

    def lower(self, plan: MemoryPlan, request: Request, source: Source, windows: Plan) -> MemoryPlan:
        """A plan that needs less, after the memory ran out.

        Raises:
            OutOfMemoryError: there is none.
        """
        return self.lower_for(plan, self._work(request, source, windows))

    def lower_for(self, plan: MemoryPlan, work: Work) -> MemoryPlan:
        """``lower`` for who has no request."""
        self._free()
        try:
            return replan(
                plan,
                self._sizes(),
                work,
                self.settings.memory,
                host_limit=_host_free(),
            )
        except CapabilityError as error:
            raise OutOfMemoryError(
                f"The GPU's memory does not hold the run, and nothing is left to save: {error.message}"
            ) from error

    @contextmanager
    def short_of_memory(self) -> Iterator[list[str]]:
        """A list that has an entry after the block if the GPU's memory ran out in it.

        Raises:
            OutOfMemoryError: the host's memory ran out.
        """
        short: list[str] = []
        try:
            yield short
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            if not isinstance(error, torch.OutOfMemoryError):
                raise OutOfMemoryError(
                    "The memory of this machine does not hold the run. Choose a smaller size or fewer window "
                    "frames, close other programs, or use a machine with more memory."
                ) from error
            short.append(str(error))

    def _work(self, request: Request, source: Source, windows: Plan) -> Work:
        return replace(work_of(request, source, windows), first=not self._transformer.there)

    def _sizes(self) -> ModelSizes:
        how = self.how
        return sizes_of(
            *(self.model, how.policy, how.dtype, how.device),
            fused=how.fused,
            codec=how.codec,
            joined=how.products.fuse_qkv,
        )

    def _limit(self) -> float:
        """Bytes that tensors may take on the device."""
        if self.how.device.type != "cuda":
            return _host_free() or float("inf")
        free, _ = torch.cuda.mem_get_info(self.how.device)
        free += torch.cuda.memory_reserved(self.how.device)
        return min(free, float("inf") if self.settings.vram is None else allocator_limit(self.settings.vram))

    def release(self) -> None:
        """Let all models go; what is used again is read again."""
        for resident in (self._transformer, *self._others.values()):
            resident.release()
        self._free()
        self._stream = None

    def _free(self) -> None:
        """Return what tracebacks and torch's allocator hold on to."""
        if self._stream is not None:
            self._stream.release()
        gc.collect()
        if self.how.device.type == "cuda":
            torch.cuda.empty_cache()

    # Models

    def transformer(self, plan: MemoryPlan, listen: Listener) -> Resident[WanTransformer]:
        """The transformer under a plan; one that is there adapts to it without being read again."""
        self._plan, self._listen = plan, listen
        self.how.products.apply()
        if self._transformer.there:
            if self._stream is not None:
                self._stream.swap(plan.blocks_to_swap, plan.prefetch_blocks)
            with self._transformer.at_hand() as transformer:
                _adapt(transformer, plan)
        return self._transformer

    def rooms(self, plan: MemoryPlan, listen: Listener) -> Rooms:
        """The models under a plan."""
        for resident in self._others.values():
            resident.keep = plan.keep_encoders
            if not plan.keep_encoders:
                resident.release()
        others = self._others
        return Rooms(
            transformer=self.transformer(plan, listen),
            vae=others[Part.VAE],
            text=others[Part.TEXT],
            vision=others[Part.VISION],
            speech=others[Part.SPEECH],
            tiny_vae=others.get(Part.TINY_VAE),
            defaults=self.model.defaults,
            device=self.how.device,
            dtype=self.how.dtype,
            name=self.model.name,
            version=self.model.version,
            runs=str(self.how),
            decode_frames=plan.decode_frames,
            vae_tile=plan.vae_tile,
            batch_branches=plan.batch_branches,
            width=self.model.parts[Part.TRANSFORMER].config.dim,
        )

    def _say(self, note: str) -> None:
        assert self._listen is not None
        self._listen(Progress(phase=Phase.LOADING, runs=str(self.how), note=note))

    def _build_transformer(self) -> WanTransformer:
        how, plan, opened = self.how, self._plan, self.model.parts[Part.TRANSFORMER]
        assert plan is not None and self._listen is not None
        self._listen(Progress(phase=Phase.LOADING, runs=str(how)))
        merged = [lora for lora in self.model.loras if lora.merge]
        shapes = shapes_of(opened.weights)
        merging = Merging(merged, how.policy, shapes, fallback=Q8_0) if merged else None
        transformer = build(
            lambda: WanTransformer(opened.config, attention=how.attention.kernel, ops=how.ops),
            opened.weights,
            dtype=how.dtype,
            device=how.device,
            source=opened.title,
            policy=merging or how.policy,
            together=self._together(opened.config.num_layers, plan.blocks_to_swap),
        )
        beside = [lora for lora in self.model.loras if not lora.merge]
        notes = [note for lora in beside if not lora.off for note in lora.notes(shapes)]
        if beside := [*beside, *(merging.rest if merging else ())]:
            attach(transformer, beside)
        for note in (*(merging.notes if merging else ()), *notes):
            self._say(note)
        _adapt(transformer, plan)
        if how.products.fuse_qkv and (kept := fuse_qkv(transformer)):
            self._say(kept)
        if how.device.type == "cuda":
            self._stream = stream_blocks(transformer, plan.blocks_to_swap, plan.prefetch_blocks, how.device)
            transformer.to(how.device)  # strengths of LoRAs, which were made beside a block that is streamed
            if self._stream.note:
                self._say(self._stream.note)
        if how.compiled is not None:
            streamed = plan.blocks_to_swap > 0
            compile_blocks(
                transformer.blocks.children(), for_moving_weights(how.compiled) if streamed else how.compiled
            )
        return transformer

    def _maker(self, part: Part) -> Callable[[], nn.Module]:
        return lambda: self._build(part)

    def _build(self, part: Part) -> nn.Module:
        opened, device, plan = self.model.parts[part], self.how.device, self._plan
        assert plan is not None
        dtype = dtype_of(part, opened, device, self.how.dtype, self.how.codec)
        swap = plan.text_blocks_to_swap if part is Part.TEXT else 0
        return build_part(opened, dtype, device, tokenizer=self.model.tokenizer, swap=swap)

    def _together(self, total: int, swap: int) -> Callable[[str], str | None] | None:
        return _together(total, swap, "blocks", self.how.device)


def build_part(
    opened: Checkpoint,
    dtype: torch.dtype,
    device: torch.device,
    *,
    tokenizer: Path | None = None,
    swap: int = 0,
    policy: Store = AS_STORED,
) -> nn.Module:
    """A model that is not the transformer, from its opened files.

    Args:
        tokenizer: folder with the text encoder's, where it is not beside its file.
        swap: layers of the text encoder that live in host memory.
        policy: in which form its weights are kept.
    """
    together = _together(opened.config.num_layers, swap, TEXT_LAYERS, device) if swap else None
    make = _module(opened, tokenizer)
    model = build(
        make,
        opened.weights,
        dtype=dtype,
        device=device,
        source=opened.title,
        policy=policy,
        together=together,
    )
    if swap:
        stream_blocks(model, swap, 1, device, name=TEXT_LAYERS)
    return model


def _together(total: int, swap: int, name: str, device: torch.device) -> Callable[[str], str | None] | None:
    """Which weights go to the host's memory while they are loaded: those that will be streamed to a GPU."""
    return together(total, swap, name=name) if device.type == "cuda" else None


def _module(opened: Checkpoint, folder: Path | None) -> Callable[[], nn.Module]:
    """What makes the module. All that is read for it is read before, since ``build`` takes its memory away."""
    config = opened.config
    if opened.part is Part.TEXT:
        tokenizer = tokenizer_of(opened, folder)
        return lambda: TextEncoder(config, tokenizer)
    kinds: dict[Part, Callable[..., nn.Module]] = {
        Part.VAE: VideoVAE,
        Part.TINY_VAE: TinyVAE,
        Part.VISION: ImageEncoder,
        Part.SPEECH: SpeechEncoder,
    }
    return lambda: kinds[opened.part](config)


def _adapt(transformer: WanTransformer, plan: MemoryPlan) -> None:
    transformer.rows_at_once = plan.rows_at_once
    transformer.keep_keys_values = plan.keep_keys_values


def work_of(request: Request, source: Source, windows: Plan) -> Work:
    """What memory and time of a resolved request depend on."""
    asked = branches(given(request.text_guidance), given(request.audio_guidance), request.compat)
    return Work(
        size=source.size,
        frames=given(request.window_frames),
        motion=given(request.motion_frames),
        steps=Sampler.of(request).steps,
        branches=len(asked),
        remembered=remembered_streams(request.step_cache, len(asked)),
        silent=sum(branch in (Branch.UNCOND, Branch.DROP_AUDIO) for branch in asked),
        people=len(source.speech),
        texts=len({*prompts_of(request.prompt), given(request.negative_prompt)}),
        windows=len(windows.windows),
    )


def is_out_of_memory(error: BaseException) -> bool:
    """torch's CPU allocator raises a plain RuntimeError; its CUDA error is a subclass of it."""
    text = str(error).lower()
    return isinstance(error, MemoryError) or "out of memory" in text or "allocate memory" in text


def _host_free() -> float | None:
    import psutil

    return float(psutil.virtual_memory().available)
