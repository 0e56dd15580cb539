"""The media of a job: paths of its request, relative in the store and absolute where they are opened."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from infinite_talk.media.durable import sha256_of
from infinite_talk.media.recipe import sidecar_of
from infinite_talk.request import Request


def media_of(request: Request) -> tuple[Path, ...]:
    """All files that a request names."""
    speakers = [path for speaker in request.speakers for path in (speaker.audio, speaker.mask)]
    return tuple(path for path in (request.image, request.video, *speakers) if path is not None)


def rooted(request: Request, folder: Path) -> Request:
    """The request with its paths made absolute, from ``folder``."""
    return _with_paths(request, lambda path: folder / path)


def _with_paths(request: Request, change: Callable[[Path], Path]) -> Request:
    def changed(path: Path | None) -> Path | None:
        return None if path is None else change(path)

    speakers = tuple(
        replace(speaker, audio=changed(speaker.audio), mask=changed(speaker.mask))
        for speaker in request.speakers
    )
    return replace(request, image=changed(request.image), video=changed(request.video), speakers=speakers)


def delivered(video: Path) -> bool:
    """Whether a video is there as it was finished: the file beside it has its hash."""
    try:
        told = json.loads(sidecar_of(video).read_bytes())["file"]["sha256"]
        return bool(sha256_of(video) == told)
    except (OSError, ValueError, KeyError, TypeError):
        return False
