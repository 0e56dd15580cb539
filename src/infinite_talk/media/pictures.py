"""``PictureFolder``: a video that grows as numbered PNG files, ``frame_00000.png`` onwards, and is read from them."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from infinite_talk.errors import InputError
from infinite_talk.media.durable import explained, write_bytes
from infinite_talk.types import Clip

NAME = "frame_{:05d}.png"
_NUMBERED = re.compile(r"frame_(\d{5,})\.png")
_COMPRESSION = 1  # of zlib: half the time of the default, a few percent larger


class PictureFolder:
    """Takes clips in order (``media.writer.Taker``). A folder that holds a video already is left alone."""

    def __init__(self, wanted: Path) -> None:
        """Make the folder ``wanted``, or the first of ``wanted-2``, ``wanted-3``, ... that holds no frames.

        Raises:
            NoSpaceError: it cannot be made.
        """
        number = 1
        folder = wanted
        while frames_in(folder):
            number += 1
            folder = wanted.with_name(f"{wanted.name}-{number}")
        with explained(folder):
            folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.frames = folder, 0

    def add(self, clip: Clip) -> None:
        """Write a clip's frames after those before.

        Raises:
            NoSpaceError: the disk is full.
        """
        for picture in clip.frames.numpy():
            png = io.BytesIO()
            Image.fromarray(picture).save(png, "PNG", compress_level=_COMPRESSION)
            path = self.folder / NAME.format(self.frames)
            with explained(path):
                write_bytes(path, png.getvalue())
            self.frames += 1


def frames_in(folder: Path) -> list[Path]:
    """The numbered pictures of a folder, in order; none where there is no folder."""
    if not folder.is_dir():
        return []
    found = [(int(match[1]), path) for path in folder.iterdir() if (match := _NUMBERED.fullmatch(path.name))]
    return [path for _, path in sorted(found)]


def read_frames(folder: Path) -> Iterator[NDArray[np.uint8]]:
    """The frames of a folder in order, each ``(H, W, 3)``.

    Raises:
        InputError: there are none, or one cannot be read.
    """
    paths = frames_in(folder)
    if not paths:
        raise InputError(f"{folder} has no frames of a video (frame_00000.png onwards).")
    for path in paths:
        try:
            with Image.open(path, formats=["PNG"]) as picture:
                yield np.asarray(picture.convert("RGB"))
        except (OSError, SyntaxError) as error:
            raise InputError(f"The frame {path} cannot be read: {error}") from error
