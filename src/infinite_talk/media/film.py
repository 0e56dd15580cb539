"""A whole film at any frame rate from pictures that come one by one, with its sound: one file, complete or absent."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from fractions import Fraction
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from infinite_talk.media.durable import explained, replacing
from infinite_talk.media.encode import write_pictures
from infinite_talk.media.mux import join
from infinite_talk.types import Soundtrack


def write_film(
    target: Path,
    pictures: Iterable[NDArray[np.uint8]],
    *,
    height: int,
    width: int,
    rate: Fraction,
    crf: int,
    soundtrack: Soundtrack | None,
    tags: Mapping[str, str],
) -> int:
    """Write an mp4 file (H.264 and AAC). One picture is held at a time.

    Args:
        target: the file; its folder is made.
        pictures: at least one, RGB ``(height, width, 3)``; both sides even.
        height: of the pictures.
        width: likewise.
        rate: pictures per second.
        crf: constant rate factor of x264, 0 (lossless) to 51.
        soundtrack: is cut, or continued with silence, to the pictures' length.
        tags: metadata, see ``mux.join``.

    Returns:
        the number of pictures.

    Raises:
        NoSpaceError: the file cannot be written.
    """
    with explained(target):
        target.parent.mkdir(parents=True, exist_ok=True)
    silent = target.with_name(target.name + ".pictures.part")
    try:
        with explained(target):
            count = write_pictures(silent, pictures, height=height, width=width, crf=crf, rate=rate)
        with replacing(target) as part:
            join([silent], part, frames=count, soundtrack=soundtrack, tags=tags, rate=rate)
    finally:
        silent.unlink(missing_ok=True)
    return count
