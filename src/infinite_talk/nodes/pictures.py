"""Pictures as ComfyUI hands them about, ``(B, H, W, C)`` in 0..1, and as the models want them."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image

from infinite_talk.errors import InputError, UsageError

SIDE = 16
"""Pixels of a transformer token: both sides of a generated video are multiples of it."""


def checked_pictures(what: str, pictures: object) -> torch.Tensor:
    """The pictures of an IMAGE, ``(B, H, W, 3)`` float32; a fourth channel is dropped.

    Raises:
        InputError: it is no such tensor, or empty.
    """
    if not isinstance(pictures, torch.Tensor) or pictures.dim() != 4 or pictures.shape[-1] not in (3, 4):
        came = tuple(pictures.shape) if isinstance(pictures, torch.Tensor) else type(pictures).__name__
        raise InputError(
            f"{what} is {came}; an IMAGE is a tensor (pictures, height, width, 3) with values from 0 to 1."
        )
    if not pictures.numel():
        raise InputError(f"{what} has no picture (shape {tuple(pictures.shape)}).")
    return pictures[..., :3].detach().to("cpu", torch.float32)


def as_video(pictures: torch.Tensor) -> torch.Tensor:
    """``(B, H, W, 3)`` in 0..1 as frames ``(3, B, H, W)`` in [-1, 1]."""
    return pictures.permute(3, 0, 1, 2) * 2 - 1


def as_pictures(video: torch.Tensor) -> torch.Tensor:
    """Frames ``(3, F, H, W)`` as pictures ``(F, H, W, 3)``, a new tensor with the values as they are."""
    return video.permute(1, 2, 3, 0).clone(memory_format=torch.contiguous_format)


def stretched(pictures: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """Pictures ``(B, H, W, 3)`` at another size, whatever the aspect; Lanczos on 8-bit levels (Pillow's)."""
    if tuple(pictures.shape[1:3]) == (height, width):
        return pictures
    levels = (pictures.clamp(0, 1) * 255).round().to(torch.uint8).numpy()
    scaled = [
        np.asarray(Image.fromarray(one).resize((width, height), Image.Resampling.LANCZOS)) for one in levels
    ]
    return torch.from_numpy(np.stack(scaled)).float() / 255


def check_size(width: int, height: int) -> None:
    """Refuse a size that does not divide into tokens.

    Raises:
        UsageError: a side is no multiple of 16; says the nearest.
    """
    if width % SIDE or height % SIDE:
        near = "x".join(str(max(SIDE, round(side / SIDE) * SIDE)) for side in (width, height))
        raise UsageError(
            f"The size {width}x{height} does not divide into tokens; both sides must be multiples of {SIDE}. The "
            f"nearest is {near}."
        )


def whole_frames(frames: int) -> int:
    """The most frames of the form 4n + 1 that are not more."""
    return (frames - 1) // 4 * 4 + 1
