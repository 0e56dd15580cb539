"""From opened files to ``Rooms``: each model in its place and precision, built when it is needed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import nn

from infinite_talk.effective import Effective
from infinite_talk.memory.planner import MemoryPlan
from infinite_talk.memory.streaming import BlockStream, stream_blocks
from infinite_talk.models.dit import WanTransformer
from infinite_talk.models.speech import SpeechEncoder
from infinite_talk.models.speech import keys as speech_keys
from infinite_talk.models.text import TextEncoder
from infinite_talk.models.text import keys as text_keys
from infinite_talk.models.tiny_vae import TinyVAE
from infinite_talk.models.tiny_vae import keys as tiny_vae_keys
from infinite_talk.models.vae import VideoVAE
from infinite_talk.models.vae import keys as vae_keys
from infinite_talk.models.vision import ImageEncoder
from infinite_talk.models.vision import keys as vision_keys
from infinite_talk.ops.linear.gguf import Q8_0
from infinite_talk.rooms import Resident, Rooms
from infinite_talk.weights.builder import Store, build
from infinite_talk.weights.checkpoint import Checkpoint, Part
from infinite_talk.weights.lora import Merging, attach
from infinite_talk.weights.model import Model
from infinite_talk.weights.reader import shapes_of

CPU = torch.device("cpu")
_DTYPES = {
    Part.VAE: vae_keys.DTYPE,
    Part.TINY_VAE: tiny_vae_keys.DTYPE,
    Part.TEXT: text_keys.DTYPE,
    Part.VISION: vision_keys.DTYPE,
    Part.SPEECH: speech_keys.DTYPE,
}
"""What each published model but the transformer runs in; see there for the reasons."""


class Assembly:
    """One model on one machine. What is built stays for the next run; plans may change between runs."""

    def __init__(self, model: Model, how: Effective, say: Callable[[str], None]) -> None:
        """``say`` hears one line for each thing that a person should know."""
        self.model, self.how, self._say = model, how, say
        self._plan: MemoryPlan | None = None
        self._stream: BlockStream | None = None
        self._transformer = Resident(self._build_transformer, keep=True)
        self._others = {part: Resident(self._maker(part), keep=True) for part in model.parts if part in _DTYPES}

    def rooms(self, plan: MemoryPlan) -> Rooms:
        """The models under a plan; the transformer that is there adapts to it without being read again."""
        self._plan = plan
        for resident in self._others.values():
            resident.keep = plan.keep_encoders
            if not plan.keep_encoders:
                resident.release()
        if self._stream is not None:
            self._stream.swap(plan.blocks_to_swap, plan.prefetch_blocks)
            with self._transformer.at_hand() as transformer:
                transformer.rows_at_once = plan.rows_at_once
        others = self._others
        return Rooms(
            transformer=self._transformer,
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
        )

    def release(self) -> None:
        """Let all models go."""
        self._stream = None
        for resident in (self._transformer, *self._others.values()):
            resident.release()

    def _build_transformer(self) -> WanTransformer:
        how, plan, opened = self.how, self._plan, self.model.parts[Part.TRANSFORMER]
        assert plan is not None
        shapes = shapes_of(opened.weights)
        merged = [lora for lora in self.model.loras if lora.merge]
        policy: Store = how.policy
        merging = Merging(merged, policy, shapes, fallback=Q8_0) if merged else None
        transformer = build(
            lambda: WanTransformer(opened.config, attention=how.attention.kernel),
            opened.weights,
            dtype=how.dtype,
            device=how.device,
            source=opened.title,
            policy=merging or policy,
        )
        if beside := [lora for lora in self.model.loras if not lora.merge]:
            attach(transformer, beside)
        for note in merging.notes if merging else ():
            self._say(note)
        transformer.rows_at_once = plan.rows_at_once
        if how.device.type == "cuda":
            self._stream = stream_blocks(transformer, plan.blocks_to_swap, plan.prefetch_blocks, how.device)
        return transformer

    def _maker(self, part: Part) -> Callable[[], nn.Module]:
        return lambda: self._build(part)

    def _build(self, part: Part) -> nn.Module:
        opened, plan = self.model.parts[part], self._plan
        assert plan is not None
        device = CPU if part is Part.TEXT and plan.text_on_host else self.how.device
        return build(
            lambda: _module(part, opened, self.model),
            opened.weights,
            dtype=_dtype(part, opened, device),
            device=device,
            source=opened.title,
        )


def _module(part: Part, opened: Checkpoint, model: Model) -> nn.Module:
    if part is Part.TEXT:
        return TextEncoder(opened.config, model.tokenizer)
    kinds: dict[Part, Callable[[object], nn.Module]] = {
        Part.VAE: VideoVAE,
        Part.TINY_VAE: TinyVAE,
        Part.VISION: ImageEncoder,
        Part.SPEECH: SpeechEncoder,
    }
    return kinds[part](opened.config)


def _dtype(part: Part, opened: Checkpoint, device: torch.device) -> torch.dtype:
    """Bundles are small and exact; a CPU is slow in float16."""
    if opened.dialect == "bundle" or (device.type == "cpu" and _DTYPES[part] is torch.float16):
        return torch.float32
    return _DTYPES[part]
