"""What is removed from a data folder: jobs that are too old or too large, and what crashes have left behind."""

from __future__ import annotations

import shutil
import time
from contextlib import suppress
from pathlib import Path

from infinite_talk.errors import JobActionError
from infinite_talk.jobs.store import JobStore
from infinite_talk.jobs.types import DataFolder, Retention

MARK = ".draft"
"""File in the folder of a job that is not handed in yet."""
DELETE = ".delete"
"""File in the folder of a job that is to go: only with it is a folder removed that no job belongs to."""
GONE = ".gone-"
"""Prefix of a folder that is being removed."""
_FORGOTTEN = 24 * 3600.0
"""Seconds after which a draft that nobody touched was left by a crash."""


def remove_folder(folder: DataFolder, job: str) -> None:
    """Remove a job's folder; out of sight first, so that a crash leaves nothing that looks like a job."""
    gone = folder.jobs / f"{GONE}{job}"
    with suppress(OSError):
        folder.of(job).rename(gone)
    shutil.rmtree(gone, ignore_errors=True)


def mark_for_removal(folder: DataFolder, job: str) -> None:
    """Say in a job's folder that it goes with the job; before the job is forgotten, so that no crash leaves it here.

    A folder without the mark is never removed: its job may be in another store.
    """
    with suppress(OSError):
        (folder.of(job) / DELETE).touch()


def sweep(store: JobStore, folder: DataFolder, retention: Retention) -> int:
    """Delete ended jobs that retention does not keep, and what was to be removed; returns how many jobs went."""
    count = 0
    if retention.seconds is not None:
        for job in store.ended_longer_ago(retention.seconds):
            count += _delete(store, folder, job.id)
    if retention.bytes is not None:
        count += _make_room(store, folder, retention.bytes)
    _tidy(store, folder)
    return count


def size_of(path: Path) -> int:
    """Bytes of all files in a folder."""
    total = 0
    for file in path.rglob("*"):
        with suppress(OSError):
            total += file.lstat().st_size
    return total


def _make_room(store: JobStore, folder: DataFolder, most: int) -> int:
    sizes = {path.name: size_of(path) for path in _folders(folder)}
    total, count = sum(sizes.values()), 0
    for job in store.ended_longer_ago(0.0):
        if total <= most:
            break
        if _delete(store, folder, job.id):
            total -= sizes.get(job.id, 0)
            count += 1
    return count


def _delete(store: JobStore, folder: DataFolder, job: str) -> bool:
    mark_for_removal(folder, job)
    try:
        if store.delete(job) is not None:
            return False  # it was taken up again in between
    except JobActionError:
        return False
    remove_folder(folder, job)
    return True


def _tidy(store: JobStore, folder: DataFolder) -> None:
    there = _folders(folder)  # before the jobs: one of these without a draft's mark had its job by then
    known = {job.id for job in store.list()}
    for path in there:
        if path.name.startswith(GONE):
            shutil.rmtree(path, ignore_errors=True)
        elif path.name not in known and _is_left(path):
            remove_folder(folder, path.name)


def _is_left(path: Path) -> bool:
    if (path / DELETE).exists():
        return True
    try:
        return time.time() - (path / MARK).stat().st_mtime > _FORGOTTEN
    except OSError:
        return False


def _folders(folder: DataFolder) -> list[Path]:
    try:
        return [path for path in folder.jobs.iterdir() if path.is_dir()]
    except OSError:
        return []
