"""Downloading presets: asked first, then the disk is checked, then one file after the other; each is verified.

The bytes are fetched with the hub library's plain HTTP download into a partial file of a fixed name, because its own
``hf_hub_download`` throws away what has arrived when it is interrupted. A file takes its name only when its checksum
is right. The lock file of the store records it.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from huggingface_hub import hf_hub_download
from huggingface_hub.file_download import repo_folder_name
from huggingface_hub.utils import WeakFileLock, build_hf_headers, get_session, hf_raise_for_status

from infinite_talk.errors import CheckpointError, NoSpaceError
from infinite_talk.weights.hub.catalogue import Preset
from infinite_talk.weights.hub.checksum import checksum, is_checksum
from infinite_talk.weights.hub.files import RemoteFile
from infinite_talk.weights.hub.remote import Hub, Remote, ask, patiently
from infinite_talk.weights.hub.store import (
    LOCK,
    HubCache,
    Locked,
    ModelsFolder,
    Store,
    default_cache,
    installed,
    write_lock,
)

GIB = 2**30
_SPARE = 64 * 2**20  # bytes left free for lock files, folders and everybody else


@dataclass(frozen=True, slots=True)
class PullProgress:
    """Where a download is. Bytes of files that were there already are not counted."""

    file: str
    index: int  # of this file, from 0
    files: int
    done: int  # bytes of this file
    size: int
    total_done: int  # bytes of all files
    total: int
    note: str | None = None
    """What is waited for, if anything."""


Listener = Callable[[PullProgress], None]


@dataclass(frozen=True, slots=True)
class Pulled:
    """What a pull has brought."""

    preset: str
    paths: dict[str, Path]
    """Where each file is, by ``RemoteFile.key``."""
    downloaded: int
    """Bytes that were fetched now."""
    notes: tuple[str, ...] = ()


def pull(
    preset: Preset,
    *,
    folder: Path | None = None,
    cache: Path | None = None,
    hub: Hub | None = None,
    progress: Listener | None = None,
) -> Pulled:
    """Download what is missing of a preset.

    Args:
        folder: where to; ``None`` is the hub's cache. What is in either is not fetched again.
        cache: the hub's cache, instead of the one of this machine.
        progress: hears each event; may raise to stop: what has arrived is kept.

    Raises:
        CheckpointError: a file is not to be had, or came with a wrong checksum.
        NoSpaceError: the disk is too small, or cannot be written.
    """
    hub, home = hub or Hub(), HubCache(cache or default_cache())
    target: Store = ModelsFolder(folder) if folder is not None else home
    places = (target, home)
    paths = {file.key: at[1] for file in preset.files if (at := installed(file, places))}
    lacking = [file for file in preset.files if file.key not in paths]
    if lacking and hub.offline:
        raise CheckpointError(
            f"{len(lacking)} of {len(preset.files)} files of {preset.name} are missing ({lacking[0].path}, ...) and "
            "HF_HUB_OFFLINE forbids to download them. Unset it, or copy the files here.",
            code="offline",
        )
    wanted = _asked(lacking, hub, progress)
    _check_space(target, wanted)
    tally = _Tally(wanted, progress)
    notes: list[str] = []
    for remote in wanted:
        paths[remote.file.key] = _fetch(remote, target, hub, tally)
        notes += _differences(remote)
    return Pulled(preset.name, paths, sum(remote.size for remote in wanted), tuple(notes))


class _Tally:
    """Counts bytes over all files and tells the listener."""

    def __init__(self, wanted: Sequence[Remote], progress: Listener | None) -> None:
        self._wanted, self._progress = wanted, progress
        self._total = sum(remote.size for remote in wanted)
        self._before = 0  # bytes of the files that are finished
        self._index = 0

    def tell(self, remote: Remote, done: int, note: str | None = None) -> None:
        while self._wanted[self._index] is not remote:
            self._before += self._wanted[self._index].size
            self._index += 1
        if self._progress:
            at, files = self._before + done, len(self._wanted)
            event = PullProgress(
                remote.spelling, self._index, files, done, remote.size, at, self._total, note
            )
            self._progress(event)


def _asked(lacking: Sequence[RemoteFile], hub: Hub, progress: Listener | None) -> list[Remote]:
    """Every missing file as the hub has it, before the first byte is fetched."""
    found = []
    for index, file in enumerate(lacking):

        def waiting(note: str | None, at: int = index, asked: RemoteFile = file) -> None:
            if progress:
                progress(PullProgress(asked.path, at, len(lacking), 0, asked.size, 0, 0, note or "asking"))

        waiting(None)
        found.append(ask(file, hub, waiting))
    return found


def _check_space(target: Store, wanted: Sequence[Remote]) -> None:
    need = sum(max(0, remote.size - _size_of(_partial(remote, target))) for remote in wanted)
    there = next(folder for folder in (target.root, *target.root.resolve().parents) if folder.is_dir())
    free = shutil.disk_usage(there).free
    if need and need + _SPARE > free:
        raise NoSpaceError(
            f"The download needs {need / GIB:.1f} GiB in {target.root}, where {free / GIB:.1f} GiB are free. Free some "
            "space, or choose another disk with --to FOLDER (or HF_HOME).",
            code="no_space",
        )


def _fetch(remote: Remote, target: Store, hub: Hub, tally: _Tally) -> Path:
    """One file: the rest of it, its checksum, its name, its record."""
    partial, blob = _partial(remote, target), _place(remote, target)
    guard = target.root / ".locks" / f"{remote.checksum}.lock"
    for folder in (partial.parent, blob.parent, guard.parent):
        folder.mkdir(parents=True, exist_ok=True)
    with WeakFileLock(guard):  # another process may be fetching the same file
        if not blob.is_file():
            _download(remote, partial, hub, tally)
            _verify(remote, partial, tally)
            partial.replace(blob)
    tally.tell(remote, remote.size)
    path = _named(remote, target, hub, tally)
    record = Locked(remote.spelling, remote.file.revision, remote.commit, remote.size, remote.checksum)
    with WeakFileLock(guard.with_name(f"{LOCK}.lock")):
        write_lock(target.root, {remote.file.key: record})
    return path


def _download(remote: Remote, partial: Path, hub: Hub, tally: _Tally) -> None:
    """Fetch what the partial file lacks."""
    if _size_of(partial) > remote.size:
        partial.unlink()

    def request() -> None:
        with partial.open("ab") as file:
            _get(remote, file, hub, lambda done: tally.tell(remote, done))

    def waiting(note: str) -> None:
        tally.tell(remote, _size_of(partial), note)

    patiently(request, remote.file, hub, waiting, done=lambda: _size_of(partial))


def _get(remote: Remote, file: BinaryIO, hub: Hub, tell: Callable[[int], None]) -> None:
    start = file.tell()
    if start == remote.size:
        return
    # A redirection to another host leaves the token behind.
    headers = build_hf_headers(token=hub.token) | {"Accept-Encoding": "identity"}
    if start:
        headers["Range"] = f"bytes={start}-"
    session = get_session()
    with session.stream(
        "GET", remote.url, headers=headers, timeout=hub.timeout, follow_redirects=True
    ) as answer:
        hf_raise_for_status(answer)
        if start and answer.status_code != 206:  # all of it again instead of the rest
            file.truncate(0)
        for chunk in answer.iter_bytes():
            file.write(chunk)
            tell(file.tell())
    file.flush()
    if file.tell() < remote.size:
        raise OSError(f"only {file.tell()} of {remote.size} bytes came")


def _verify(remote: Remote, partial: Path, tally: _Tally) -> None:
    """Compare with the hub's checksum; what differs is deleted, since more bytes would not mend it."""
    size = _size_of(partial)
    if size == remote.size and not is_checksum(remote.checksum):
        return
    tally.tell(remote, size, "checking")
    found = checksum(partial, remote.checksum, lambda _: tally.tell(remote, size, "checking"))
    if size != remote.size or found != remote.checksum:
        partial.unlink()
        raise CheckpointError(
            f"{remote.spelling} came damaged: {size} bytes with the checksum {found[:12]}..., the hub announced "
            f"{remote.size} with {remote.checksum[:12]}.... It was deleted; run the same command again, and if it "
            "happens again, without the proxy or mirror.",
            code="checksum",
        )


