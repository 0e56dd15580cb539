"""Poses (UniAnimate) and a guide video (Uni3C) beside the transformer; see ``denoise/adapters`` for what they do."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray

from infinite_talk.device import choose_device
from infinite_talk.errors import CapabilityError, InputError
from infinite_talk.models.adapters import Uni3C
from infinite_talk.nodes.declare import (
    CATEGORY,
    DEVICES,
    Inputs,
    checked,
    choice,
    flag,
    integer,
    link,
    number,
)
from infinite_talk.nodes.handles import say
from infinite_talk.nodes.host import host
from infinite_talk.nodes.machine import compilation_of
from infinite_talk.nodes.networks import (
    PRECISIONS,
    AdapterModel,
    need_network,
    network_dtype,
    network_names,
    network_path,
    pictures_of,
)
from infinite_talk.nodes.opening import attention_of
from infinite_talk.nodes.posing import Detector, Skeleton, Style, draw, fitted_to, open_detector
from infinite_talk.nodes.posing.skeleton import NOBODY
from infinite_talk.ops.attention import resolve
from infinite_talk.ops.compiling import compile_blocks, why_not_compiled
from infinite_talk.settings import Quantization
from infinite_talk.weights.adapters import open_uni3c


class WanVideoUni3C_ControlnetLoader:  # noqa: N801 - the pack's name
    """The network of Uni3C."""

    RETURN_TYPES: ClassVar = ("WANVIDEOCONTROLNET",)
    RETURN_NAMES: ClassVar = ("controlnet",)
    FUNCTION = "loadmodel"
    CATEGORY = CATEGORY

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:  # noqa: N802 - ComfyUI's name
        return {
            "required": {
                "model": choice(network_names("controlnet")),
                "base_precision": choice(PRECISIONS, "fp16"),
                "quantization": choice(("disabled", "fp8_e4m3fn", "fp8_e5m2"), "disabled"),
                "load_device": choice(DEVICES, "offload_device"),
                "attention_mode": choice(("sdpa", "sageattn"), "sdpa"),
            },
            "optional": {"compile_args": link("WANCOMPILEARGS")},
        }

    @checked()
    def loadmodel(
        self,
        model: str,
        base_precision: str = "fp16",
        quantization: str = "disabled",
        load_device: str = "offload_device",
        attention_mode: str = "sdpa",
        compile_args: dict[str, Any] | None = None,
    ) -> tuple[AdapterModel[Uni3C]]:
        """Read it, strictly.

        Raises:
            CheckpointError: it is missing, damaged or no Uni3C.
            CapabilityError: the kernel cannot run here.
        """
        settings = host().settings
        device = choose_device(settings)
        dtype = network_dtype(base_precision, device, model)
        kernel = resolve(attention_of(attention_mode), device, dtype, strict=settings.strict, head_dim=64)
        if kernel.note:
            say(kernel.note)
        network = open_uni3c(
            network_path("controlnet", model, "Uni3C"),
            dtype,
            quantization=Quantization(quantization),
            device=device if load_device == "main_device" else "cpu",
            attention=kernel.kernel,
        )
        compilation = compilation_of(compile_args, device)
        if compilation is not None and not why_not_compiled(device):
            compile_blocks(network.controlnet_blocks, compilation)
        return (AdapterModel(network, model),)


class WanVideoUni3C_embeds:  # noqa: N801
    """A guide video for Uni3C: how much of it, and when."""

    RETURN_TYPES: ClassVar = ("UNI3C_EMBEDS",)
    RETURN_NAMES: ClassVar = ("uni3c_embeds",)
    FUNCTION = "process"
    CATEGORY = CATEGORY

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:  # noqa: N802
        return {
            "required": {
                "controlnet": link("WANVIDEOCONTROLNET"),
                "strength": number(1.0, 0.0, 10.0, 0.001),
                "start_percent": number(0.0, 0.0, 1.0, 0.01),
                "end_percent": number(1.0, 0.0, 1.0, 0.01),
            },
            "optional": {
                "render_latent": link("LATENT"),
                "render_mask": link("MASK"),
                "offload": flag(True),
            },
        }

    @checked()
    def process(
        self,
        controlnet: AdapterModel[Uni3C],
        strength: float = 1.0,
        start_percent: float = 0.0,
        end_percent: float = 1.0,
        render_latent: dict[str, Any] | None = None,
        render_mask: object = None,
        offload: bool = True,
    ) -> tuple[dict[str, Any]]:
        """The dictionary of these, with the pack's keys.

        Raises:
            CapabilityError: a mask was given.
        """
        need_network(controlnet, Uni3C, "controlnet", "WanVideoUni3C_ControlnetLoader")
        if render_mask is not None:
            raise CapabilityError(
                "Uni3C is not told about masks here, nor in the node pack: its weights for them are not used. Leave "
                "render_mask unconnected, and render what is unknown as it shall look."
            )
        return (
            {
                "controlnet": controlnet,
                "controlnet_weight": strength,
                "start": start_percent,
                "end": end_percent,
                "render_latent": None if render_latent is None else render_latent["samples"],
                "render_mask": None,
                "camera_embedding": None,
                "offload": offload,
            },
        )


class WanVideoUniAnimatePoseInput:
    """Pictures of poses for UniAnimate: how much of them, and when."""

    RETURN_TYPES: ClassVar = ("UNIANIMATE_POSE",)
    RETURN_NAMES: ClassVar = ("unianimate_poses",)
    FUNCTION = "process"
    CATEGORY = CATEGORY

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:  # noqa: N802
        return {
            "required": {
                "pose_images": link("IMAGE"),
                "strength": number(1.0, 0.0, 1.0, 0.01),
                "start_percent": number(0.0, 0.0, 1.0, 0.01),
                "end_percent": number(1.0, 0.0, 1.0, 0.01),
            },
            "optional": {"reference_pose_image": link("IMAGE")},
        }

    @checked()
    def process(
        self,
        pose_images: torch.Tensor,
        strength: float = 1.0,
        start_percent: float = 0.0,
        end_percent: float = 1.0,
        reference_pose_image: torch.Tensor | None = None,
    ) -> tuple[dict[str, Any]]:
        """``pose`` (1, 3, F, H, W) and ``ref`` (1, 3, H, W) or None, both 0..1, with the pack's keys.

        Raises:
            InputError: these are no pictures.
        """
        poses = pictures_of("pose_images", pose_images)
        reference = None
        if reference_pose_image is not None:
            reference = pictures_of("reference_pose_image", reference_pose_image)[:1]
        return (
            {
                "pose": poses.transpose(0, 1)[None].contiguous(),
                "ref": reference,
                "strength": strength,
                "start_percent": start_percent,
                "end_percent": end_percent,
            },
        )


class WanVideoUniAnimateDWPoseDetector:
    """Poses of a person in pictures, drawn for UniAnimate."""

    RETURN_TYPES: ClassVar = ("IMAGE", "IMAGE")
    RETURN_NAMES: ClassVar = ("poses", "reference_pose")
    FUNCTION = "process"
    CATEGORY = CATEGORY

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:  # noqa: N802
        return {
            "required": {
                "pose_images": link("IMAGE"),
                "score_threshold": number(0.3, 0.0, 1.0, 0.01),
                "stick_width": integer(4, 1, 100, 1),
                "draw_body": flag(True),
                "body_keypoint_size": integer(4, 0, 100, 1),
                "draw_feet": flag(True),
                "draw_hands": flag(True),
                "hand_keypoint_size": integer(4, 0, 100, 1),
                "colorspace": choice(("RGB", "BGR"), "RGB"),
                "handle_not_detected": choice(("empty", "repeat"), "empty"),
                "draw_head": flag(True),
            },
            "optional": {"reference_pose_image": link("IMAGE")},
        }

    @checked()
    def process(
        self,
        pose_images: torch.Tensor,
        score_threshold: float = 0.3,
        stick_width: int = 4,
        reference_pose_image: torch.Tensor | None = None,
        draw_body: bool = True,
        body_keypoint_size: int = 4,
        draw_feet: bool = True,
        draw_hands: bool = True,
        hand_keypoint_size: int = 4,
        colorspace: str = "RGB",
        handle_not_detected: str = "empty",
        draw_head: bool = True,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Pictures of the poses, of the size of those given, and of the reference's (64 x 64 of black without one).

        With a reference the movement gets its proportions and place.

        Raises:
            CapabilityError: the detector's files or its package are missing.
            InputError: nobody is seen in the reference.
        """
        pictures = pictures_of("pose_images", pose_images)
        style = Style(
            stick_width=stick_width,
            body=draw_body,
            body_radius=body_keypoint_size,
            feet=draw_feet,
            hands=draw_hands,
            hand_radius=hand_keypoint_size,
            head=draw_head,
        )
        detector = open_detector(_detector_file, choose_device(host().settings))
        found = seen_in(pictures, detector, score_threshold, repeat=handle_not_detected == "repeat")
        height, width = pictures.shape[2:]
        reference = torch.zeros(1, 64, 64, 3)
        if reference_pose_image is not None:
            shown = pictures_of("reference_pose_image", reference_pose_image)[0]
            own = detector(shown, score_threshold)
            if own is NOBODY:
                raise InputError(
                    "Nobody is seen in reference_pose_image; give a picture of the whole person."
                )
            found = fitted_to(found, own)
            reference = _as_image([draw(own, height, width, style)])
        poses = _as_image([draw(one, height, width, style) for one in found])
        return poses.flip(-1) if colorspace == "BGR" else poses, reference


def seen_in(pictures: torch.Tensor, detector: Detector, threshold: float, *, repeat: bool) -> list[Skeleton]:
    """The skeleton in each of ``(F, 3, H, W)``; where nobody is seen nobody, or with ``repeat`` the one before."""
    found: list[Skeleton] = []
    for picture in pictures:
        seen = detector(picture, threshold)
        found.append(found[-1] if repeat and seen is NOBODY and found else seen)
    return found


def _as_image(drawn: list[NDArray[np.uint8]]) -> torch.Tensor:
    return torch.from_numpy(np.stack(drawn)).float() / 255


def _detector_file(name: str) -> Path | None:
    by = host()
    return None if by.embedded else by.places.find("dwpose", name)
