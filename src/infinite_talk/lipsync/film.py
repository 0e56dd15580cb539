"""Reads a finished video for measuring: pictures at 25 per second and the sound that lies under them."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import av
import numpy as np
from numpy.typing import NDArray

from infinite_talk.errors import InputError
from infinite_talk.types import FPS

_FORMATS: Final = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts"
"""Containers that are opened; playlists and scripts, which name other files, are not."""
_LONGEST = 4 * 3600 * FPS
"""Frames after which reading stops with an error: a damaged time stamp must not fill the memory."""


@contextmanager
def _open(path: Path) -> Iterator[Any]:
    """A container over an open file, never over a name that FFmpeg could interpret."""
    try:
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
    except (OSError, ValueError) as error:
        raise InputError(
            f"The video {path.name!r} cannot be opened ({error}); give the path of a video file.",
            code="video_not_found",
        ) from error
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise InputError(f"{path.name!r} is a folder or device; give a video file.", code="video_unreadable")
    with os.fdopen(handle, "rb") as file:
        try:
            container = av.open(file, "r", options={"format_whitelist": _FORMATS})
        except (av.FFmpegError, ValueError) as error:
            raise InputError(
                f"{path.name!r} is not a video that is read here ({error}); give an mp4, mov, mkv or webm.",
                code="video_unreadable",
            ) from error
        with container:
            yield container


def _decoded(container: Any, stream: Any, path: Path) -> Iterator[Any]:  # noqa: ANN401 - PyAV types say little
    try:
        yield from container.decode(stream)
    except av.FFmpegError as error:
        raise InputError(
            f"{path.name!r} is damaged and could not be read to its end ({error}).", code="video_corrupt"
        ) from error


def pictures(path: Path) -> Iterator[NDArray[np.uint8]]:
    """Frames (H, W, 3) at 25 per second, by time: a slower video repeats frames, a faster one loses some.

    Raises:
        InputError: ``video_not_found``, ``video_unreadable``, ``video_corrupt``, ``no_video_stream``.
    """
    with _open(path) as container:
        if not container.streams.video:
            raise InputError(f"{path.name!r} has no picture; give a video.", code="no_video_stream")
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        begin, emitted, shown, last_time = None, 0, None, 0.0
        for number, frame in enumerate(_decoded(container, stream, path)):
            time = float(frame.time) if frame.time is not None else number / FPS
            begin = time if begin is None else begin
            # What was shown until now lasts up to this frame; a quarter frame forgives rounding.
            while shown is not None and (emitted + 0.25) / FPS < time - begin:
                yield shown
                emitted += 1
                _check_length(emitted, path)
            shown, last_time = frame.to_ndarray(format="rgb24"), time - begin
        if shown is not None:
            while emitted <= round(last_time * FPS):
                yield shown
                emitted += 1


def _check_length(emitted: int, path: Path) -> None:
    if emitted > _LONGEST:
        raise InputError(f"{path.name!r} says that it is longer than four hours.", code="video_too_long")


def sound(path: Path) -> tuple[NDArray[np.float32], int] | None:
    """The first sound track: mono samples from the first picture on, and their rate; None without one."""
    with _open(path) as container:
        if not container.streams.audio:
            return None
        zero = _first_picture_time(container)
        stream = container.streams.audio[0]
        rate = int(stream.rate)
        mono = av.AudioResampler(format="fltp", layout="mono", rate=rate)
        parts: list[NDArray[np.float32]] = []
        lead = 0
        for frame in _decoded(container, stream, path):
            if not parts:
                lead = round((float(frame.time or 0.0) - zero) * rate)
            parts += [np.asarray(out.to_ndarray()[0], np.float32) for out in mono.resample(frame)]
    samples = np.concatenate(parts) if parts else np.zeros(0, np.float32)
    if lead < 0:
        return samples[-lead:], rate
    return np.concatenate((np.zeros(min(lead, 60 * rate), np.float32), samples)), rate


def _first_picture_time(container: Any) -> float:  # noqa: ANN401
    if not container.streams.video:
        return 0.0
    stream = container.streams.video[0]
    return float((stream.start_time or 0) * stream.time_base)


__all__ = ["pictures", "sound"]
