"""What the dicts between the nodes say, checked once: ``image_embeds``, ``text_embeds``, ``samples``.

Scripts build them by hand, so the keys are the node pack's, and what comes is looked at closely.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from infinite_talk.denoise.start import Start
from infinite_talk.errors import CapabilityError, UsageError
from infinite_talk.inputs.resize import TOKEN_STRIDE
from infinite_talk.nodes.declare import known_keys, listed
from infinite_talk.sampling import NormalisedAttention
from infinite_talk.types import SPATIAL_STRIDE, TEMPORAL_STRIDE, Size

Embeds = Mapping[str, Any]
Mode = Literal["multitalk", "infinitetalk"]

LATENT_CHANNELS = 16


@dataclass(frozen=True, slots=True, eq=False)
class Talk:
    """What WanVideoImageToVideoMultiTalk says: one long video, made window by window."""

    pictures: torch.Tensor  # (n, 3, H, W) in [-1, 1]: window k starts from picture k, the last one stays
    size: Size
    frames: int  # F, of a window, 4n + 1
    motion: int  # M, shared by neighbours, 4n + 1
    mode: Mode
    image: torch.Tensor  # (257, D), or (0, D) without CLIP features
    colours: str  # see ``media/colour_transfer.py``
    codec: Any  # the handle of the VAE
    tiled: bool
    rest: bool  # the transformer leaves while frames are decoded
    output: Path | None  # folder of the pictures; ``None``: the video stays in memory
    negative_image: torch.Tensor | None = None  # (257, D): beside the negative prompt; ``None``: ``image``


@dataclass(frozen=True, slots=True, eq=False)
class Texts:
    """What WanVideoTextEncode says."""

    prompts: tuple[torch.Tensor, ...]  # each (L, D)
    negative: torch.Tensor  # (L, D)
    nag: torch.Tensor | None = None  # (L, D): what NAG leads away from
    nag_numbers: NormalisedAttention | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Samples:
    """Latents that come in as ``samples``."""

    latents: torch.Tensor  # (16, t, h, w)
    mask: torch.Tensor | None  # (1, t or 1, h, w) in 0..1: how much may change
    add_noise: bool  # mixed with the noise of the first step; else walked as they are
    original: torch.Tensor | None = None  # (16, t, h, w): what the mask leaves alone; ``None``: ``latents``
    state: torch.Tensor | None = None  # of a generator: the noise between the steps goes on from it
    idle: tuple[str, ...] = ()  # keys that say something here without an effect

    def start(self, noise: torch.Tensor) -> Start:
        """The start of one walk over all of it."""
        return Start(noise, self.latents, self.add_noise, self.mask, self.original)


TALK_KEYS = (
    "multitalk_sampling",
    "multitalk_start_image",
    "frame_window_size",
    "motion_frame",
    "target_h",
    "target_w",
    "tiled_vae",
    "force_offload",
    "colormatch",
    "vae",
    "target_shape",
    "clip_context",
    "negative_clip_context",
    "multitalk_mode",
    "output_path",
    "multitalk_embeds",
    "portrait_embeds",
    "extra_latents",
    "audio_guide_scale",
    "pusa_noise_multipliers",
    "pusa_noisy_steps",
)


def talk_of(image_embeds: Embeds, kind: Mode, clip_dim: int) -> Talk:
    """Read ``image_embeds`` of WanVideoImageToVideoMultiTalk.

    Args:
        kind: of the loaded adapter; what the mode ``auto`` means.
        clip_dim: width of CLIP features.

    Raises:
        UsageError: a key is unknown or missing, or a value cannot be used.
    """
    mode = _mode(image_embeds.get("multitalk_mode", "auto"), kind)
    known_keys("image_embeds", image_embeds, TALK_KEYS)
    if image_embeds.get("extra_latents"):
        raise UsageError(
            "extra_latents have no place in the MultiTalk loop, whose windows begin with frames of their own. Use "
            "WanVideoImageToVideoEncode with them, or leave them away."
        )
    if image_embeds.get("pusa_noise_multipliers"):
        raise UsageError(
            "pusa_noise_multipliers are for extra_latents, which have no place in the MultiTalk loop, whose "
            "motion frames are clean. Leave WanVideo Add Pusa Noise away."
        )
    if missing := [
        key
        for key in ("frame_window_size", "motion_frame", "target_h", "target_w")
        if key not in image_embeds
    ]:
        raise UsageError(f"image_embeds misses {listed(missing)}; WanVideoImageToVideoMultiTalk gives them.")
    size = _size(int(image_embeds["target_h"]), int(image_embeds["target_w"]))
    output = str(image_embeds.get("output_path") or "")
    return Talk(
        pictures=_pictures(image_embeds.get("multitalk_start_image"), size),
        size=size,
        frames=_step_of_four(int(image_embeds["frame_window_size"])),
        motion=_step_of_four(int(image_embeds["motion_frame"])),
        mode=mode,
        image=clip_features(image_embeds.get("clip_context"), clip_dim),
        colours=image_embeds.get("colormatch", "disabled"),
        codec=image_embeds.get("vae"),
        tiled=bool(image_embeds.get("tiled_vae", False)),
        rest=bool(image_embeds.get("force_offload", False)),
        output=Path(output) if output else None,
        negative_image=negative_clip(image_embeds, clip_dim),
    )


def _size(height: int, width: int) -> Size:
    """The size of a video, which the transformer sees in cells of 16 pixels."""
    side = SPATIAL_STRIDE * TOKEN_STRIDE
    if height % side or width % side:
        near = " x ".join(str(max(side, round(value / side) * side)) for value in (width, height))
        raise UsageError(
            f"The video is {width} x {height}; width and height must be multiples of {side}. The nearest is {near}."
        )
    return Size(height, width)


def _step_of_four(frames: int) -> int:
    """The most frames of the form 4n + 1 that are not more; the codec drops the others."""
    return (max(1, frames) - 1) // TEMPORAL_STRIDE * TEMPORAL_STRIDE + 1


def _mode(mode: str, kind: Mode) -> Mode:
    if mode == "auto":
        return kind
    if mode == "multitalk":
        return "multitalk"
    if mode == "infinitetalk":
        return "infinitetalk"
    if mode == "skyreelsv3":
        raise CapabilityError("SkyReels V3 sampling is not offered; use mode infinitetalk or multitalk.")
    raise UsageError(f"multitalk_mode is {mode!r}; choose auto, multitalk or infinitetalk.")


def _pictures(start: torch.Tensor | None, size: Size) -> torch.Tensor:
    """``(1, 3, n, H, W)``, or without the batch, as ``(n, 3, H, W)``."""
    if start is None:
        raise UsageError(
            "image_embeds has no start image; connect start_image of WanVideoImageToVideoMultiTalk."
        )
    pictures = start[0] if start.dim() == 5 else start
    if pictures.dim() != 4 or pictures.shape[0] != 3 or pictures.shape[2:] != (size.height, size.width):
        raise UsageError(
            f"multitalk_start_image has the shape {tuple(start.shape)}; it must be (1, 3, n, {size.height}, "
            f"{size.width}) with values from -1 to 1."
        )
    return pictures.transpose(0, 1).float()


def clip_features(clip: torch.Tensor | None, width: int) -> torch.Tensor:
    """CLIP features ``(L, D)``; without any, none, and the picture is then told by the latents alone.

    Raises:
        UsageError: features of another encoder.
    """
    if clip is None:
        return torch.zeros(0, width)
    if clip.shape[-1] != width:
        raise UsageError(
            f"clip_embeds are {clip.shape[-1]} wide, the model takes {width}; use its CLIP encoder."
        )
    return clip.reshape(-1, width)


def negative_clip(image_embeds: Embeds, width: int) -> torch.Tensor | None:
    """CLIP features of the negative picture ``(L, D)``, which is seen with the negative prompt."""
    given = image_embeds.get("negative_clip_context")
    return None if given is None else clip_features(given, width)


# Texts and latents

TEXT_KEYS = (
    "prompt_embeds",
    "negative_prompt_embeds",
    "echoshot",
    "nag_prompt_embeds",
    "nag_params",
    "prompts",
)


def texts_of(text_embeds: Embeds | None, width: int) -> Texts:
    """Read ``text_embeds``; ``None`` is an empty text, for both prompts.

    Raises:
        UsageError: a key is unknown, or a text is of another encoder.
    """
    values = {} if text_embeds is None else text_embeds
    known_keys("text_embeds", values, TEXT_KEYS)
    prompts = _texts("prompt_embeds", values.get("prompt_embeds"), width)
    negative = _texts("negative_prompt_embeds", values.get("negative_prompt_embeds"), width)
    nag = _texts("nag_prompt_embeds", values.get("nag_prompt_embeds"), width)
    if values.get("nag_params") and not nag:
        raise UsageError(
            "text_embeds has nag_params and no nag_prompt_embeds to lead away from; WanVideoApplyNAG gives both."
        )
    none = torch.zeros(0, width)
    return Texts(
        prompts or (none,),
        negative[0] if negative else none,
        nag[0] if nag else None,
        _nag_numbers(values.get("nag_params") or {}) if nag else None,
    )


def _nag_numbers(given: Embeds) -> NormalisedAttention:
    known_keys("nag_params", given, ("nag_scale", "nag_tau", "nag_alpha", "inplace"))
    plain = NormalisedAttention()
    return NormalisedAttention(
        scale=float(given.get("nag_scale", plain.scale)),
        tau=float(given.get("nag_tau", plain.tau)),
        alpha=float(given.get("nag_alpha", plain.alpha)),
    )


def _texts(what: str, given: Any, width: int) -> tuple[torch.Tensor, ...]:  # noqa: ANN401 - of a hand-made dict
    several = [given] if isinstance(given, torch.Tensor) else list(given or ())
    found = tuple(one.squeeze(0) if one.dim() == 3 else one for one in several)
    if wrong := [tuple(one.shape) for one in found if one.dim() != 2 or one.shape[1] != width]:
        raise UsageError(f"{what} has a text of the shape {wrong[0]}; this model takes (words, {width}).")
    return tuple(one.float() for one in found)


SAMPLES_KEYS = (
    "samples",
    "noise_mask",
    "generator_state",
    "cache_states",
    "original_image",
    "latent_ovi_audio",
    "flashvsr_LQ_images",
    "looped",
    "end_image",
    "has_ref",
    "drop_last",
)

IDLE_KEYS = ("cache_states", "latent_ovi_audio", "flashvsr_LQ_images")
"""What the node pack carries from sampler to sampler without an effect here: a step cache begins anew in each run, and
the others belong to other models."""


def samples_of(samples: Embeds | None, grid: tuple[int, int], add_noise: bool) -> Samples | None:
    """Read ``samples``, whose latents are ``(1, 16, t, h, w)``.

    Args:
        grid: latent height and width of the video that is made.

    Raises:
        UsageError: a key is unknown, or the latents are of another size.
    """
    if samples is None:
        return None
    if "samples" not in samples:
        raise UsageError(f"samples has the keys {listed(samples)}; its latents belong under 'samples'.")
    known_keys("samples", samples, SAMPLES_KEYS)
    found = samples["samples"]
    latents = _latents(found, grid)
    mask = samples.get("noise_mask")
    idle = tuple(key for key in IDLE_KEYS if samples.get(key) is not None)
    masks = None if mask is None else _mask(mask, grid, latents.shape[1])
    original = samples.get("original_image")
    return Samples(
        latents,
        masks,
        add_noise,
        None if original is None else _latents(original, grid),
        samples.get("generator_state"),
        idle,
    )


def _latents(given: torch.Tensor, grid: tuple[int, int]) -> torch.Tensor:
    """``(16, t, h, w)`` float32, with or without a batch of one."""
    latents = given[0] if given.dim() == 5 else given
    if latents.dim() != 4 or latents.shape[0] != LATENT_CHANNELS or tuple(latents.shape[2:]) != grid:
        raise UsageError(
            f"samples are of the shape {tuple(given.shape)}; for this video they are (1, {LATENT_CHANNELS}, t, "
            f"{grid[0]}, {grid[1]}). Encode a video of the same width and height."
        )
    return latents.float()


def _mask(mask: torch.Tensor, grid: tuple[int, int], frames: int) -> torch.Tensor:
    """A mask of pictures or latents, ``(..., n, H, W)``, as ``(1, n, h, w)``; n is 1 or the latent frames.

    A mask for each video frame is taken at the first frame of each latent.
    """
    planes = mask.float().reshape(-1, *mask.shape[-2:])
    if len(planes) not in (1, frames):
        planes = planes[::TEMPORAL_STRIDE][:frames]
        planes = torch.cat([planes, planes[-1:].expand(frames - len(planes), -1, -1)])
    resized = torch.nn.functional.interpolate(
        planes[:, None], size=grid, mode="bilinear", align_corners=False
    )
    return resized[:, 0][None].clamp(0, 1)
