"""Where the clips of a long video go: into one tensor, or to disk with two clips in memory at most."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch

from infinite_talk.media.pictures import PictureFolder
from infinite_talk.media.take import Take
from infinite_talk.media.writer import Writer
from infinite_talk.nodes.longvideo import Made
from infinite_talk.types import Clip, Size

_log = logging.getLogger(__name__)


def gather(clips: Iterable[Made], length: int, size: Size, output: Path | None) -> dict[str, Any]:
    """The result of the sampler: ``{"video": (T, H, W, 3) float32 in [-1, 1] or None, "output_path": str}``.

    With an ``output`` the frames are pictures in that folder, and ``video`` is ``None``: they are read from there. (The
    node pack gives one black picture of 64 x 64 then.)
    """
    if output is not None:
        return {"video": None, "output_path": str(to_disk(clips, output))}
    video = torch.empty(length, size.height, size.width, 3)  # once: joined clips would stand in memory twice
    at = 0
    for made in clips:
        video[at : at + len(made.frames)] = made.frames
        at += len(made.frames)
    assert at == length, f"{at} frames of {length}"
    return {"video": video, "output_path": ""}


def to_disk(clips: Iterable[Made], output: Path) -> Path:
    """Write the frames while the next clip is made; the folder that was taken.

    Raises:
        NoSpaceError: the disk is full, or the folder cannot be written.
    """
    folder = PictureFolder(output)
    with Writer(folder) as writer:
        for made in clips:
            writer.add(_clip(made))
    _log.info("%d frames are in %s.", folder.frames, folder.folder)
    return folder.folder


def to_take(clips: Iterable[Made], take: Take) -> dict[str, Any]:
    """Put the windows that are missing into a take, each while the next one is made; its owner finishes it.

    Raises:
        NoSpaceError: the disk is full; the windows before stay.
    """
    with Writer(take) as writer:
        for made in clips:
            writer.add(_clip(made))
    return {"video": None, "output_path": ""}


def _clip(made: Made) -> Clip:
    """A window as files have it: 8 bits for each colour."""
    levels = ((made.frames + 1) / 2 * 255).round().clamp(0, 255).to(torch.uint8)
    return Clip(made.window, levels, made.motion, made.seconds)
