"""Nodes that resize, cut and join pictures."""

from __future__ import annotations

from typing import Any

import torch

from infinite_talk.errors import UsageError
from infinite_talk.nodes.declare import Inputs, checked, choice, flag, integer, link, words
from infinite_talk.nodes.helpers.resizing import (
    MAX_SIDE,
    METHODS,
    POSITIONS,
    PROPORTIONS,
    fit,
    plan_fit,
    scale,
)

MAX_INPUTS = 1000


class ImageResizeKJv2:
    """Resizes pictures, and a mask with them."""

    RETURN_TYPES = ("IMAGE", "INT", "INT", "MASK")
    RETURN_NAMES = ("IMAGE", "width", "height", "mask")
    FUNCTION = "resize"
    CATEGORY = "KJNodes/image"

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:  # noqa: N802 - ComfyUI's name
        """Pictures and the size."""
        return {
            "required": {
                "image": link("IMAGE"),
                "width": integer(512, 0, MAX_SIDE, 1),
                "height": integer(512, 0, MAX_SIDE, 1),
                "upscale_method": choice(METHODS),
                "keep_proportion": choice(PROPORTIONS),
                "pad_color": words("0, 0, 0"),
                "crop_position": choice(POSITIONS),
                "divisible_by": integer(2, 0, 512, 1),
            },
            "optional": {"mask": link("MASK"), "device": choice(("cpu", "gpu"))},
        }

    @checked()
    def resize(
        self,
        image: torch.Tensor,
        width: int,
        height: int,
        upscale_method: str,
        keep_proportion: str,
        pad_color: str = "0, 0, 0",
        crop_position: str = "center",
        divisible_by: int = 2,
        mask: torch.Tensor | None = None,
        device: str = "cpu",  # noqa: ARG002 - pictures stay on the CPU; the result is the same
    ) -> tuple[torch.Tensor, int, int, torch.Tensor]:
        """Pictures ``[B, H, W, C]``, their width and height, and the mask ``[B, H, W]`` (of zeros without one)."""
        plan = plan_fit(
            image.shape[1],
            image.shape[2],
            to_height=height,
            to_width=width,
            proportion=keep_proportion,
            position=crop_position,
            divisible_by=divisible_by,
        )
        pictures = fit(image, plan, upscale_method, proportion=keep_proportion, colour=pad_color)
        out_h, out_w = pictures.shape[1:3]
        if mask is None:
            return pictures, out_w, out_h, torch.zeros((1, out_h, out_w))
        aligned = scale(mask[..., None], image.shape[1], image.shape[2], "bilinear")
        method = "bilinear" if upscale_method == "lanczos" else upscale_method
        covered = fit(aligned, plan, method, proportion="pad", colour="0")
        return pictures, out_w, out_h, covered[..., 0]


class ImageResizeKJ:
    """The node before it: stretches, keeps the proportion inside, or crops the middle."""

    RETURN_TYPES = ("IMAGE", "INT", "INT")
    RETURN_NAMES = ("IMAGE", "width", "height")
    FUNCTION = "resize"
    CATEGORY = "KJNodes/image"

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:  # noqa: N802
        """Pictures and the size."""
        return {
            "required": {
                "image": link("IMAGE"),
                "width": integer(512, 0, MAX_SIDE, 1),
                "height": integer(512, 0, MAX_SIDE, 1),
                "upscale_method": choice(METHODS),
                "keep_proportion": flag(False),
                "divisible_by": integer(2, 0, 512, 1),
            },
            "optional": {
                "width_input": integer(0, 0, MAX_SIDE, forceInput=True),
                "height_input": integer(0, 0, MAX_SIDE, forceInput=True),
                "get_image_size": link("IMAGE"),
                "crop": choice(("disabled", "center", 0)),
            },
        }

    @checked()
    def resize(
        self,
        image: torch.Tensor,
        width: int,
        height: int,
        upscale_method: str,
        keep_proportion: bool,
        divisible_by: int = 2,
        width_input: int = 0,
        height_input: int = 0,
        get_image_size: torch.Tensor | None = None,
        crop: str | int = "disabled",
    ) -> tuple[torch.Tensor, int, int]:
        """Pictures ``[B, H, W, C]``, their width and height."""
        width, height = width_input or width, height_input or height
        if get_image_size is not None:
            height, width = get_image_size.shape[1:3]
            divisible_by = 1
        cropped = crop in ("center", 0)
        proportion = "resize" if keep_proportion else "crop" if cropped else "stretch"
        plan = plan_fit(
            image.shape[1],
            image.shape[2],
            to_height=height,
            to_width=width,
            proportion=proportion,
            divisible_by=divisible_by,
        )
        pictures = fit(image, plan, upscale_method)
        return pictures, pictures.shape[2], pictures.shape[1]


class ImageScale:
    """ComfyUI's own resizing."""

    RETURN_TYPES = ("IMAGE",)
    FUNCTION = "upscale"
    CATEGORY = "image/upscaling"

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:  # noqa: N802
        """Pictures and the size."""
        return {
            "required": {
                "image": link("IMAGE"),
                "upscale_method": choice(("nearest-exact", "bilinear", "area", "bicubic", "lanczos")),
                "width": integer(512, 0, MAX_SIDE, 1),
                "height": integer(512, 0, MAX_SIDE, 1),
                "crop": choice(("disabled", "center")),
            }
        }

    @checked()
    def upscale(
        self, image: torch.Tensor, upscale_method: str, width: int, height: int, crop: str
    ) -> tuple[torch.Tensor]:
        """Pictures ``[B, height, width, C]``; a side of 0 follows from the other one."""
        if not width and not height:
            return (image,)
        width = width or max(1, round(image.shape[2] * height / image.shape[1]))
        height = height or max(1, round(image.shape[1] * width / image.shape[2]))
        plan = plan_fit(
            image.shape[1],
            image.shape[2],
            to_height=height,
            to_width=width,
            proportion="crop" if crop == "center" else "stretch",
        )
        return (fit(image, plan, upscale_method),)


