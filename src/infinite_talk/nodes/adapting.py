"""The sampler's adapter inputs become what is put on the passes of each window: poses, a guide, a voice, a face.

``unianimate_poses``, ``uni3c_embeds`` and ``fantasytalking_embeds`` of the sampler, ``portrait_embeds`` beside the
picture. Positions in a video are latent frames; a window of the MultiTalk loop takes its part.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from infinite_talk.denoise.adapters import GuideVideo, Heard, Poses, WindowExtras, fitted, frames_from
from infinite_talk.denoise.guidance import Branch
from infinite_talk.errors import UsageError
from infinite_talk.models.adapters import UniAnimateConfig, uni_animate
from infinite_talk.models.dit import WanTransformer
from infinite_talk.nodes.declare import known_keys
from infinite_talk.nodes.handles import WanModel
from infinite_talk.nodes.numbers import scales
from infinite_talk.nodes.walking import Adapter
from infinite_talk.rooms import Codec
from infinite_talk.sampling import Share
from infinite_talk.types import TEMPORAL_STRIDE, Guide, Size, Window, latent_frames
from infinite_talk.weights.adapters import open_uni_animate, pose_config

POSE_KEYS = ("pose", "ref", "strength", "start_percent", "end_percent")
VOICE_KEYS = ("audio_proj", "audio_context_lens", "audio_scale", "audio_cfg_scale")
FACE_KEYS = ("adapter_proj", "strength", "start_percent", "end_percent", "cfg_scale")
GUIDE_KEYS = (
    "controlnet",
    "controlnet_weight",
    "start",
    "end",
    "render_latent",
    "render_mask",
    "camera_embedding",
    "offload",
)
SILENT = frozenset({Branch.UNCOND, Branch.DROP_AUDIO})
FACELESS = frozenset({Branch.DROP_FACE})
MAX_SCALE = 100.0
Given = Mapping[str, Any]


def adapters_of(
    values: Given,
    image_embeds: Given,
    model: WanModel,
    size: Size,
    pictures: torch.Tensor | None,
    codec: Callable[[], Codec] | None,
) -> tuple[Adapter, ...]:
    """The adapters that the arguments ask for.

    Args:
        pictures: ``(n, 3, H, W)``, the start images of the MultiTalk loop: one for each window, or with Uni3C the whole
            guide video.
        codec: gives what encodes them.

    Raises:
        UsageError: what an adapter needs is not connected.
    """
    found: list[Adapter] = []
    if (poses := values["unianimate_poses"]) is not None:
        known_keys("unianimate_poses", poses, POSE_KEYS)
        found.append(_Posed(poses, model, size))
    if (voice := values["fantasytalking_embeds"]) is not None:
        known_keys("fantasytalking_embeds", voice, VOICE_KEYS)
        found.append(_voice(voice, model))
    if (face := image_embeds.get("portrait_embeds")) is not None:
        known_keys("portrait_embeds", face, FACE_KEYS)
        found.append(_face(face, model))
    if (guide := values["uni3c_embeds"]) is not None:
        known_keys("uni3c_embeds", guide, GUIDE_KEYS)
        found.append(_Guided(guide, pictures, codec))
    return tuple(found)


def voice_scale(fantasytalking_embeds: Given | None) -> tuple[float, ...]:
    """Its ``audio_cfg_scale``."""
    given = 1.0 if fantasytalking_embeds is None else fantasytalking_embeds.get("audio_cfg_scale", 1.0)
    return scales("audio_cfg_scale of fantasytalking_embeds", given, MAX_SCALE)


def face_scale(portrait_embeds: Given | None) -> tuple[tuple[float, ...], Share]:
    """``portrait_cfg`` of WanVideoAddFantasyPortrait, and when it acts."""
    if portrait_embeds is None:
        return (1.0,), Share()
    return scales("portrait_cfg", portrait_embeds.get("cfg_scale", 1.0), MAX_SCALE), _share(portrait_embeds)


def _share(given: Given, start: str = "start_percent", end: str = "end_percent") -> Share:
    return Share(start=float(given.get(start, 0.0)), end=float(given.get(end, 1.0)))


@dataclass(slots=True)
class _Posed:
    """UniAnimate: its network lies in a LoRA file, and is read when the first window is made."""

    given: Given
    model: WanModel
    size: Size
    _made: Poses | None = None

    @property
    def weights(self) -> int:
        _, config = self._file()
        return uni_animate.weight_count(config) * self.model.dtype.itemsize

    def before(self, latents: int) -> int:
        _, config = self._file()
        size, width = (self.size.height, self.size.width), self.model.dtype.itemsize
        return uni_animate.embedding_bytes(
            config, size, latents, width, reference=self.given.get("ref") is not None
        )

    def for_window(self, window: Window, guide: Guide, transformer: WanTransformer) -> WindowExtras:  # noqa: ARG002
        if self._made is None:
            self._made = self._poses(transformer)
        return self._made.for_window(window.start // TEMPORAL_STRIDE, latent_frames(window.frames))

    def _file(self) -> tuple[Path, UniAnimateConfig]:
        """The LoRA file that holds the network, and its sizes."""
        for lora in self.model.settings.loras:
            if (config := pose_config(lora.path)) is not None:
                return lora.path, config
        raise UsageError(
            "unianimate_poses need the pose network of UniAnimate, which lies in its LoRA file "
            "(UniAnimate-Wan2.1-14B-Lora...): connect it to lora of WanVideoModelLoader."
        )

    def _poses(self, transformer: WanTransformer) -> Poses:
        patches = transformer.patch_embedding.weight
        path, _ = self._file()
        network = open_uni_animate(path, patches.dtype, device=patches.device)
        reference = self.given.get("ref")
        return Poses(
            network,
            self.given["pose"],  # where they are: the network takes some frames at a time
            patches=patches,
            size=(self.size.height, self.size.width),
            reference=reference,
            strength=float(self.given.get("strength", 1.0)),
            share=_share(self.given),
        )


@dataclass(frozen=True, slots=True)
class _Listened:
    """FantasyTalking and FantasyPortrait: features by latent frame, beside text and picture."""

    network: Any
    features: torch.Tensor
    how: Given

    @property
    def weights(self) -> int:
        return weights_of(self.network)

    def before(self, latents: int) -> int:  # noqa: ARG002 - features are small, and so are the keys of one block
        return 0

    def for_window(self, window: Window, guide: Guide, transformer: WanTransformer) -> WindowExtras:  # noqa: ARG002
        heard = Heard(
            self.network,
            self.features,
            heads=transformer.config.num_heads,
            like=transformer.patch_embedding.weight,
            **self.how,
        )
        return heard.for_window(window.start // TEMPORAL_STRIDE, latent_frames(window.frames))


def _voice(given: Given, model: WanModel) -> _Listened:
    """The voice has a scale of its own, also beside MultiTalk's. (The node pack writes MultiTalk's over it.)"""
    if model.fantasy_talking is None:
        raise UsageError(
            "fantasytalking_embeds need the network: connect FantasyTalkingModelLoader to fantasytalking_model of "
            "WanVideoModelLoader."
        )
    how = {
        "lengths": given.get("audio_context_lens"),
        "scale": float(given.get("audio_scale", 1.0)),
        "dropped": SILENT,
    }
    return _Listened(model.fantasy_talking.network, given["audio_proj"], how)


def _face(given: Given, model: WanModel) -> _Listened:
    if model.fantasy_portrait is None:
        raise UsageError(
            "portrait_embeds need the network: connect FantasyPortraitModelLoader to fantasyportrait_model of "
            "WanVideoModelLoader."
        )
    network, features = model.fantasy_portrait.network, given["adapter_proj"]
    how = {
        # The dictionary does not say which features only fill up; it follows from how they are dealt out.
        "lengths": network.lengths(features.shape[1]),
        "scale": float(given.get("strength", 1.0)),
        "share": _share(given),
        "dropped": FACELESS,
    }
    return _Listened(network, features, how)


@dataclass(slots=True)
class _Guided:
    """Uni3C: in the MultiTalk loop it follows ``render_latent`` if there is one, else the batch of start images.

    There each window's frames are encoded anew: the first latent of a window stands for one frame, in the latents of
    a long video only the first of all does.
    """

    given: Given
    pictures: torch.Tensor | None
    codec: Callable[[], Codec] | None
    _decoded: torch.Tensor | None = None

    @property
    def weights(self) -> int:
        return weights_of(self.given["controlnet"].network)

    def before(self, latents: int) -> int:  # noqa: ARG002 - it works beside the blocks, and is counted there
        return 0

    def for_window(self, window: Window, guide: Guide, transformer: WanTransformer) -> WindowExtras:
        if self.given.get("render_mask") is not None:
            raise UsageError("Uni3C is not told about masks; leave render_mask of uni3c_embeds away.")
        video = GuideVideo(
            self.given["controlnet"].network,
            embed_time=lambda time: transformer.embed_time(time)[0],
            strength=float(self.given.get("controlnet_weight", 1.0)),
            share=_share(self.given, "start", "end"),
            offload=bool(self.given.get("offload", True)),
        )
        frames, height, width = guide.reference.shape[1:]
        encoded = fitted(self._encoded(window), (frames, height, width))
        return video.for_window(encoded.to(guide.reference), guide.reference[:4])

    def _encoded(self, window: Window) -> torch.Tensor:
        """The guide in a window ``(16, t, h, w)``."""
        rendered = self.given.get("render_latent")
        if self.pictures is None or self.codec is None:
            if rendered is None:
                raise UsageError("uni3c_embeds has no render_latent: encode the guide video and connect it.")
            return _latents(rendered)
        video = self.pictures.transpose(0, 1) if rendered is None else self._frames(rendered, self.codec())
        return self.codec().encode_video(frames_from(video, window.start, window.frames))

    def _frames(self, rendered: torch.Tensor, codec: Codec) -> torch.Tensor:
        """The guide video ``(3, F, H, W)``, decoded once; in half of the bytes, since it may be long."""
        if self._decoded is None:
            self._decoded = codec.decode_video(_latents(rendered)).to("cpu", torch.float16)
        return self._decoded


def weights_of(network: nn.Module) -> int:
    """Bytes of a network's weights."""
    return sum(parameter.nbytes for parameter in network.parameters())


def _latents(rendered: torch.Tensor) -> torch.Tensor:
    """``(16, t, h, w)``, with or without a batch of one."""
    latents: torch.Tensor = rendered[0] if rendered.dim() == 5 else rendered
    return latents


def tell(values: Given, portrait_embeds: Given | None, speaks: bool) -> Sequence[str]:
    """A line for what has no effect."""
    notes = []
    if speaks and voice_scale(values["fantasytalking_embeds"]) != (1.0,):
        notes.append(
            "audio_cfg_scale of fantasytalking_embeds has no effect beside multitalk_embeds, whose scale guides both."
        )
    if portrait_embeds is not None and not portrait_embeds.get("strength", 1.0):
        notes.append("FantasyPortrait is off: its strength is 0.")
    return notes
