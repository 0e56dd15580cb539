"""From the dictionaries that adapters' nodes make to what acts in each window of a run (``denoise/adapters``).

``adapters_of`` gives the sampler one object for each that is connected and not turned off; ``for_window`` of it makes
the extras of one window. What is put on the passes is there for the whole window, in context windows for their part.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch

from infinite_talk.denoise.adapters import GuideVideo, Heard, Poses, WindowExtras, fitted, frames_from
from infinite_talk.denoise.guidance import Branch
from infinite_talk.errors import CheckpointError, UsageError
from infinite_talk.models.adapters import FantasyPortrait, FantasyTalking, Uni3C
from infinite_talk.models.adapters.frames import lengths_of
from infinite_talk.models.dit import DiTConfig, WanTransformer
from infinite_talk.nodes.declare import known_keys
from infinite_talk.nodes.handles import WanModel
from infinite_talk.nodes.networks import AdapterModel, need_network
from infinite_talk.sampling import Share
from infinite_talk.types import SPATIAL_STRIDE, TEMPORAL_STRIDE, Guide, Window
from infinite_talk.weights.adapters import open_uni_animate, pose_keys

Args = Mapping[str, Any]
POSE_KEYS = ("pose", "ref", "strength", "start_percent", "end_percent")
TALKING_KEYS = ("audio_proj", "audio_context_lens", "audio_scale", "audio_cfg_scale")
PORTRAIT_KEYS = ("adapter_proj", "strength", "start_percent", "end_percent", "cfg_scale")
GUIDE_KEYS = (
    *("controlnet", "controlnet_weight", "start", "end", "render_latent", "render_mask"),
    *("camera_embedding", "offload"),
)
_SPEECHLESS = frozenset({Branch.UNCOND, Branch.DROP_AUDIO})
_FACELESS = frozenset({Branch.DROP_FACE})


class Adapter(Protocol):
    """Something that a run puts on the passes of each window."""

    def for_window(self, window: Window, guide: Guide, transformer: WanTransformer) -> WindowExtras:
        """What it puts on the passes of one window."""
        ...


def adapters_of(
    model: WanModel,
    *,
    unianimate_poses: Args | None = None,
    fantasytalking_embeds: Args | None = None,
    portrait_embeds: Args | None = None,
    uni3c_embeds: Args | None = None,
    video: torch.Tensor | None = None,
    encode: Callable[[torch.Tensor], torch.Tensor] | None = None,
) -> tuple[Adapter, ...]:
    """What the connected adapters do in each window.

    Args:
        video: frames ``(3, F, H, W)`` in [-1, 1] of the start image, which guide Uni3C in a long video.
        encode: frames to latents ``(16, T, h, w)``, with ``video``.

    Raises:
        UsageError: a dictionary has unknown keys, or the network that it needs is not loaded.
        CheckpointError: a network is for another transformer.
        InputError: something has the wrong shape (also while the windows are made).
    """
    config: DiTConfig = model.opened.config
    found: list[Adapter] = []
    if unianimate_poses is not None:
        known_keys("unianimate_poses", unianimate_poses, POSE_KEYS)
        found.append(_Posing(unianimate_poses, _pose_file(model)))
    if fantasytalking_embeds is not None:
        found.append(_talking(fantasytalking_embeds, model.fantasy_talking, config))
    if portrait_embeds is not None:
        found.append(_following(portrait_embeds, model.fantasy_portrait, config))
    if uni3c_embeds is not None:
        found.append(_guided(uni3c_embeds, config, video, encode))
    return tuple(found)


def face_scales(portrait_embeds: Args | None) -> tuple[tuple[float, ...], Share]:
    """The scale of the followed face at each step, and in which share of them: ``face`` and ``face_share`` of
    ``GuidanceChoice``."""
    if portrait_embeds is None:
        return (1.0,), Share()
    known_keys("portrait_embeds", portrait_embeds, PORTRAIT_KEYS)
    return _numbers(portrait_embeds.get("cfg_scale", 1.0)), _share(portrait_embeds)


def audio_scales_with(own: Sequence[float] | None, fantasytalking_embeds: Args | None) -> tuple[float, ...]:
    """The audio guidance of a run with two voices; each adapter keeps its own ``audio_scale``.

    Args:
        own: that of ``multitalk_embeds``; ``None``: there are none.

    Raises:
        UsageError: both ask for guidance, differently: a pass without speech is without either.
    """
    other = (1.0,)
    if fantasytalking_embeds is not None:
        known_keys("fantasytalking_embeds", fantasytalking_embeds, TALKING_KEYS)
        other = _numbers(fantasytalking_embeds.get("audio_cfg_scale", 1.0))
    if own is None or all(math.isclose(scale, 1.0) for scale in own):
        return other
    if tuple(own) != other and not all(math.isclose(scale, 1.0) for scale in other):
        raise UsageError(
            f"audio_cfg_scale is {_said(own)} in multitalk_embeds and {_said(other)} in fantasytalking_embeds, and one "
            "pass without speech serves both. Give the same scale, or leave one at 1."
        )
    return tuple(own)


@dataclass(frozen=True, slots=True, eq=False)
class _Posing:
    """UniAnimate."""

    asked: Args
    file: Path

    def for_window(self, window: Window, guide: Guide, transformer: WanTransformer) -> WindowExtras:
        latents, height, width = guide.reference.shape[1:]
        patches = transformer.patch_embedding.weight
        network = open_uni_animate(self.file, transformer.dtype, device=patches.device)  # some megabytes
        _fits(network.config.dim, transformer.config, self.file.name)
        poses = Poses(
            network,
            self.asked["pose"],
            patches=patches,
            size=(height * SPATIAL_STRIDE, width * SPATIAL_STRIDE),
            reference=self.asked.get("ref"),
            strength=float(self.asked.get("strength", 1.0)),
            share=_share(self.asked),
        )
        return poses.for_window(first_latent(window), latents)


@dataclass(frozen=True, slots=True, eq=False)
class _Hearing:
    """FantasyTalking or FantasyPortrait."""

    network: FantasyTalking | FantasyPortrait
    features: torch.Tensor
    lengths: torch.Tensor | None
    scale: float
    share: Share
    dropped: frozenset[Branch]

    def for_window(self, window: Window, guide: Guide, transformer: WanTransformer) -> WindowExtras:
        heard = Heard(
            self.network,
            self.features,
            heads=transformer.config.num_heads,
            like=transformer.patch_embedding.weight,
            lengths=self.lengths,
            scale=self.scale,
            share=self.share,
            dropped=self.dropped,
        )
        return heard.for_window(first_latent(window), guide.reference.shape[1])


@dataclass(frozen=True, slots=True, eq=False)
class _Guiding:
    """Uni3C."""

    network: Uni3C
    strength: float
    share: Share
    offload: bool
    shown: Callable[[Window, Guide], torch.Tensor]
    """The encoded guide of a window, ``(16, T, h, w)``."""

    def for_window(self, window: Window, guide: Guide, transformer: WanTransformer) -> WindowExtras:
        video = GuideVideo(
            self.network,
            embed_time=lambda times: transformer.embed_time(times)[0],
            strength=self.strength,
            share=self.share,
            offload=self.offload,
        )
        return video.for_window(self.shown(window, guide), guide.reference[:4])


def first_latent(window: Window) -> int:
    """Which latent frame of the whole video is the first of a window: that of its first frame."""
    return -(-window.start // TEMPORAL_STRIDE)


def _pose_file(model: WanModel) -> Path:
    found = next((lora.path for lora in model.settings.loras if pose_keys(lora.path)), None)
    if found is None:
        raise UsageError(
            "unianimate_poses needs UniAnimate, a LoRA with a pose network in it, and no LoRA of the model has one. Load "
            "it with WanVideoLoraSelect, and connect it to WanVideoModelLoader."
        )
    return found


def _talking(asked: Args, model: object, config: DiTConfig) -> Adapter:
    known_keys("fantasytalking_embeds", asked, TALKING_KEYS)
    network = _loaded(model, FantasyTalking, "fantasytalking", "FantasyTalkingModelLoader")
    _fits(network.config.dim, config, "FantasyTalking")
    scale, lengths = float(asked.get("audio_scale", 1.0)), asked.get("audio_context_lens")
    return _Hearing(network, asked["audio_proj"], lengths, scale, Share(), _SPEECHLESS)


def _following(asked: Args, model: object, config: DiTConfig) -> Adapter:
    known_keys("portrait_embeds", asked, PORTRAIT_KEYS)
    network = _loaded(model, FantasyPortrait, "fantasyportrait", "FantasyPortraitModelLoader")
    _fits(network.config.dim, config, "FantasyPortrait")
    features = asked["adapter_proj"]
    # The dictionary does not say which of the features only fill up; it follows from how they are dealt out.
    frames = TEMPORAL_STRIDE * (features.shape[1] - 1) + 1
    lengths = lengths_of(frames * network.config.tokens, frames)
    scale, share = float(asked.get("strength", 1.0)), _share(asked)
    return _Hearing(network, features, lengths, scale, share, _FACELESS)


def _guided(
    asked: Args,
    config: DiTConfig,
    video: torch.Tensor | None,
    encode: Callable[[torch.Tensor], torch.Tensor] | None,
) -> Adapter:
    known_keys("uni3c_embeds", asked, GUIDE_KEYS)
    model = asked["controlnet"]
    need_network(model, Uni3C, "controlnet of uni3c_embeds", "WanVideoUni3C_ControlnetLoader")
    network: Uni3C = model.network
    _fits(network.config.out_dim, config, model.title)
    return _Guiding(
        network=network,
        strength=float(asked.get("controlnet_weight", 1.0)),
        share=Share(start=float(asked.get("start", 0.0)), end=float(asked.get("end", 1.0))),
        offload=bool(asked.get("offload", True)),
        shown=_shown(asked.get("render_latent"), video, encode),
    )


def _shown(
    render: torch.Tensor | None,
    video: torch.Tensor | None,
    encode: Callable[[torch.Tensor], torch.Tensor] | None,
) -> Callable[[Window, Guide], torch.Tensor]:
    """The guide of each window: in a long video the start image's frames of that time; else the encoded video.

    A long video whose start image is one picture takes its part of the encoded video instead, if there is one.
    """
    if video is not None and encode is not None and (video.shape[1] > 1 or render is None):

        def frames(window: Window, guide: Guide) -> torch.Tensor:  # noqa: ARG001
            return encode(frames_from(video, window.start, window.frames))

        return frames
    if render is None:
        raise UsageError(
            "uni3c_embeds has nothing to follow. Connect the encoded guide video to render_latent of "
            "WanVideoUni3C_embeds, or in a long video the whole guide video as start_image."
        )
    whole = render[0]  # (16, T, h, w)

    def part(window: Window, guide: Guide) -> torch.Tensor:
        latents, height, width = guide.reference.shape[1:]
        if video is None:
            return fitted(whole, (latents, height, width))
        resized = fitted(whole, (whole.shape[1], height, width))
        return frames_from(resized, first_latent(window), latents)

    return part


def _loaded(model: object, network: type[Any], what: str, loader: str) -> Any:  # noqa: ANN401
    if model is None:
        raise UsageError(
            f"{what} embeds need the adapter in the model: connect {loader} to {what}_model of WanVideoModelLoader."
        )
    need_network(model, network, f"{what}_model", loader)
    assert isinstance(model, AdapterModel)
    return model.network


def _fits(width: int, config: DiTConfig, what: str) -> None:
    if width != config.dim:
        raise CheckpointError(
            f"{what} is for a transformer of width {width}; this one has {config.dim}. Take the two for the same model.",
            code="checkpoint_mismatch",
        )


def _share(asked: Args) -> Share:
    return Share(start=float(asked.get("start_percent", 0.0)), end=float(asked.get("end_percent", 1.0)))


def _numbers(scales: float | Sequence[float]) -> tuple[float, ...]:
    return (float(scales),) if isinstance(scales, (int, float)) else tuple(map(float, scales))


def _said(scales: Sequence[float]) -> str:
    return ", ".join(f"{scale:g}" for scale in scales)
