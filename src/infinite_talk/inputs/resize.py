"""Resizing of pictures and masks to the generated size, sample for sample like the InfiniteTalk program.

A picture is scaled until it covers the target and the surplus is cut evenly on both sides.
"""

from __future__ import annotations

import math
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from infinite_talk.types import SPATIAL_STRIDE, Size

Pixels = TypeVar("Pixels", bound=np.generic)

TOKEN_STRIDE = 2
"""Latent pixels per side of one transformer token."""


def resize_picture(picture: NDArray[np.uint8], size: Size) -> NDArray[np.uint8]:
    """Scale and centre-crop an RGB picture ``(H, W, 3)`` to ``(size.height, size.width, 3)``.

    Bilinear with antialiasing when shrinking (Pillow's ``BILINEAR``), rounded to 8 bits.
    """
    height, width = _covering(picture.shape[0], picture.shape[1], size)
    scaled = Image.fromarray(picture).resize((width, height), Image.Resampling.BILINEAR)
    return _centre_crop(np.asarray(scaled), size, axis=0)


def to_tensor(picture: NDArray[np.uint8]) -> torch.Tensor:
    """An RGB picture ``(H, W, 3)`` of 0..255 as float32 ``(3, H, W)`` in [-1, 1]."""
    channel_first = torch.from_numpy(np.ascontiguousarray(picture.transpose(2, 0, 1)))
    return (channel_first / 255 - 0.5) * 2


def resize_masks(masks: NDArray[np.bool_], size: Size) -> NDArray[np.bool_]:
    """Scale and centre-crop masks ``(N, H, W)`` to ``(N, size.height, size.width)`` by the nearest pixel."""
    height, width = _covering(masks.shape[1], masks.shape[2], size)
    return _centre_crop(nearest(masks, height, width), size, axis=1)


def latent_masks(masks: NDArray[np.bool_], size: Size) -> NDArray[np.bool_]:
    """Masks of the source ``(N, H, W)`` on the latent grid ``(N, size.height / 8, size.width / 8)``."""
    return nearest(resize_masks(masks, size), size.height // SPATIAL_STRIDE, size.width // SPATIAL_STRIDE)


def token_masks(latent: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Latent masks ``(N, H, W)`` on the transformer's token grid ``(N, H / 2, W / 2)``."""
    return nearest(latent, latent.shape[1] // TOKEN_STRIDE, latent.shape[2] // TOKEN_STRIDE)


def nearest(planes: NDArray[np.bool_], height: int, width: int) -> NDArray[np.bool_]:
    """Resize planes ``(N, H, W)`` by the nearest pixel, like ``torch.nn.functional.interpolate``."""
    rows, columns = (
        # Pixel i comes from floor(i * old / new); torch works in float32, which decides borderline cases.
        np.minimum(
            (np.arange(new, dtype=np.float32) * (np.float32(old) / np.float32(new))).astype(np.int64), old - 1
        )
        for old, new in ((planes.shape[1], height), (planes.shape[2], width))
    )
    return planes[:, rows[:, None], columns]


def _covering(height: int, width: int, size: Size) -> tuple[int, int]:
    """Height and width of the scaled picture that covers ``size`` in both directions."""
    scale = max(size.height / height, size.width / width)
    return math.ceil(scale * height), math.ceil(scale * width)


def _centre_crop(array: NDArray[Pixels], size: Size, *, axis: int) -> NDArray[Pixels]:
    """Cut the middle out; ``axis`` is the first of the two picture axes. Odd surpluses round to even."""
    top, left = (
        round((have - want) / 2)
        for have, want in zip(array.shape[axis : axis + 2], (size.height, size.width), strict=True)
    )
    index = (slice(None),) * axis + (slice(top, top + size.height), slice(left, left + size.width))
    return array[index]
