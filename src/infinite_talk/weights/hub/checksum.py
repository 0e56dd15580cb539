"""Checksums as the hub has them: sha256 of large files, git's object name (SHA-1) of small ones."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from pathlib import Path

_CHUNK = 1 << 22
_SHA256, _GIT = 64, 40  # digits


def is_checksum(text: str) -> bool:
    """Whether a text can be one of the two."""
    return re.fullmatch(rf"[0-9a-f]{{{_SHA256}}}|[0-9a-f]{{{_GIT}}}", text) is not None


def checksum(path: Path, like: str, progress: Callable[[int], None] | None = None) -> str:
    """The checksum of a file, of the same kind as another one.

    Args:
        like: 64 digits for sha256, 40 for git's object name.
        progress: hears the bytes read so far.
    """
    digest = hashlib.sha256() if len(like) == _SHA256 else _git_hash(path.stat().st_size)
    done = 0
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
            done += len(chunk)
            if progress:
                progress(done)
    return digest.hexdigest()


def _git_hash(size: int) -> hashlib._Hash:
    """Git hashes a header with the size before the content; not used for security here, but for identity."""
    digest = hashlib.sha1(usedforsecurity=False)
    digest.update(b"blob %d\0" % size)
    return digest
