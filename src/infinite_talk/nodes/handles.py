"""What loaders hand to other nodes: models that are opened, checked, and read when they are first needed.

A handle is a frozen value. Changed LoRAs, block swap or overrides make another one (``dataclasses.replace``), which
shares the loaded weights with the first as long as they are the same.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Generic, Literal, TypeVar

import torch
from torch import nn

from infinite_talk.effective import effective
from infinite_talk.errors import UsageError
from infinite_talk.memory import MemoryPlan, Work
from infinite_talk.models.dit import WanTransformer
from infinite_talk.models.speech import SpeechEncoder
from infinite_talk.models.text import TextEncoder
from infinite_talk.models.tiny_vae import TinyVAE
from infinite_talk.models.vae import VideoVAE
from infinite_talk.models.vision import ImageEncoder
from infinite_talk.nodes.host import host
from infinite_talk.ops.accumulation import float16_sums
from infinite_talk.ops.compiling import Compilation, compile_blocks, for_moving_weights, why_not_compiled
from infinite_talk.presets import OFFICIAL, Defaults
from infinite_talk.progress import Progress
from infinite_talk.rooms import Codec, Resident
from infinite_talk.runtime import Runtime
from infinite_talk.settings import Attention, LoRA, Memory, Settings
from infinite_talk.weights.adapters import open_lora_beside
from infinite_talk.weights.checkpoint import Checkpoint, Part
from infinite_talk.weights.model import Model
from infinite_talk.weights.reader import shapes_of

M = TypeVar("M", bound=nn.Module)
_log = logging.getLogger(__name__)


def say(note: str) -> None:
    """One line that a person should read: to the log."""
    _log.info(note)


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Loadable(Generic[M]):
    """One small model: opened, and built at its first use."""

    opened: Checkpoint
    device: torch.device
    dtype: torch.dtype
    kept: str
    """In which form its weights are, for people: ``"as stored"``, ``"fp8_e4m3fn"``."""
    make: Callable[[torch.device], M]
    resident: Resident[M]

    def on(self, device: torch.device) -> Loadable[M]:
        """The same model on another device, built anew."""
        make = self.make
        return replace(self, device=device, resident=Resident(lambda: make(device), keep=True))

    @contextmanager
    def at_hand(self) -> Iterator[M]:
        """The model on its device, for as long as the block lasts."""
        with self.resident.at_hand() as model:
            yield model

    def release(self) -> None:
        """Let it go; it is read again when it is needed."""
        self.resident.release()

    @property
    def title(self) -> str:
        """What to call it."""
        return self.opened.title


TextModel = Loadable[TextEncoder]
VisionModel = Loadable[ImageEncoder]


@dataclass(frozen=True, slots=True, eq=False)
class SpeechModel:
    """A speech encoder (WAV2VECMODEL)."""

    model: Loadable[SpeechEncoder]
    kind: Literal["tencent", "facebook"]
    """Who trained it: MultiTalk and InfiniteTalk hear through the Chinese one of Tencent only."""


@dataclass(frozen=True, slots=True, eq=False)
class SpeechBranch:
    """The speech branch of a transformer (MULTITALKMODEL); its weights are read with the transformer."""

    opened: Checkpoint | None
    """``None``: it is in the transformer's own file."""
    kind: Literal["InfiniteTalk", "MultiTalk"]


@dataclass(frozen=True, slots=True, eq=False)
class Vae:
    """A video codec (WANVAE): the whole one, or a tiny decoder."""

    exact: Loadable[VideoVAE] | None = None
    tiny: Loadable[TinyVAE] | None = None

    @property
    def loaded(self) -> bool:
        """Whether there is anything that could decode."""
        return self.exact is not None or self.tiny is not None

    def codec(self, *, tile: int | None = None, frames: int | None = None) -> Codec:
        """What encodes and decodes.

        Args:
            tile: pixels along a side of the tiles; ``None``: whole frames. The same numbers: there are no seams.
            frames: video frames at a time.

        Raises:
            UsageError: there are no weights.
        """
        there = self.exact or self.tiny
        if there is None:
            raise vae_missing()
        exact = self.exact.resident if self.exact else None
        return Codec(exact, there.device, self.tiny.resident if self.tiny else None, frames, tile)

    def release(self) -> None:
        """Let the weights go; they are read again when they are needed."""
        for one in (self.exact, self.tiny):
            if one is not None:
                one.release()


