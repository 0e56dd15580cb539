"""Where downloaded files are kept: the hub's own cache, shared with other programs, or a folder of models.

The layout of the cache is the hub library's (``models--OWNER--NAME/snapshots/COMMIT/PATH``); in a folder a file lies
at ``OWNER/NAME/PATH``. Beside either is a lock file with what was downloaded by ``pull``, by ``RemoteFile.key``.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Protocol

from infinite_talk.errors import CheckpointError
from infinite_talk.weights.hub.files import RemoteFile

LOCK = "infinite-talk-lock.json"
FORMAT = "infinite-talk-lock/1"


class Store(Protocol):
    """A place for downloaded files."""

    @property
    def root(self) -> Path: ...

    def find(self, file: RemoteFile, spelling: str) -> Path | None:
        """Where a file lies under one of its spellings, if it is there and whole."""


@dataclass(frozen=True, slots=True)
class HubCache:
    """The cache of ``huggingface_hub``: what other programs have downloaded counts too."""

    root: Path

    def find(self, file: RemoteFile, spelling: str) -> Path | None:
        from huggingface_hub import try_to_load_from_cache

        found = try_to_load_from_cache(file.repo, spelling, cache_dir=self.root, revision=file.revision)
        return Path(found) if isinstance(found, str) else None


@dataclass(frozen=True, slots=True)
class ModelsFolder:
    """A plain folder: ``OWNER/NAME/PATH``."""

    root: Path

    def place(self, file: RemoteFile, spelling: str) -> Path:
        """Where a file is to lie."""
        return self.root.joinpath(*file.repo.split("/"), *spelling.split("/"))

    def find(self, file: RemoteFile, spelling: str) -> Path | None:
        path = self.place(file, spelling)
        return path if path.is_file() else None


def default_cache() -> Path:
    """The hub's cache on this machine; the library takes it from ``HF_HUB_CACHE`` or ``HF_HOME``."""
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE)


def stores(models_dirs: Iterable[Path], cache: Path | None = None) -> tuple[Store, ...]:
    """All places in the order in which they are searched: the folders first, the cache last."""
    folders = tuple(ModelsFolder(folder) for folder in models_dirs)
    return (*folders, HubCache(cache or default_cache()))


def installed(file: RemoteFile, places: Iterable[Store]) -> tuple[Store, Path] | None:
    """Where a file is, under any of its spellings."""
    for store in places:
        for spelling in file.spellings:
            if path := store.find(file, spelling):
                return store, path
    return None


@dataclass(frozen=True, slots=True)
class Locked:
    """What ``pull`` recorded about one file."""

    path: str
    """In the repository, as it is really spelt there."""
    revision: str
    commit: str
    size: int
    checksum: str
    """64 digits: sha256. 40 digits: git's object name, which small files have on the hub."""


def read_lock(root: Path) -> dict[str, Locked]:
    """The records of a store by ``RemoteFile.key``; empty when there is no lock file.

    Raises:
        CheckpointError: the lock file is damaged.
    """
    path = root / LOCK
    try:
        values = json.loads(path.read_text("utf-8"))
        if values["format"] != FORMAT:
            raise ValueError(f"format {values['format']!r}")
        names = {field.name for field in fields(Locked)}
        return {
            key: Locked(**{name: record[name] for name in names}) for key, record in values["files"].items()
        }
    except FileNotFoundError:
        return {}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(
            f"{path} is damaged ({error}); delete it. The next pull writes it again.",
            code="checkpoint_damaged",
        ) from error


def write_lock(root: Path, records: Mapping[str, Locked]) -> None:
    """Add records to the lock file of a store; what it had about other files stays."""
    try:
        known = read_lock(root)
    except CheckpointError:  # it is a record of what can be recorded again
        known = {}
    merged = {key: asdict(record) for key, record in sorted((known | dict(records)).items())}
    root.mkdir(parents=True, exist_ok=True)
    draft = root / f".{LOCK}.{os.getpid()}"
    draft.write_text(json.dumps({"format": FORMAT, "files": merged}, indent=1) + "\n", "utf-8")
    draft.replace(root / LOCK)
