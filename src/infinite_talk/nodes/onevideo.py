"""The ordinary path of the sampler: one latent, as long as its ``image_embeds`` say, with or without speech."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from infinite_talk.conditioning.speech import speech_window
from infinite_talk.denoise.keeping import All, Keep, Pinned, nothing
from infinite_talk.errors import UsageError
from infinite_talk.models.dit import DiTConfig
from infinite_talk.nodes.declare import known_keys, listed
from infinite_talk.nodes.embeds import LATENT_CHANNELS, Texts, clip_features, negative_clip
from infinite_talk.nodes.numbers import scales
from infinite_talk.nodes.voices import Speech, people_masks
from infinite_talk.plan.speech import REACH, speech_indices
from infinite_talk.types import SPATIAL_STRIDE, TEMPORAL_STRIDE, Guide, Size, Window

MASK_CHANNELS = 4
MOST_NOISE = 100.0
"""Largest of ``pusa_noise_multipliers``, as its node has it."""
IMAGE_KEYS = (
    "image_embeds",
    "mask",
    "target_shape",
    "clip_context",
    "negative_clip_context",
    "num_frames",
    "lat_h",
    "lat_w",
    "max_seq_len",
    "control_embeds",
    "end_image",
    "fun_or_fl2v_model",
    "has_ref",
    "drop_last",
    "add_cond_latents",
    "extra_latents",
    "multitalk_embeds",
    "portrait_embeds",
    "audio_guide_scale",
    "pusa_noise_multipliers",
    "pusa_noisy_steps",
    "vae",
)
TRAVELS = ("end_image", "has_ref", "drop_last")
"""What goes on to WanVideoDecode."""


@dataclass(frozen=True, slots=True, eq=False)
class One:
    """What ``image_embeds`` say of one video."""

    reference: torch.Tensor  # (20, T, h, w)
    image: torch.Tensor  # (L, D): CLIP features, perhaps none
    negative_image: torch.Tensor | None  # (L, D): beside the negative prompt
    keep: Keep  # latents that are given
    travels: Mapping[str, Any]

    def kept(self, noise: torch.Tensor, *, by_frame: bool) -> Keep:
        """What is known of the latent; the multipliers of given latents act where frames have times of their own."""
        several = self.keep.several if isinstance(self.keep, All) else (self.keep,)
        pinned = [one for one in several if isinstance(one, Pinned)]
        if not pinned:
            return self.keep
        factors = [one.multiplier if by_frame else 0.0 for one in pinned]
        return All([replace(one, multiplier=f, noise=noise) for one, f in zip(pinned, factors, strict=True)])

    @property
    def size(self) -> Size:
        """In pixels."""
        return Size(*(SPATIAL_STRIDE * side for side in self.reference.shape[2:]))

    @property
    def window(self) -> Window:
        """All of it."""
        frames = TEMPORAL_STRIDE * (self.reference.shape[1] - 1) + 1
        return Window(0, 0, frames, 0, frames, 0)


def one_of(image_embeds: Mapping[str, Any], config: DiTConfig, device: torch.device) -> One:
    """Read ``image_embeds`` of WanVideoImageToVideoEncode, or of WanVideoEmptyEmbeds: no picture, zeros in its place.

    Raises:
        UsageError: a key is unknown, or the shapes are not of this model.
    """
    known_keys("image_embeds", image_embeds, IMAGE_KEYS)
    if image_embeds.get("control_embeds") is not None or image_embeds.get("add_cond_latents") is not None:
        raise UsageError("Control models are not supported; leave control_embeds and add_cond_latents away.")
    return One(
        _reference(image_embeds, config.in_dim - config.out_dim),
        clip_features(image_embeds.get("clip_context"), config.clip_dim),
        negative_clip(image_embeds, config.clip_dim),
        _pinned(image_embeds, device),
        {key: image_embeds[key] for key in TRAVELS if image_embeds.get(key) is not None},
    )


def _reference(image_embeds: Mapping[str, Any], channels: int) -> torch.Tensor:
    """Mask and latents of the picture ``(20, T, h, w)``."""
    latents, mask = image_embeds.get("image_embeds"), image_embeds.get("mask")
    if latents is None:
        shape = image_embeds.get("target_shape")
        if shape is None:
            raise UsageError(
                f"image_embeds has the keys {listed(image_embeds)}; it needs image_embeds of "
                "WanVideoImageToVideoEncode, or the target_shape of WanVideoEmptyEmbeds."
            )
        return torch.zeros(channels, *tuple(int(side) for side in shape)[1:])
    latents = latents[0] if latents.dim() == 5 else latents
    if mask is not None and latents.shape[0] == LATENT_CHANNELS:
        mask = mask[0] if mask.dim() == 5 else mask
        latents = torch.cat([mask.to(latents), latents])
    if latents.dim() != 4 or latents.shape[0] != channels:
        raise UsageError(
            f"image_embeds are of the shape {tuple(latents.shape)}; this model takes ({channels}, t, h, w): "
            f"{MASK_CHANNELS} channels of the mask and {LATENT_CHANNELS} of the latents."
        )
    return latents.float()


def _pinned(image_embeds: Mapping[str, Any], device: torch.device) -> Keep:
    """``extra_latents``: one or several of ``{"samples": (1, 16, n, h, w), "index": first latent frame}``."""
    extra = image_embeds.get("extra_latents")
    entries = [extra] if isinstance(extra, Mapping) else list(extra or ())
    factors = multipliers(image_embeds.get("pusa_noise_multipliers"), len(entries))
    steps = int(image_embeds.get("pusa_noisy_steps", -1))
    keeps: list[Keep] = [
        Pinned(
            entry["samples"].squeeze(0).to(device, torch.float32),
            int(entry.get("index", 0)),
            multiplier=factor,
            noisy_steps=None if steps < 0 else steps,
        )
        for entry, factor in zip(entries, factors, strict=True)
    ]
    if not keeps:
        return nothing
    return keeps[0] if len(keeps) == 1 else All(keeps)


def multipliers(given: float | Sequence[float] | None, entries: int) -> tuple[float, ...]:
    """``pusa_noise_multipliers``: one for each of the ``extra_latents``; the last one, or a number, holds for all.

    Raises:
        UsageError: one is negative.
    """
    found = scales("pusa_noise_multipliers", 0.0 if given is None else given, MOST_NOISE)
    return tuple(found[min(number, len(found) - 1)] for number in range(entries))


def guide_of(one: One, texts: Texts, speech: Speech | None, config: DiTConfig, device: torch.device) -> Guide:
    """What the model is told; without speech it hears the null condition, one silent person."""
    heard = torch.zeros(1, one.window.frames, config.audio_window, config.audio_blocks, config.audio_channels)
    people = 1 if speech is None else len(speech.features) if speech.windows is None else len(speech.windows)
    if speech is not None:
        heard = heard_in(one.window, speech)
    guide = Guide(
        text=texts.prompts[0],
        negative=texts.negative,
        image=one.image,
        reference=one.reference,
        speech=heard,
        token_masks=people_masks(None if speech is None else speech.places, people, one.size),
        motion=torch.zeros(LATENT_CHANNELS, 0, *one.reference.shape[2:]),
        negative_image=one.negative_image,
    )
    return on_device(guide, device)


def heard_in(window: Window, speech: Speech) -> torch.Tensor:
    """The speech of a window ``(P, F, 5, K, D)``.

    Raises:
        UsageError: speech that is cut into windows already has another length.
    """
    if speech.windows is None:
        return speech_window(
            speech.features,
            [torch.from_numpy(speech_indices(window, len(own))) for own in speech.features],
        )
    if speech.windows.shape[1] != window.frames:
        raise UsageError(
            f"audio_emb_slice has {speech.windows.shape[1]} frames and the video {window.frames}; cut one of them."
        )
    assert speech.windows.shape[2] == 2 * REACH + 1, "looked at when it was read"
    return speech.windows


def on_device(guide: Guide, device: torch.device) -> Guide:
    """A guide on the device of the model."""
    return Guide(
        text=guide.text.to(device),
        negative=guide.negative.to(device),
        image=guide.image.to(device),
        reference=guide.reference.to(device),
        speech=guide.speech.to(device),
        token_masks=guide.token_masks.to(device),
        motion=guide.motion.to(device),
        negative_image=None if guide.negative_image is None else guide.negative_image.to(device),
    )
