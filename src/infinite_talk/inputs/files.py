"""The door for files: every user's file is opened here, and only regular files are."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final, TypeAlias

import av
from av.container import InputContainer

from infinite_talk.errors import InputError

FORMATS: Final = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,wav,w64,mp3,flac,ogg,aac,aiff,caf,au,flv,asf,mpeg,mpegts"
)
"""Containers that are opened. Playlists and scripts (hls, concat, dash) are not: they name other files."""
Frame: TypeAlias = Any
"""A decoded ``av.AudioFrame`` or ``av.VideoFrame``; PyAV's types say too little to be of use."""
Stream: TypeAlias = Any
"""An ``av`` stream."""
MAX_STREAMS = 64
"""A recording or film has a handful; thousands are an attack."""

_LENIENT: dict[str, Any] = {"metadata_errors": "replace"} if int(av.__version__.split(".")[0]) < 19 else {}
"""Titles in a broken encoding are no reason to refuse a file. From PyAV 19 on it sees to that itself."""


@dataclass(frozen=True, slots=True)
class Stamp:
    """Tells whether a file is still the one that was checked."""

    size: int
    modified_ns: int


def shown(path: Path) -> str:
    """A file's name for messages: quoted, control characters escaped, at most 80 characters."""
    name = repr(path.name or str(path))
    return name if len(name) <= 80 else f"{name[:60]}...{name[-16:]}"


@contextmanager
def open_file(path: Path, what: str) -> Iterator[BinaryIO]:
    """Open a regular, non-empty file for reading.

    Args:
        path: as the user gave it; never interpreted as anything but a file of this machine.
        what: ``"image"``, ``"audio"``, ... for messages and error codes.

    Raises:
        InputError: ``<what>_not_found``, ``<what>_unreadable`` or ``<what>_empty``.
    """
    try:
        # Non-blocking, so that a named pipe without a writer does not hang before it is recognised.
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    except (OSError, ValueError) as error:
        # A ValueError is a NUL character in the name.
        number = (error.errno or 0) if isinstance(error, OSError) else errno.ENOENT
        absent = number in {errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG}
        reason = "does not exist" if absent else f"cannot be opened ({os.strerror(number)})"
        code = f"{what}_not_found" if absent else f"{what}_unreadable"
        raise InputError(
            f"The {what} file {shown(path)} {reason}; give the path of a file.", code=code
        ) from error
    status = os.fstat(handle)
    if not stat.S_ISREG(status.st_mode):
        os.close(handle)
        raise InputError(
            f"{shown(path)} was given as {what} but is a folder or device; give a file.",
            code=f"{what}_unreadable",
        )
    with os.fdopen(handle, "rb") as file:
        if status.st_size == 0:
            raise InputError(f"The {what} file {shown(path)} is empty (0 bytes).", code=f"{what}_empty")
        yield file


def stamp_of(file: BinaryIO) -> Stamp:
    """The stamp of an open file."""
    status = os.fstat(file.fileno())
    return Stamp(status.st_size, status.st_mtime_ns)


@contextmanager
def open_container(path: Path, what: str, *, stamp: Stamp | None = None) -> Iterator[InputContainer]:
    """Open a media file by its content, whatever its name, from an open file and with few formats allowed.

    Args:
        path: of the file.
        what: ``"audio"`` or ``"video"``.
        stamp: if given, the file must still have it.

    Raises:
        InputError: as ``open_file``; ``<what>_unsupported`` for other content; ``<what>_changed`` when the
            stamp differs.
    """
    with open_file(path, what) as file:
        if stamp is not None and stamp_of(file) != stamp:
            raise InputError(
                f"The {what} file {shown(path)} changed while it was in use; start again.",
                code=f"{what}_changed",
            )
        try:
            container = av.open(
                file,
                options={"format_whitelist": FORMATS, "max_streams": str(MAX_STREAMS)},
                **_LENIENT,
            )
        except (av.FFmpegError, OSError, ValueError) as error:
            raise InputError(
                f"{shown(path)} is no {what} file that can be read, or its beginning is damaged; use a "
                f"common format such as {'WAV, MP3, M4A or FLAC' if what == 'audio' else 'MP4, MOV or MKV'}.",
                code=f"{what}_unsupported",
            ) from error
        with container:
            yield container