def _named(remote: Remote, target: Store, hub: Hub, tally: _Tally) -> Path:
    """Let the hub library put the name into its cache; a folder has it already."""
    if isinstance(target, HubCache):

        def link() -> str:
            return hf_hub_download(
                remote.file.repo,
                remote.spelling,
                revision=remote.file.revision,
                cache_dir=target.root,
                endpoint=hub.endpoint,
                token=hub.token,
            )

        def waiting(note: str) -> None:
            tally.tell(remote, remote.size, note)

        path = Path(patiently(link, remote.file, hub, waiting))
        if not path.is_symlink():  # a disk without links, where the library has made a copy
            _place(remote, target).unlink(missing_ok=True)
        return path
    return _place(remote, target)


def _place(remote: Remote, target: Store) -> Path:
    """Where the content of a file lies: under its name, or in the cache under its checksum."""
    if isinstance(target, ModelsFolder):
        return target.place(remote.file, remote.spelling)
    return (
        target.root
        / repo_folder_name(repo_id=remote.file.repo, repo_type="model")
        / "blobs"
        / remote.checksum
    )


def _partial(remote: Remote, target: Store) -> Path:
    """Bound to the content by its checksum, so that parts of two versions are never joined."""
    place = _place(remote, target)
    if isinstance(target, HubCache):
        return place.with_name(f"{place.name}.incomplete")
    return place.with_name(f".{place.name}.{remote.checksum[:16]}.incomplete")


def _size_of(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def _differences(remote: Remote) -> list[str]:
    """What the catalogue says otherwise."""
    known = remote.file.sha256
    if known and is_checksum(remote.checksum) and remote.checksum != known:
        return [f"{remote.spelling} was changed by its owner since this program was released."]
    return []
