"""Pictures of a finished video: one to show in a list, and a sheet of many for a player's time line.

Only files that this program has written are read here: mp4, a key frame at the beginning of each window.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path

import av
from PIL import Image

from infinite_talk.errors import InputError
from infinite_talk.media.durable import write_bytes
from infinite_talk.types import FPS

THUMBNAIL = 512
"""Pixels of a thumbnail's longer side at most."""
TILE = 160
"""Pixels of the longer side of a picture on a sheet."""
TILES = 100
"""Most pictures on a sheet: ten rows of ten."""


def write_thumbnail(video: Path, path: Path) -> None:
    """Write the WebP picture ``path`` of the frame a third into the video; the first is often a closed mouth.

    Raises:
        InputError: ``video`` is not an mp4 file with pictures.
        NoSpaceError: ``path`` cannot be written.
    """
    count = _count(video)
    (picture,) = _frames(video, [count // 3], THUMBNAIL)
    _save(picture, path, "WEBP", quality=85)


def write_sprite_sheet(video: Path, path: Path) -> None:
    """Write the JPEG picture ``path``: evenly spaced frames, row by row, ten to a row, all of one size.

    Picture ``i`` of ``n`` shows the time ``i / n`` of the video's length; ``n`` is ``TILES``, or the number of frames
    if that is less. Places that are left in the last row are black.

    Raises:
        InputError: ``video`` is not an mp4 file with pictures.
        NoSpaceError: ``path`` cannot be written.
    """
    count = _count(video)
    shown = min(TILES, count)
    wanted = [tile * count // shown for tile in range(shown)]
    columns = min(10, shown)
    sheet: Image.Image | None = None
    for tile, picture in enumerate(_frames(video, wanted, TILE)):
        if sheet is None:
            sheet = Image.new("RGB", (columns * picture.width, math.ceil(shown / columns) * picture.height))
        sheet.paste(picture, (tile % columns * picture.width, tile // columns * picture.height))
    assert sheet is not None, "a video has at least one frame"
    _save(sheet, path, "JPEG", quality=80)


def _count(video: Path) -> int:
    with _reading(video), video.open("rb") as file, av.open(file, format="mp4") as container:
        count = int(container.streams.video[0].frames)
    if count < 1:
        raise InputError(f"{video.name} has no pictures in it.")
    return count


def _frames(video: Path, numbers: Sequence[int], side: int) -> Iterator[Image.Image]:
    """The frames of these rising numbers, made small. Decoding begins at the key frame before each."""
    with _reading(video), video.open("rb") as file, av.open(file, format="mp4") as container:
        stream = container.streams.video[0]
        for number in numbers:
            container.seek(round(Fraction(number, FPS) / stream.time_base), stream=stream)
            for frame in container.decode(stream):
                if round(frame.pts * frame.time_base * FPS) >= number:
                    yield _small(frame.to_image(), side)
                    break


def _small(picture: Image.Image, side: int) -> Image.Image:
    scale = min(1.0, side / max(picture.size))
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    return picture.resize(size, Image.Resampling.LANCZOS)


def _save(picture: Image.Image, path: Path, form: str, *, quality: int) -> None:
    encoded = io.BytesIO()
    picture.save(encoded, form, quality=quality)
    write_bytes(path, encoded.getvalue())


@contextmanager
def _reading(video: Path) -> Iterator[None]:
    """Say which file could not be read."""
    try:
        yield
    except (OSError, ValueError, IndexError, av.FFmpegError) as error:
        raise InputError(f"{video.name} cannot be shown: expected an mp4 file with pictures.") from error
