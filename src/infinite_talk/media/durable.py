"""Files that are either absent, old or complete: written under a temporary name, synced, renamed."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from infinite_talk.errors import NoSpaceError

PART = ".part"
"""Ending of a file that is being written; such a file may be deleted at any time nobody writes it."""

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_FORBIDDEN = {errno.EACCES, errno.EPERM, errno.EROFS}


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary name beside ``path``; after the body that file, now on the disk, becomes ``path``.

    If the body fails the temporary file is deleted, which also gives a full disk its space back, and ``path``
    is as before.

    Raises:
        NoSpaceError: the disk is full or the folder cannot be written.
    """
    part = path.with_name(path.name + PART)
    try:
        with explained(path):
            yield part
            sync(part)
            part.replace(path)
            sync(path.parent)
    except BaseException:
        with suppress(OSError):
            part.unlink()
        raise


def write_bytes(path: Path, data: bytes) -> None:
    """Write a small file durably; errors as :func:`replacing`."""
    with replacing(path) as part:
        part.write_bytes(data)


def sync(path: Path) -> None:
    """Wait until a file's bytes, or a folder's names, are on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sha256_of(path: Path) -> str:
    """Hexadecimal SHA-256 of a file, read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turn the operating system's refusals while ``path`` is made into a sentence with a way out."""
    try:
        yield
    except OSError as error:
        raise _explain(path, error) from error


def _explain(path: Path, error: OSError) -> NoSpaceError:
    if error.errno in _FULL:
        return NoSpaceError(
            f"The disk is full: {path} could not be written{_free(path.parent)}. What was finished before is "
            "kept; free some space and run the same command again to continue."
        )
    if error.errno in _FORBIDDEN:
        return NoSpaceError(
            f"No permission to write {path}. Choose an output in a folder that you can write to, or change "
            "the permissions and run the same command again.",
            code="not_writable",
        )
    reason = error.strerror or str(error)
    return NoSpaceError(
        f"{path} could not be written: {reason}. Choose an output in an ordinary folder.", code="not_writable"
    )


def _free(folder: Path) -> str:
    try:
        return f" ({shutil.disk_usage(folder).free / 1e6:.0f} MB are free there)"
    except OSError:
        return ""
