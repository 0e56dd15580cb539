"""Who is here: locks that the kernel lets go of when their process dies, however it dies."""

from __future__ import annotations

import fcntl
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path

from infinite_talk.errors import NoSpaceError, StoreError
from infinite_talk.jobs.types import DataFolder

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


@lru_cache(maxsize=1)
def this_host() -> str:
    """Name of this machine since it was started: locks can be looked at only on the kernel that holds them."""
    boot = _BOOT_ID.read_text("ascii").strip() if _BOOT_ID.is_file() else ""
    return f"{platform.node()}:{boot}"[:200]


class Presence:
    """The lock files of workers in a data folder."""

    def __init__(self, folder: DataFolder) -> None:
        self._folder = folder.workers

    @contextmanager
    def stay(self, worker: str) -> Iterator[None]:
        """While the block runs, everybody on this machine can see that the worker lives.

        Raises:
            NoSpaceError: the lock file cannot be made.
        """
        path = self._path(worker)
        handle = _hold(path)
        if handle is None:
            raise StoreError(f"A worker named {worker} runs already.", code="store_in_use")
        try:
            yield
        finally:
            with suppress(OSError):
                path.unlink()
            os.close(handle)

    def alive(self, host: str, worker: str) -> bool | None:
        """Whether a worker lives; ``None`` when it is on another machine. The form of ``leases.Alive``."""
        if host != this_host():
            return None
        return is_held(self._path(worker))

    def tidy(self) -> None:
        """Remove the lock files of the dead."""
        for path in self._folder.glob("*.lock"):
            if not is_held(path):
                with suppress(OSError):
                    path.unlink()

    def _path(self, worker: str) -> Path:
        return self._folder / f"{worker}.lock"


@contextmanager
def only_server(folder: DataFolder) -> Iterator[None]:
    """While the block runs, no other server can use the data folder.

    Raises:
        StoreError: ``store_in_use``. NoSpaceError: the folder cannot be written.
    """
    handle = _hold(folder.lock)
    if handle is None:
        with suppress(OSError):
            owner = folder.lock.read_text("ascii", "replace").strip()
            raise StoreError(
                f"{folder.root} is in use by another server (process {owner or 'unknown'}). Use that one, stop "
                "it, or give another --data-dir.",
                code="store_in_use",
            )
        raise StoreError(f"{folder.root} is in use by another server.", code="store_in_use")
    try:
        yield
    finally:
        os.close(handle)


def is_held(path: Path) -> bool:
    """Whether some process holds the lock of a file."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(handle)
    return False


def _hold(path: Path) -> int | None:
    """The handle of a new lock, or ``None`` when another process has it."""
    while True:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise NoSpaceError(
                f"{path} cannot be made: {error.strerror}. Choose another folder: --data-dir.",
                code="not_writable",
            ) from error
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(handle)
            return None
        with suppress(OSError):
            if os.path.samestat(path.stat(), os.fstat(handle)):
                os.truncate(handle, 0)
                os.pwrite(handle, f"{os.getpid()}\n".encode(), 0)
                return handle
        os.close(handle)  # it was tidied away in between; a lock on a file that is gone protects nothing