def vae_missing() -> UsageError:
    """The error for a codec that is not there."""
    return UsageError("VAE is not loaded; load models first (WanVideoVAELoader).", code="vae_missing")


def need_vae(vae: object) -> Vae:
    """A codec that can work.

    Raises:
        UsageError: none was given, its weights are not loaded, or it is something else.
    """
    if vae is None or not getattr(vae, "loaded", True):
        raise vae_missing()
    if not isinstance(vae, Vae):
        raise UsageError(
            f"The VAE is a {type(vae).__name__}; connect WanVideoVAELoader or WanVideoTinyVAELoader of this pack."
        )
    return vae


@dataclass(frozen=True, slots=True, kw_only=True)
class AttentionOverride:
    """Another attention kernel in some steps and blocks (WanVideoSetAttentionModeOverride)."""

    attention: Attention
    start_step: int = 0
    end_step: int = 10000
    """First step that has its own kernel again."""
    blocks: tuple[int, ...] | None = None
    """``None``: all."""


@dataclass(slots=True, eq=False)
class _Home:
    """Where the loaded transformer of a handle and its variants lives; one at a time."""

    key: tuple[Any, ...] = ()
    runtime: Runtime | None = None
    compiled: Compilation | None = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class WanModel:
    """A transformer and how it is to run (WANVIDEOMODEL).

    with model.at_hand(work, vae) as transformer:
        ...
    """

    opened: Checkpoint
    """With its speech branch."""
    kind: Literal["InfiniteTalk", "MultiTalk"]
    """Whose speech branch it has: decides what the mode ``auto`` of a window means."""
    settings: Settings
    """Device, precision, quantisation, attention, LoRAs, memory."""
    defaults: Defaults | None = None
    """What was measured for this model, where its own folder says so."""
    float16_sums: bool = False
    """``fp16_fast``."""
    compilation: Compilation | None = None
    overrides: tuple[AttentionOverride, ...] = ()
    options: tuple[Any, ...] = ()
    """What other nodes have put on the model, frozen values of their own; the sampler hands them to the passes."""
    fantasy_talking: Any = None
    fantasy_portrait: Any = None
    home: _Home = field(default_factory=_Home, repr=False)

    @property
    def name(self) -> str:
        """What to call it."""
        return self.opened.title

    @property
    def layers(self) -> int:
        """Blocks of the transformer."""
        return int(self.opened.config.num_layers)

    @property
    def width(self) -> int:
        """Of the stream of tokens: tells the model's size."""
        return int(self.opened.config.dim)

    @property
    def device(self) -> torch.device:
        """Where it runs."""
        return self._runtime().how.device

    @property
    def dtype(self) -> torch.dtype:
        """Of its stream."""
        return self._runtime().how.dtype

    @property
    def runs(self) -> str:
        """What runs, for people: ``"cuda, bf16, attention sdpa"``."""
        return str(self._runtime().how)

    def with_loras(self, loras: tuple[LoRA, ...]) -> WanModel:
        """The same with these LoRAs instead of those it has; checked now.

        Raises:
            CheckpointError: one does not fit.
        """
        shapes = shapes_of(self.opened.weights)
        for lora in loras:
            open_lora_beside(lora).check(shapes)
        return replace(self, settings=replace(self.settings, loras=loras))

    def with_memory(self, memory: Memory) -> WanModel:
        """The same with these blocks in host memory; weights that are loaded move, and are not read again."""
        return replace(self, settings=replace(self.settings, memory=memory))

    def plan(self, work: Work, vae: Vae | None = None) -> MemoryPlan:
        """Where everything will live, and how much the codec and the blocks take at a time.

        Raises:
            CapabilityError: it cannot fit.
            UsageError: the memory settings make no sense for this model.
        """
        runtime = self._runtime()
        codec = vae.exact.opened if vae is not None and vae.exact is not None else None
        runtime.model = replace(runtime.model, parts=_parts(self.opened, codec))
        return runtime.plan_for(replace(work, first=False))

    def lower(self, plan: MemoryPlan, work: Work) -> MemoryPlan:
        """A plan that needs less, after the memory ran out.

        Raises:
            OutOfMemoryError: there is none.
        """
        return self._runtime().lower_for(plan, replace(work, first=False))

    def short_of_memory(self) -> AbstractContextManager[list[str]]:
        """See ``Runtime.short_of_memory``."""
        return self._runtime().short_of_memory()

    @contextmanager
    def at_hand(
        self, work: Work, vae: Vae | None = None, plan: MemoryPlan | None = None
    ) -> Iterator[WanTransformer]:
        """The transformer on its device, for as long as the block lasts; it stays until ``release``.

        Args:
            work: one window, from which the memory is planned.
            vae: the codec that works in between.
            plan: of ``plan`` or ``lower``, where there is one already.

        Raises:
            CapabilityError: it cannot fit.
        """
        plan, runtime = plan or self.plan(work, vae), self._runtime()
        _log.info("%s runs on %s; %s", self.name, runtime.how, plan.reason)
        with (
            runtime.transformer(plan, _tell).at_hand() as transformer,
            float16_sums(self.float16_sums, runtime.how.device),
        ):
            self._compile(transformer, runtime.how.device, streamed=plan.blocks_to_swap > 0)
            yield transformer

    def release(self) -> None:
        """Let the weights go (``force_offload``); they are read again when they are needed."""
        if self.home.runtime is not None:
            self.home.runtime.release()
            self.home.runtime, self.home.key, self.home.compiled = None, (), None

    def _compile(self, transformer: WanTransformer, device: torch.device, *, streamed: bool) -> None:
        if self.compilation is None:
            return
        if reason := why_not_compiled(device):
            say(f"The blocks run as they are: {reason}.")
            return
        asked = for_moving_weights(self.compilation) if streamed else self.compilation
        if self.home.compiled == asked:
            return
        if asked != self.compilation:
            say("Blocks are streamed from host memory, and so are compiled without recorded graphs.")
        compile_blocks(transformer.blocks.children(), asked)
        self.home.compiled = asked

    def _runtime(self) -> Runtime:
        """The runtime of these weights: the one that is there, or a new one in its place."""
        key = (
            self.opened,
            replace(self.settings, memory=Memory()),
            self.compilation,
        )
        home = self.home
        if home.runtime is None or home.key != key:
            self.release()
            loras = tuple(open_lora_beside(lora) for lora in self.settings.loras)
            model = Model(
                name=self.name,
                version=f"{self.opened.dialect}, {self.opened.precision}",
                defaults=self.defaults or OFFICIAL,
                identity={"name": self.name},
                parts=_parts(self.opened, None),
                loras=loras,
            )
            how = effective(self.settings, gguf=model.gguf, head_dim=self.opened.config.head_dim)
            for note in (*how.notes, *self.opened.notes):
                say(note)
            home.runtime, home.key = Runtime(self.settings, model, how, people=1), key
        home.runtime.settings = self.settings
        return home.runtime


def _parts(transformer: Checkpoint, vae: Checkpoint | None) -> dict[Part, Checkpoint]:
    parts = {Part.TRANSFORMER: transformer}
    return parts if vae is None else parts | {Part.VAE: vae}


def _tell(event: Progress) -> None:
    """Loading, to the log and to the host."""
    if event.note:
        say(event.note)
    host().listen(event)


def need_model(model: object) -> WanModel:
    """A transformer of this pack.

    Raises:
        UsageError: it is something else.
    """
    if not isinstance(model, WanModel):
        said = "None" if model is None else f"a {type(model).__name__}"
        raise UsageError(
            f"The model is {said}; connect WanVideoModelLoader of this pack.", code="model_missing"
        )
    return model
