"""Frames that a sampler left on the disk, read back."""

from __future__ import annotations

from itertools import chain
from pathlib import Path

import numpy as np
import torch
from av.error import FFmpegError
from PIL import Image, UnidentifiedImageError

from infinite_talk.errors import InputError
from infinite_talk.inputs.files import open_container

FILMS = (".mp4", ".mkv", ".mov", ".webm")


def frames_at(path: Path) -> torch.Tensor:
    """Pictures ``(T, H, W, 3)`` in 0..1: of a folder of pictures by name, or of a film.

    Raises:
        InputError: there are none, or they cannot be read.
    """
    pictures = sorted(path.glob("*.png")) if path.is_dir() else []
    films = [path] if path.is_file() else sorted(chain(*(path.glob(f"*{end}") for end in FILMS)))
    try:
        if pictures:
            levels = _stacked([_picture(file) for file in pictures])
        elif films:
            with open_container(films[0], "video") as film:
                levels = _stacked([frame.to_ndarray(format="rgb24") for frame in film.decode(video=0)])
        else:
            raise InputError(
                f"There are no frames in {path}; was the folder moved or emptied?", code="frames_missing"
            )
    except (OSError, ValueError, IndexError, UnidentifiedImageError, FFmpegError) as error:
        raise InputError(f"The frames in {path} cannot be read ({error}).", code="frames_corrupt") from error
    return levels


def _picture(file: Path) -> np.ndarray:
    with Image.open(file, formats=["PNG"]) as picture:
        return np.asarray(picture.convert("RGB"))


def _stacked(levels: list[np.ndarray]) -> torch.Tensor:
    """8-bit pictures as numbers, one after another, so that they stand in memory once."""
    out = torch.empty(len(levels), *levels[0].shape)
    for i, one in enumerate(levels):
        out[i] = torch.from_numpy(one.copy()).float() / 255
    return out
