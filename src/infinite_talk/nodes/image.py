"""One clip from pictures, or from none: ``image_embeds`` without the loop for long videos."""

from __future__ import annotations

from typing import Any, ClassVar

import torch

from infinite_talk.errors import CapabilityError
from infinite_talk.nodes.clips import Clip, augmented, clip_context, sized, target_shape
from infinite_talk.nodes.declare import CATEGORY, Inputs, checked, flag, integer, link, number
from infinite_talk.nodes.handles import Vae, need_vae
from infinite_talk.nodes.pictures import as_video, check_size, whole_frames
from infinite_talk.rooms import Codec
from infinite_talk.types import SPATIAL_STRIDE

Embeds = dict[str, Any]


class WanVideoImageToVideoEncode:
    """One clip that begins, or begins and ends, with given pictures."""

    RETURN_TYPES: ClassVar = ("WANVIDIMAGE_EMBEDS",)
    RETURN_NAMES: ClassVar = ("image_embeds",)
    FUNCTION = "process"
    CATEGORY = CATEGORY

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:  # noqa: N802
        return {
            "required": {
                "width": integer(832, 64, 8096, 8),
                "height": integer(480, 64, 8096, 8),
                "num_frames": integer(81, 1, 10000, 4),
                "noise_aug_strength": number(0.0, 0.0, 10.0, 0.001),
                "start_latent_strength": number(1.0, 0.0, 10.0, 0.001),
                "end_latent_strength": number(1.0, 0.0, 10.0, 0.001),
                "force_offload": flag(True),
            },
            "optional": {
                "vae": link("WANVAE"),
                "clip_embeds": link("WANVIDIMAGE_CLIPEMBEDS"),
                "start_image": link("IMAGE"),
                "end_image": link("IMAGE"),
                "control_embeds": link("WANVIDIMAGE_EMBEDS"),
                "fun_or_fl2v_model": flag(True),
                "temporal_mask": link("MASK"),
                "extra_latents": link("LATENT"),
                "tiled_vae": flag(False),
                "add_cond_latents": link("ADD_COND_LATENTS", advanced=True),
                "augment_empty_frames": number(0.0, 0.0, 10.0, 0.01),
                "empty_frame_pad_image": link("IMAGE"),
            },
        }

    @checked()
    def process(
        self,
        width: int = 832,
        height: int = 480,
        num_frames: int = 81,
        force_offload: bool = True,
        noise_aug_strength: float = 0.0,
        start_latent_strength: float = 1.0,
        end_latent_strength: float = 1.0,
        vae: Vae | None = None,
        clip_embeds: Embeds | None = None,
        start_image: torch.Tensor | None = None,
        end_image: torch.Tensor | None = None,
        control_embeds: Embeds | None = None,
        fun_or_fl2v_model: bool = True,
        temporal_mask: torch.Tensor | None = None,
        extra_latents: Embeds | None = None,
        tiled_vae: bool = False,
        add_cond_latents: object = None,
        augment_empty_frames: float = 0.0,
        empty_frame_pad_image: torch.Tensor | None = None,
    ) -> tuple[Embeds]:
        """``image_embeds`` (16, t, h, w) of the clip, grey where it is not known, and ``mask`` (4, t, h, w) of what is.

        Raises:
            UsageError: there is no codec, or more pictures than frames.
            CapabilityError: what only other models of the family understand.
        """
        if augment_empty_frames or add_cond_latents is not None or control_embeds is not None:
            raise _for_others("augment_empty_frames, add_cond_latents and control_embeds")
        check_size(width, height)
        codec, frames = _codec(vae, tiled_vae, width, height), whole_frames(num_frames)
        start = _frames("start_image", start_image, height, width)
        end = _frames("end_image", end_image, height, width)
        filler = _frames("empty_frame_pad_image", empty_frame_pad_image, height, width)
        extra = end is not None and not fun_or_fl2v_model
        clip = Clip(frames, height, width, start, None if extra else end, filler)
        latents, mask = clip.latents(codec), clip.mask(temporal_mask)
        if end is not None and extra:  # a model that knows no last frame: its picture is a latent of its own
            latents = torch.cat([latents, codec.encode_video(end[:, -1:]).to(latents)], dim=1)
            mask = torch.cat([mask, torch.ones_like(mask[:, :1])], dim=1)
        last = end_latent_strength if end is not None else 1.0
        latents = _strengthened(latents, start_latent_strength, last, noise_aug_strength)
        if force_offload and vae is not None:
            vae.release()
        embeds = clip_context(clip_embeds) | {
            "image_embeds": latents,
            "mask": mask,
            "target_shape": tuple(latents.shape),
            "num_frames": frames,
            "lat_h": height // SPATIAL_STRIDE,
            "lat_w": width // SPATIAL_STRIDE,
            "end_image": end if extra else None,
            "fun_or_fl2v_model": fun_or_fl2v_model,
            "has_ref": False,
        }
        return (embeds | _extra_latents(extra_latents),)


class WanVideoEmptyEmbeds:
    """A clip that no picture is given for."""

    RETURN_TYPES: ClassVar = ("WANVIDIMAGE_EMBEDS",)
    RETURN_NAMES: ClassVar = ("image_embeds",)
    FUNCTION = "process"
    CATEGORY = CATEGORY

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:  # noqa: N802
        return {
            "required": {
                "width": integer(832, 64, 8096, 8),
                "height": integer(480, 64, 8096, 8),
                "num_frames": integer(81, 1, 10000, 4),
            },
            "optional": {
                "control_embeds": link("WANVIDIMAGE_EMBEDS"),
                "extra_latents": link("LATENT"),
            },
        }

    @checked()
    def process(
        self,
        width: int = 832,
        height: int = 480,
        num_frames: int = 81,
        control_embeds: Embeds | None = None,
        extra_latents: Embeds | None = None,
    ) -> tuple[Embeds]:
        """``target_shape`` (16, t, h, w) and ``num_frames``.

        Raises:
            CapabilityError: ``control_embeds`` are connected, which other models understand.
        """
        if control_embeds is not None:
            raise _for_others("control_embeds")
        check_size(width, height)
        frames = whole_frames(num_frames)
        embeds: Embeds = {"target_shape": target_shape(frames, height, width), "num_frames": frames}
        return (embeds | _extra_latents(extra_latents),)


def _codec(vae: object, tiled: bool, width: int, height: int) -> Codec:
    """The codec; its tiles are half the picture, as in the node pack's loop."""
    return need_vae(vae).codec(tile=max(width, height) // 2 if tiled else None)


def _extra_latents(extra: Embeds | None) -> Embeds:
    return {} if extra is None else {"extra_latents": [{"samples": extra["samples"], "index": 0}]}


def _frames(what: str, pictures: torch.Tensor | None, height: int, width: int) -> torch.Tensor | None:
    return None if pictures is None else as_video(sized(what, pictures, height, width))


def _strengthened(latents: torch.Tensor, first: float, last: float, noise: float) -> torch.Tensor:
    """With the first and the last latent weighted, and noise over all."""
    latents[:, :1] *= first
    latents[:, -1:] *= last
    return augmented(latents, noise) if noise else latents


def _for_others(inputs: str) -> CapabilityError:
    return CapabilityError(
        f"{inputs} belong to other models of the family (Fun control, MoCha), which this program does not run. Leave "
        "them unconnected, and numbers at 0."
    )
