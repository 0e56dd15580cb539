"""Talking videos of any length: ``image_embeds`` for the loop that goes window by window."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any, ClassVar

import torch

from infinite_talk.errors import NoSpaceError, UsageError
from infinite_talk.nodes.clips import clip_context, sized, target_shape
from infinite_talk.nodes.declare import CATEGORY, Inputs, checked, choice, flag, integer, link, words
from infinite_talk.nodes.handles import Vae, need_vae
from infinite_talk.nodes.pictures import as_video, check_size, whole_frames

COLOURS = ("disabled", "mkl", "hm", "reinhard", "mvgd", "hm-mvgd-hm", "hm-mkl-hm")
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
    start = None if start_image is None else as_video(sized("start_image", start_image, height, width))[None]
    return {
        "multitalk_sampling": True,
        "multitalk_start_image": start,
        "frame_window_size": frames,
        "motion_frame": motion,
        "target_h": height,
        "target_w": width,
        "vae": vae,
        "target_shape": target_shape(frames, height, width),
        **_seen(clip_context(clip_embeds)),
    }


def _seen(context: Embeds) -> Embeds:
    """What CLIP has seen; without a negative picture by the node pack's one key."""
    return {key: value for key, value in context.items() if key == "clip_context" or value is not None}


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
