"""Pictures become ``image_embeds``: what the sampler is told of the video that it makes."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any, ClassVar

import torch

from infinite_talk.errors import CapabilityError, NoSpaceError, UsageError
from infinite_talk.nodes.clips import Clip, augmented
from infinite_talk.nodes.declare import CATEGORY, Inputs, checked, choice, flag, integer, link, number, words
from infinite_talk.nodes.handles import Vae, need_vae
from infinite_talk.nodes.pictures import as_video, check_size, checked_pictures, stretched, whole_frames
from infinite_talk.rooms import Codec
from infinite_talk.types import SPATIAL_STRIDE, latent_frames

COLOURS = ("disabled", "mkl", "hm", "reinhard", "mvgd", "hm-mvgd-hm", "hm-mkl-hm")
LATENT_CHANNELS = 16
Embeds = dict[str, Any]


class WanVideoImageToVideoMultiTalk:
    """A talking video of any length, from a picture, or one picture for each window."""

    RETURN_TYPES: ClassVar = ("WANVIDIMAGE_EMBEDS", "STRING")
    RETURN_NAMES: ClassVar = ("image_embeds", "output_path")
    FUNCTION = "process"
    CATEGORY = CATEGORY

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:  # noqa: N802 - ComfyUI's name
        return {
            "required": {
                "vae": link("WANVAE"),
                "width": integer(832, 64, 2048, 8),
                "height": integer(480, 64, 29048, 8),
                "frame_window_size": integer(81, 1, 10000, 4),
                "motion_frame": integer(25, 1, 10000, 1),
                "force_offload": flag(False),
                "colormatch": choice(COLOURS, "disabled"),
            },
            "optional": {
                "start_image": link("IMAGE"),
                "tiled_vae": flag(False),
                "clip_embeds": link("WANVIDIMAGE_CLIPEMBEDS"),
                "mode": choice(("auto", "multitalk", "infinitetalk"), "auto"),
                "output_path": words(""),
            },
        }

    @checked()
    def process(
        self,
        vae: Vae,
        width: int = 832,
        height: int = 480,
        frame_window_size: int = 81,
        motion_frame: int = 25,
        force_offload: bool = False,
        colormatch: str = "disabled",
        start_image: torch.Tensor | None = None,
        tiled_vae: bool = False,
        clip_embeds: Embeds | None = None,
        mode: str = "multitalk",
        output_path: str = "",
    ) -> tuple[Embeds, str]:
        """``mode`` is ``multitalk`` in Python and ``auto`` in a graph, as in the node pack.

        Raises:
            UsageError: the size does not divide into tokens, motion frames fill the window, or there is no codec.
            NoSpaceError: the folder for frames cannot be made.
        """
        embeds = _long(vae, width, height, frame_window_size, motion_frame, start_image, clip_embeds)
        folder = _output_folder(output_path, mode)
        return embeds | {
            "tiled_vae": tiled_vae,
            "force_offload": force_offload,
            "colormatch": colormatch,
            "multitalk_mode": mode,
            "output_path": folder,
        }, folder


class WanVideoImageToVideoSkyreelsv3_audio:  # noqa: N801 - the name in workflows
    """SkyReels V3's way; kept so that workflows load, refused by the sampler."""

    RETURN_TYPES: ClassVar = ("WANVIDIMAGE_EMBEDS", "STRING")
    RETURN_NAMES: ClassVar = ("image_embeds", "output_path")
    FUNCTION = "process"
    CATEGORY = CATEGORY

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:  # noqa: N802
        return {
            "required": {
                "vae": link("WANVAE"),
                "width": integer(832, 64, 2048, 8),
                "height": integer(480, 64, 29048, 8),
                "frame_window_size": integer(81, 1, 10000, 4),
                "motion_frame": integer(5, 1, 10000, 1),
                "drop_frames": integer(12, 0, 10000, 1),
                "tiled_vae": flag(False),
                "force_offload": flag(False),
                "colormatch": choice(("disabled", "reinhard_torch", *COLOURS[1:]), "disabled"),
            },
            "optional": {
                "start_image": link("IMAGE"),
                "reference_video": link("IMAGE"),
                "clip_embeds": link("WANVIDIMAGE_CLIPEMBEDS"),
                "output_path": words(""),
            },
        }

    @checked()
    def process(
        self,
        vae: Vae,
        width: int = 832,
        height: int = 480,
        frame_window_size: int = 81,
        motion_frame: int = 5,
        drop_frames: int = 12,
        tiled_vae: bool = False,
        force_offload: bool = False,
        colormatch: str = "disabled",
        start_image: torch.Tensor | None = None,
        reference_video: torch.Tensor | None = None,
        clip_embeds: Embeds | None = None,
        output_path: str = "",
    ) -> tuple[Embeds, str]:
        """The same keys as above, with the mode ``skyreelsv3``; no folder is made."""
        embeds = _long(vae, width, height, frame_window_size, motion_frame, start_image, clip_embeds)
        return embeds | {
            "tiled_vae": tiled_vae,
            "force_offload": force_offload,
            "colormatch": colormatch,
            "drop_frames": drop_frames,
            "reference_video": reference_video,
            "multitalk_mode": "skyreelsv3",
            "output_path": output_path,
        }, output_path


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
        noise_aug_strength: float = 0.0,
        start_latent_strength: float = 1.0,
        end_latent_strength: float = 1.0,
        force_offload: bool = True,
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
            raise CapabilityError(
                "augment_empty_frames, add_cond_latents and control_embeds belong to other models of the family (Fun "
                "control, MoCha), which this program does not run. Leave them at 0 and unconnected."
            )
        check_size(width, height)
        codec, frames = _codec(vae, tiled_vae, width, height), whole_frames(num_frames)
        start = None if start_image is None else as_video(_sized("start_image", start_image, height, width))
        end = None if end_image is None else as_video(_sized("end_image", end_image, height, width))
        filler = None
        if empty_frame_pad_image is not None:
            filler = as_video(_sized("empty_frame_pad_image", empty_frame_pad_image, height, width))[:, :1]
        extra = end is not None and not fun_or_fl2v_model
        clip = Clip(frames, height, width, start, None if extra else end, filler)
        latents, mask = clip.latents(codec), clip.mask(temporal_mask)
        if end is not None and extra:  # a model that knows no last frame: its picture is a latent of its own
            latents = torch.cat([latents, codec.encode_video(end[:, -1:]).to(latents)], dim=1)
            mask = torch.cat([mask, torch.ones_like(mask[:, :1])], dim=1)
        latents[:, :1] *= start_latent_strength
        if end is not None:
            latents[:, -1:] *= end_latent_strength
        if noise_aug_strength:
            latents = augmented(latents, noise_aug_strength)
        if force_offload and vae is not None:
            vae.release()
        embeds = _clip_context(clip_embeds) | {
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
            raise CapabilityError(
                "control_embeds belong to Fun control models, which this program does not run; leave it unconnected."
            )
        check_size(width, height)
        frames = whole_frames(num_frames)
        embeds: Embeds = {"target_shape": _target(frames, height, width), "num_frames": frames}
        return (embeds | _extra_latents(extra_latents),)


# What the above have in common


def _long(
    vae: Vae,
    width: int,
    height: int,
    window: int,
    motion: int,
    start_image: torch.Tensor | None,
    clip_embeds: Embeds | None,
) -> Embeds:
    """What both nodes for long videos say."""
    check_size(width, height)
    frames = whole_frames(window)
    if motion >= frames:
        raise UsageError(
            f"motion_frame is {motion} and the window has {frames} frames: nothing would be new. Choose fewer motion "
            "frames, or a longer window."
        )
    if need_vae(vae).exact is None:
        need_vae(vae).codec().encode_video(torch.zeros(3, 1, height, width))  # says why it cannot
    start = None if start_image is None else as_video(_sized("start_image", start_image, height, width))[None]
    return {
        "multitalk_sampling": True,
        "multitalk_start_image": start,
        "frame_window_size": frames,
        "motion_frame": motion,
        "target_h": height,
        "target_w": width,
        "vae": vae,
        "target_shape": _target(frames, height, width),
        "clip_context": _clip_context(clip_embeds)["clip_context"],
    }


def _sized(what: str, pictures: torch.Tensor, height: int, width: int) -> torch.Tensor:
    return stretched(checked_pictures(what, pictures), height, width)


def _target(frames: int, height: int, width: int) -> tuple[int, int, int, int]:
    return LATENT_CHANNELS, latent_frames(frames), height // SPATIAL_STRIDE, width // SPATIAL_STRIDE


def _codec(vae: object, tiled: bool, width: int, height: int) -> Codec:
    """The codec; its tiles are half the picture, as in the node pack's loop."""
    return need_vae(vae).codec(tile=max(width, height) // 2 if tiled else None)


def _clip_context(clip_embeds: Embeds | None) -> Embeds:
    """What CLIP has seen, by the sampler's names.

    Raises:
        UsageError: the dictionary has no features.
    """
    if clip_embeds is None:
        return {"clip_context": None, "negative_clip_context": None}
    if "clip_embeds" not in clip_embeds:
        raise UsageError(
            f"clip_embeds has the keys {', '.join(map(str, clip_embeds))}, and 'clip_embeds' is not among them; "
            "connect WanVideoClipVisionEncode."
        )
    return {
        "clip_context": clip_embeds["clip_embeds"],
        "negative_clip_context": clip_embeds.get("negative_clip_embeds"),
    }


def _extra_latents(extra: Embeds | None) -> Embeds:
    return {} if extra is None else {"extra_latents": [{"samples": extra["samples"], "index": 0}]}


def _output_folder(output_path: str, mode: str) -> str:
    """A new folder below ``output_path``, named by the time; none for an empty one."""
    if not output_path:
        return ""
    stamp = datetime.now().astimezone().strftime("%Y%m%d_%H%M%S")
    wanted = Path(output_path) / f"{stamp}_{mode}_output"
    try:
        for number_ in range(1, 1000):
            folder = wanted if number_ == 1 else wanted.with_name(f"{wanted.name}_{number_}")
            if not folder.exists():
                folder.mkdir(parents=True)
                return str(folder)
    except OSError as error:
        raise NoSpaceError(
            f"The folder {wanted} cannot be made ({error.strerror}); choose another."
        ) from error
    raise NoSpaceError(f"There are a thousand folders called {wanted.name}; choose another output_path.")
