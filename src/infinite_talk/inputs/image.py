"""Images: any picture file of an allowed format becomes upright 8-bit sRGB."""

from __future__ import annotations

import io
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms, ImageOps

from infinite_talk.errors import InputError
from infinite_talk.inputs.files import open_file, shown

FORMATS: Final = ("PNG", "JPEG", "WEBP", "BMP", "GIF")
MIN_SIDE = 32
"""Pixels of the shorter side; below that there is no face to animate."""
MAX_ASPECT = 6.0
"""Longer side / shorter side. The widest official size has 4.6."""
BACKGROUND = (255, 255, 255)
"""What lies behind transparent pixels."""


@dataclass(frozen=True, slots=True)
class StillPicture:
    """A ``types.Pictures`` that shows the same image at every frame."""

    picture: NDArray[np.uint8]  # (H, W, 3)

    @property
    def still(self) -> bool:
        """Always true."""
        return True

    def __getitem__(self, frame: int) -> NDArray[np.uint8]:
        """The image."""
        return self.picture


def read_image(path: Path, *, max_pixels: int) -> tuple[StillPicture, list[str]]:
    """Read a portrait.

    Args:
        path: PNG, JPEG, WebP, BMP or GIF, recognised by content.
        max_pixels: largest width x height, checked before any pixel is decoded.

    Returns:
        the upright picture, and one line for everything that was changed.

    Raises:
        InputError: ``image_not_found``, ``image_empty``, ``image_unsupported``, ``image_too_large``,
            ``image_too_small``, ``image_aspect``, ``image_corrupt``.
    """
    picture, notes = _read_pixels(path, "image", max_pixels)
    check_shape(picture.shape[0], picture.shape[1], path, "image")
    return StillPicture(picture), notes


def read_mask(path: Path, height: int, width: int, *, max_pixels: int) -> NDArray[np.bool_]:
    """Read the mask of one person: bright pixels (above the middle) belong to the person.

    Args:
        path: an image of the upright source's size; transparent pixels count as dark.
        height: of the source.
        width: likewise.
        max_pixels: as in ``read_image``.

    Returns:
        ``(height, width)``.

    Raises:
        InputError: as ``read_image`` with ``mask_...``; ``mask_size`` and ``mask_empty`` besides.
    """
    picture, _ = _read_pixels(path, "mask", max_pixels, background=(0, 0, 0))
    if picture.shape[:2] != (height, width):
        raise InputError(
            f"The mask {shown(path)} has {picture.shape[1]}x{picture.shape[0]} pixels (width x height) but "
            f"the source {width}x{height}; they must be equal.",
            code="mask_size",
        )
    mask: NDArray[np.bool_] = picture.mean(axis=2) > 127.5
    if not mask.any():
        raise InputError(
            f"The mask {shown(path)} is dark everywhere; paint the person white.", code="mask_empty"
        )
    return mask


def check_shape(height: int, width: int, path: Path, what: str) -> None:
    """Refuse pictures that are too small or too narrow to be animated.

    Raises:
        InputError: ``<what>_aspect`` or ``<what>_too_small``.
    """
    if min(height, width) < MIN_SIDE:
        raise InputError(
            f"{shown(path)} has {width}x{height} pixels (width x height); sides need {MIN_SIDE} or more.",
            code=f"{what}_too_small",
        )
    if max(height, width) > MAX_ASPECT * min(height, width):
        raise InputError(
            f"{shown(path)} has {width}x{height} pixels (width x height); the longer side may be at most "
            f"{MAX_ASPECT:g} times the shorter one. Crop it.",
            code=f"{what}_aspect",
        )


def check_pixels(height: int, width: int, path: Path, what: str, max_pixels: int) -> None:
    """Refuse pictures that need too much memory.

    Raises:
        InputError: ``<what>_too_large``.
    """
    if height * width > max_pixels:
        raise InputError(
            f"{shown(path)} has {width}x{height} pixels (width x height), {height * width / 1e6:.0f} "
            f"million; at most {max_pixels / 1e6:.0f} million are accepted. Scale it down.",
            code=f"{what}_too_large",
        )


def _read_pixels(
    path: Path, what: str, max_pixels: int, background: tuple[int, int, int] = BACKGROUND
) -> tuple[NDArray[np.uint8], list[str]]:
    """Open, check, decode and convert one picture to upright sRGB ``(H, W, 3)``."""
    with open_file(path, what) as file, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow warns of sizes that we check ourselves
        try:
            image = Image.open(file, formats=FORMATS)
        except Image.DecompressionBombError as error:
            raise InputError(
                f"{shown(path)} has far more than the {max_pixels / 1e6:.0f} million pixels accepted.",
                code=f"{what}_too_large",
            ) from error
        except Exception as error:
            # Damaged headers end in a dozen unrelated exceptions, from struct.error to OverflowError.
            raise InputError(
                f"{shown(path)} is no {what} that can be read; use {', '.join(FORMATS)}.",
                code=f"{what}_unsupported",
            ) from error
        check_pixels(image.height, image.width, path, what, max_pixels)
        try:
            return _convert(image, path, background)
        except Exception as error:
            raise InputError(
                f"{shown(path)} is damaged and cannot be decoded to its end; save or download it again.",
                code=f"{what}_corrupt",
            ) from error


def _convert(
    image: Image.Image, path: Path, background: tuple[int, int, int]
) -> tuple[NDArray[np.uint8], list[str]]:
    """Decode the first picture of a file and bring it to upright sRGB over a background."""
    notes = []
    # Photos of some phones (MPO) hold a second view beside the picture; that is no animation.
    if getattr(image, "is_animated", False) and image.format != "MPO":
        notes.append(f"{shown(path)} is animated; its first picture is used.")
    image.load()
    profile = image.info.get("icc_profile")
    image = _to_eight_bits(ImageOps.exif_transpose(image))
    alpha = None
    if image.mode in {"LA", "PA", "RGBA", "La", "RGBa"} or "transparency" in image.info:
        image = image.convert("RGBA")
        alpha = image.getchannel("A")
        image = image.convert("RGB")
    image = _to_srgb(image, profile, path, notes)
    if alpha is not None and alpha.getextrema() != (255, 255):
        notes.append(f"{shown(path)} is transparent in places; a plain colour was put behind it.")
        image = Image.composite(image, Image.new("RGB", image.size, background), alpha)
    return np.array(image, np.uint8), notes


def _to_eight_bits(image: Image.Image) -> Image.Image:
    """Grey of 16 bits as 8-bit grey; the rest unchanged. Pillow itself would cut off all above 255."""
    if not image.mode.startswith("I"):
        return image
    values = np.asarray(image).astype(np.float64)
    return Image.fromarray(np.clip(values / 257 + 0.5, 0, 255).astype(np.uint8))


def _to_srgb(image: Image.Image, profile: bytes | None, path: Path, notes: list[str]) -> Image.Image:
    """Apply an embedded colour profile; without one, the colours are taken as sRGB."""
    if profile:
        try:
            source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            target = ImageCms.createProfile("sRGB")
            plain = image.convert("RGB") if image.mode in {"P", "1"} else image
            return ImageCms.profileToProfile(plain, source, target, outputMode="RGB") or plain
        except (ImageCms.PyCMSError, OSError, ValueError):
            # The profile is damaged or made for another kind of pixels.
            notes.append(f"{shown(path)}: its colour profile cannot be used; colours are taken as sRGB.")
    return image.convert("RGB")
