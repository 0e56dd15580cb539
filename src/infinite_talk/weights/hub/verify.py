"""Comparing files with their checksums: a flipped byte opens fine and shows only here.

A checksum is taken from, in this order: ``model.json`` beside the file; the lock file of the store that it lies in;
the name of the blob in the hub's cache; a file of the catalogue with the same name and size.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from infinite_talk.errors import CheckpointError
from infinite_talk.weights.hub.catalogue import Preset, catalogued
from infinite_talk.weights.hub.checksum import checksum, is_checksum
from infinite_talk.weights.hub.store import LOCK, Locked, ModelsFolder, Store, installed, read_lock
from infinite_talk.weights.manifest import FILE, read_manifest
from infinite_talk.weights.scan import folders, groups


@dataclass(frozen=True, slots=True)
class Verified:
    """What became of one file."""

    path: Path
    ok: bool | None
    """``None``: nobody has recorded a checksum of it."""
    expected: str | None
    found: str | None
    source: str
    """Where the expected checksum is from."""


Listener = Callable[[Path, int, int], None]
"""Hears file, bytes read, size."""


def verify_preset(
    preset: Preset, places: Sequence[Store], progress: Listener | None = None
) -> Iterator[Verified]:
    """Check the files of a preset that are there, one by one.

    Raises:
        CheckpointError: none is there.
    """
    found = [at[1] for file in preset.files if (at := installed(file, places))]
    if not found:
        raise CheckpointError(
            f"No file of {preset.name} is here. Get it with 'infinite-talk models pull {preset.name}'.",
            code="checkpoint_missing",
        )
    yield from verify_files(found, progress)


def verify_files(paths: Sequence[Path], progress: Listener | None = None) -> Iterator[Verified]:
    """Check files, and all model files of folders, one by one.

    Raises:
        CheckpointError: a path is not there, or a folder has no model file.
    """
    for path in paths:
        for file in _files(path):
            yield _verified(file, progress)


def _files(path: Path) -> Sequence[Path]:
    if path.is_file():
        return (path,)
    if not path.is_dir():
        raise CheckpointError(
            f"{path} is not there: neither a file, a folder nor a preset.", code="checkpoint_missing"
        )
    if (path / FILE).is_file():
        manifest = read_manifest(path)
        return [manifest.path(name) for name in sorted(manifest.sha256)]
    found = [file for folder in folders(path) for files, _ in groups(folder) for file in files]
    if not found:
        raise CheckpointError(f"The folder {path} has no model file in it.", code="checkpoint_missing")
    return found


def _verified(path: Path, progress: Listener | None) -> Verified:
    expected, source = _expected(path)
    if expected is None:
        return Verified(path, None, None, None, source)
    size = path.stat().st_size
    found = checksum(path, expected, (lambda done: progress(path, done, size)) if progress else None)
    return Verified(path, found == expected, expected, found, source)


def _expected(path: Path) -> tuple[str | None, str]:
    if (path.parent / FILE).is_file():
        known = read_manifest(path.parent).sha256
        if path.name in known:
            return known[path.name], FILE
    if record := _locked(path):
        return record.checksum, LOCK
    if is_checksum(blob := path.resolve().name):
        return blob, "the hub's cache"
    size = path.stat().st_size
    for file in catalogued():
        if file.sha256 and file.size == size and Path(file.path).name == path.name:
            return file.sha256, "the catalogue"
    return None, "no checksum is known"


def _locked(path: Path) -> Locked | None:
    """The record of a file in the lock of one of the folders above it."""
    whole = path.absolute()
    for root in whole.parents:
        if (root / LOCK).is_file():
            for key, record in read_lock(root).items():
                owner, name = key.split("/")[:2]
                place = ModelsFolder(root).root.joinpath(owner, name, *record.path.split("/"))
                in_cache = root / f"models--{owner}--{name}" / "snapshots" / record.commit / record.path
                if whole in (place, in_cache) and is_checksum(record.checksum):
                    return record
            return None
    return None