class GetImageRangeFromBatch:
    """Some pictures of a batch."""

    RETURN_TYPES = ("IMAGE", "MASK")
    FUNCTION = "imagesfrombatch"
    CATEGORY = "KJNodes/image"

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:  # noqa: N802
        """Which ones."""
        return {
            "required": {
                "start_index": integer(0, -1, 1_000_000, 1),
                "num_frames": integer(1, 1, 1_000_000, 1),
            },
            "optional": {"images": link("IMAGE"), "masks": link("MASK")},
        }

    @checked()
    def imagesfrombatch(
        self,
        start_index: int,
        num_frames: int,
        images: torch.Tensor | None = None,
        masks: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor | None, torch.Tensor | None]:
        """``num_frames`` from ``start_index`` on, or as many as there are; -1 takes the last ones."""
        return (
            None if images is None else _range(images, start_index, num_frames, "pictures"),
            None if masks is None else _range(masks, start_index, num_frames, "masks"),
        )


def _range(batch: torch.Tensor, start: int, count: int, what: str) -> torch.Tensor:
    start = max(0, len(batch) - count) if start == -1 else start
    if start >= len(batch):
        raise UsageError(f"start_index is {start}, but there are {len(batch)} {what}; give a smaller one.")
    return batch[start : start + count]


class GetImageSizeAndCount:
    """Pictures, their size and number."""

    RETURN_TYPES = ("IMAGE", "INT", "INT", "INT")
    RETURN_NAMES = ("image", "width", "height", "count")
    FUNCTION = "getsize"
    CATEGORY = "KJNodes/image"

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:  # noqa: N802
        """The pictures."""
        return {"required": {"image": link("IMAGE")}}

    def getsize(self, image: torch.Tensor) -> dict[str, Any]:
        """The same pictures, width, height, count."""
        count, height, width = image.shape[:3]
        return {"ui": {"text": (f"{count}x{width}x{height}",)}, "result": (image, width, height, count)}


class GetImageSize:
    """Size and number of pictures."""

    RETURN_TYPES = ("INT", "INT", "INT")
    RETURN_NAMES = ("width", "height", "batch_size")
    FUNCTION = "get_size"
    CATEGORY = "image"

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:  # noqa: N802
        """The pictures."""
        return {"required": {"image": link("IMAGE")}}

    def get_size(self, image: torch.Tensor) -> tuple[int, int, int]:
        """Width, height, count."""
        return image.shape[2], image.shape[1], image.shape[0]


class ImageConcatMulti:
    """Pictures beside or above each other."""

    RETURN_TYPES = ("IMAGE",)
    RETURN_NAMES = ("images",)
    FUNCTION = "combine"
    CATEGORY = "KJNodes/image"

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:  # noqa: N802
        """The pictures, ``image_1``, ``image_2``, and so on."""
        return {
            "required": {
                "inputcount": integer(2, 2, MAX_INPUTS, 1),
                "image_1": link("IMAGE"),
                "direction": choice(("right", "down", "left", "up")),
                "match_image_size": flag(False),
            },
            "optional": {"image_2": link("IMAGE")},
        }

    @checked()
    def combine(
        self,
        /,
        inputcount: int,
        image_1: torch.Tensor,
        direction: str = "right",
        match_image_size: bool = False,
        **images: torch.Tensor | None,
    ) -> tuple[torch.Tensor]:
        """One batch; each further picture lies in ``direction`` of those before it.

        A batch shorter than another goes on with its last picture.

        Raises:
            UsageError: sides that meet differ in length, and ``match_image_size`` is off.
        """
        joined = image_1
        for number in range(2, inputcount + 1):
            other = images.get(f"image_{number}")
            if other is not None:
                joined = _beside(joined, other, direction, match=match_image_size)
        return (joined,)


def _beside(first: torch.Tensor, second: torch.Tensor, direction: str, *, match: bool) -> torch.Tensor:
    count = max(len(first), len(second))
    first, second = (_held(batch, count) for batch in (first, second))
    axis, along = (2, 1) if direction in ("left", "right") else (1, 2)
    if first.shape[along] != second.shape[along]:
        if not match:
            raise UsageError(
                f"Pictures of {first.shape[2]}x{first.shape[1]} and {second.shape[2]}x{second.shape[1]} (width x "
                "height) cannot be joined; turn match_image_size on or resize one of them."
            )
        ratio = first.shape[along] / second.shape[along]
        sides = [0, 0]
        sides[along - 1], sides[axis - 1] = first.shape[along], max(1, round(second.shape[axis] * ratio))
        second = scale(second, sides[0], sides[1], "lanczos")
    channels = max(first.shape[3], second.shape[3])
    pair = [_opaque(batch, channels) for batch in (first, second)]
    return torch.cat(pair if direction in ("right", "down") else pair[::-1], dim=axis)


def _held(batch: torch.Tensor, count: int) -> torch.Tensor:
    """Continued with its last picture."""
    missing = count - len(batch)
    return torch.cat([batch, batch[-1:].expand(missing, -1, -1, -1)]) if missing else batch


def _opaque(batch: torch.Tensor, channels: int) -> torch.Tensor:
    missing = channels - batch.shape[3]
    return torch.cat([batch, torch.ones((*batch.shape[:3], missing))], dim=3) if missing else batch
