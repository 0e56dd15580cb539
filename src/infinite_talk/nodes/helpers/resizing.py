"""Resizing of picture batches ``[B, H, W, C]`` in 0..1 as ComfyUI's nodes name it: method, proportion, position."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from infinite_talk.errors import UsageError

METHODS: Final = ("nearest-exact", "bilinear", "area", "bicubic", "lanczos")
PROPORTIONS: Final = (
    "stretch",
    "resize",
    "pad",
    "pad_edge",
    "pad_edge_pixel",
    "crop",
    "pillarbox_blur",
    "total_pixels",
)
POSITIONS: Final = ("center", "top", "bottom", "left", "right")
MAX_SIDE: Final = 16384


@dataclass(frozen=True, slots=True)
class Fit:
    """What is cut out of a picture, to which size it is scaled, and what is put around it; all in pixels."""

    crop: tuple[int, int, int, int]
    """Top, left, height, width of the part that is kept."""
    height: int
    width: int
    border: tuple[int, int, int, int] = (0, 0, 0, 0)
    """Left, right, top, bottom."""


def plan_fit(
    height: int,
    width: int,
    *,
    to_height: int,
    to_width: int,
    proportion: str = "stretch",
    position: str = "center",
    divisible_by: int = 1,
) -> Fit:
    """How a picture of ``height`` x ``width`` comes to a wanted size; 0 leaves a side to the proportion.

    Sizes are rounded down to multiples of ``divisible_by``. ``crop`` keeps the largest part of the wanted shape,
    ``resize`` fits the picture inside, the ``pad`` kinds fill what is left around it, ``total_pixels`` keeps the shape
    and takes the area.

    Raises:
        UsageError: a side would become 0.
    """
    step = max(1, divisible_by)
    inner_h, inner_w = to_height or height, to_width or width
    if proportion == "total_pixels":
        area = inner_h * inner_w
        inner_h, inner_w = int(math.sqrt(area * height / width)), int(math.sqrt(area * width / height))
    elif proportion not in ("stretch", "crop"):
        inner_h, inner_w = _inside(height, width, to_height, to_width)
    padded = proportion.startswith(("pad", "pillarbox"))
    outer_h, outer_w = (to_height or inner_h, to_width or inner_w) if padded else (inner_h, inner_w)
    outer_h, outer_w = outer_h - outer_h % step, outer_w - outer_w % step
    if outer_h < 1 or outer_w < 1:
        raise UsageError(
            f"A picture of {width}x{height} would become {outer_w}x{outer_h} (width x height, multiples of "
            f"{step}); ask for a larger size."
        )
    if padded:
        inner_h, inner_w = max(1, min(inner_h, outer_h)), max(1, min(inner_w, outer_w))
        border = _border(outer_h - inner_h, outer_w - inner_w, position)
        return Fit((0, 0, height, width), inner_h, inner_w, border)
    crop = (
        _crop(height, width, outer_h / outer_w, position) if proportion == "crop" else (0, 0, height, width)
    )
    return Fit(crop, outer_h, outer_w)


def _inside(height: int, width: int, to_height: int, to_width: int) -> tuple[int, int]:
    """The largest size of the same shape inside the wanted one."""
    ratios = [wanted / have for wanted, have in ((to_width, width), (to_height, height)) if wanted]
    ratio = min(ratios, default=1.0)
    return round(height * ratio), round(width * ratio)


def _border(high: int, wide: int, position: str) -> tuple[int, int, int, int]:
    """Left, right, top, bottom; the picture lies at the named side."""
    left = {"left": 0, "right": wide}.get(position, wide // 2)
    top = {"top": 0, "bottom": high}.get(position, high // 2)
    return left, wide - left, top, high - top


def _crop(height: int, width: int, shape: float, position: str) -> tuple[int, int, int, int]:
    """The largest part with ``shape`` (height / width), at the named side."""
    if width * shape > height:
        kept_h, kept_w = height, max(1, round(height / shape))
    else:
        kept_h, kept_w = max(1, round(width * shape)), width
    top = {"top": 0, "bottom": height - kept_h}.get(position, (height - kept_h) // 2)
    left = {"left": 0, "right": width - kept_w}.get(position, (width - kept_w) // 2)
    return top, left, kept_h, kept_w


def scale(pictures: torch.Tensor, height: int, width: int, method: str) -> torch.Tensor:
    """Scale ``[B, H, W, C]`` to ``[B, height, width, C]``; ``lanczos`` is Pillow's, on 8 bits, as in ComfyUI.

    ``area``, ``bilinear`` and ``bicubic`` do not blur before they shrink.
    """
    if pictures.shape[1:3] == (height, width):
        return pictures
    if method == "lanczos":
        out = torch.empty((pictures.shape[0], height, width, pictures.shape[3]))
        for index, picture in enumerate(eight_bits(pictures)):
            out[index] = _lanczos(picture, height, width)
        return out
    smooth = {"align_corners": False} if method in ("bilinear", "bicubic") else {}
    channels_first = pictures.movedim(-1, 1)
    scaled = F.interpolate(channels_first, size=(height, width), mode=method, **smooth)
    return scaled.movedim(1, -1).contiguous()


def _lanczos(picture: np.ndarray, height: int, width: int) -> torch.Tensor:
    image = Image.fromarray(picture[..., 0] if picture.shape[2] == 1 else picture)
    values = np.asarray(image.resize((width, height), Image.Resampling.LANCZOS), np.float32)
    return torch.from_numpy(values.reshape(height, width, picture.shape[2]) / np.float32(255))


def eight_bits(pictures: torch.Tensor) -> Iterator[np.ndarray]:
    """Pictures ``[B, H, W, C]`` of 0..1 one by one as ``(H, W, C)`` uint8, rounded."""
    for picture in pictures:
        values = picture.detach().float().clamp(0, 1).mul(255).add(0.5)
        yield values.to(torch.uint8).cpu().contiguous().numpy()


def fit(
    pictures: torch.Tensor, plan: Fit, method: str, *, proportion: str = "stretch", colour: str = "0, 0, 0"
) -> torch.Tensor:
    """Carry out a plan on ``[B, H, W, C]``."""
    top, left, height, width = plan.crop
    cut = pictures[:, top : top + height, left : left + width]
    inner = scale(cut, plan.height, plan.width, method)
    if not any(plan.border):
        return inner
    left, right, above, below = plan.border
    outer_h, outer_w = plan.height + above + below, plan.width + left + right
    filled = _filling(cut, inner, plan, proportion, colour, (outer_h, outer_w))
    filled[:, above : above + plan.height, left : left + plan.width] = inner
    return filled


def _filling(
    source: torch.Tensor, inner: torch.Tensor, plan: Fit, proportion: str, colour: str, size: tuple[int, int]
) -> torch.Tensor:
    """What lies around a padded picture, ``[B, *size, C]``."""
    batch, _, _, channels = inner.shape
    if proportion == "pillarbox_blur":
        covering = _crop(source.shape[1], source.shape[2], size[0] / size[1], "center")
        top, left, height, width = covering
        part = source[:, top : top + height, left : left + width].movedim(-1, 1)
        # Down to a few pixels and up again: a blur whose width follows the picture's.
        small = F.interpolate(part, size=(max(2, size[0] // 32), max(2, size[1] // 32)), mode="area")
        wide = F.interpolate(small, size=size, mode="bicubic", align_corners=False)
        return (wide.movedim(1, -1).clamp(0, 1) * 0.5).contiguous()
    if proportion == "pad_edge_pixel":
        rows = torch.arange(size[0]).sub(plan.border[2]).clamp(0, plan.height - 1)
        columns = torch.arange(size[1]).sub(plan.border[0]).clamp(0, plan.width - 1)
        return inner[:, rows][:, :, columns].clone()
    if proportion == "pad_edge":
        edges = torch.cat(
            [inner[:, 0], inner[:, -1], inner[:, :, 0], inner[:, :, -1]], dim=1
        )  # all pixels at the border
        return edges.mean(dim=1)[:, None, None].expand(batch, *size, channels).clone()
    return _colour(colour, channels).expand(batch, *size, channels).clone()


def _colour(text: str, channels: int) -> torch.Tensor:
    """``"255, 128, 0"`` or ``"#ff8000"`` as ``channels`` values of 0..1; a missing alpha is opaque."""
    try:
        plain = text.strip().removeprefix("#")
        if text.strip().startswith("#"):
            values = [int(plain[at : at + 2], 16) for at in range(0, len(plain), 2)]
        else:
            values = [int(part) for part in plain.split(",")]
        if len(values) not in (1, 3, 4) or not all(0 <= value <= 255 for value in values):
            raise ValueError
    except ValueError as error:
        raise UsageError(f"The colour {text!r}; give three numbers of 0 to 255 such as 0, 0, 0.") from error
    values = (values * 3 if len(values) == 1 else values) + [255]
    return torch.tensor(values[:channels], dtype=torch.float32) / 255
