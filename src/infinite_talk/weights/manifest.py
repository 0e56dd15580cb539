"""``model.json``: what a folder with a complete model says about itself. Read without loading torch.

{
  "format": "infinite-talk-model/1",
  "name": "...", "version": "...",
  "transformer": {"config": {...}, "file": "transformer.safetensors"},
  "vae": ..., "text": ..., "vision": ..., "speech": ...   likewise; "text" may name more "files"
  "defaults": {"steps": 10, ...},                          presets.Defaults
  "sha256": {"transformer.safetensors": "..."}             of every file
}
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from infinite_talk.errors import CheckpointError
from infinite_talk.presets import OFFICIAL, Defaults
from infinite_talk.settings import Settings

FORMAT = "infinite-talk-model/1"
FILE = "model.json"
EMBEDDED = Path(__file__).resolve().parent.parent / "bundled" / "embedded"
"""The folder of the model that comes with the package."""
PARTS = ("transformer", "vae", "text", "vision", "speech")


@dataclass(frozen=True, slots=True)
class Part:
    """One of the five models: its configuration and the file with its weights."""

    config: Mapping[str, Any]
    file: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """A checked ``model.json``."""

    folder: Path
    name: str
    version: str
    parts: Mapping[str, Part]
    defaults: Defaults
    sha256: Mapping[str, str]

    @property
    def digest(self) -> str:
        """One checksum for all weights."""
        lines = "".join(f"{name} {self.sha256[name]}\n" for name in sorted(self.sha256))
        return hashlib.sha256(lines.encode()).hexdigest()

    @property
    def size(self) -> int:
        """Bytes of all files with weights."""
        return sum(self.path(name).stat().st_size for name in self.sha256)

    def path(self, file: str) -> Path:
        """Where a file of the model lies."""
        return self.folder / file


def read_manifest(folder: Path) -> Manifest:
    """Read and check the ``model.json`` of a folder.

    Raises:
        CheckpointError: there is none, it is damaged or of another format, or a file it names is not in the
            folder.
    """
    path = folder / FILE
    try:
        values = json.loads(path.read_text("utf-8"))
        if values["format"] != FORMAT:
            raise CheckpointError(
                f"{path} has the format {values['format']!r}, this version reads {FORMAT!r}. Update the "
                "program or get the model again."
            )
        manifest = Manifest(
            folder=folder,
            name=str(values["name"]),
            version=str(values["version"]),
            parts={part: Part(values[part]["config"], values[part]["file"]) for part in PARTS},
            defaults=Defaults.from_json(values["defaults"]),
            sha256=dict(values["sha256"]),
        )
    except FileNotFoundError:
        raise CheckpointError(
            f"{folder} is not a model folder: it has no {FILE}. Point to a folder that has one, or give none "
            "to use the embedded model.",
            code="checkpoint_missing",
        ) from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(
            f"{path} is damaged ({type(error).__name__}: {error}); get the model again.",
            code="checkpoint_damaged",
        ) from error
    _check_files(manifest)
    return manifest


def bundle_folder(settings: Settings) -> Path | None:
    """The folder with ``model.json`` that the settings mean, by default the embedded model; ``None``: other files."""
    if settings.model is not None:
        return settings.model if (settings.model / FILE).is_file() else None
    return None if settings.files.transformer else EMBEDDED


def defaults_of(settings: Settings) -> Defaults:
    """What the model wants by default; its weights are not opened.

    Raises:
        CheckpointError: the ``model.json`` of a folder is damaged.
    """
    folder = bundle_folder(settings)
    return OFFICIAL if folder is None else read_manifest(folder).defaults


def write_manifest(manifest: Manifest) -> None:
    """Write ``model.json``, readable for people."""
    values = {"format": FORMAT, "name": manifest.name, "version": manifest.version}
    for name, part in manifest.parts.items():
        values[name] = {"config": dict(part.config), "file": part.file}  # type: ignore[assignment]
    values |= {"defaults": manifest.defaults.to_json(), "sha256": dict(manifest.sha256)}  # type: ignore[dict-item]
    manifest.path(FILE).write_text(json.dumps(values, indent=2, ensure_ascii=False) + "\n", "utf-8")


def verify(manifest: Manifest, files: Iterable[str] | None = None) -> None:
    """Compare files, by default all, with their checksums.

    Raises:
        CheckpointError: a file was changed or cut short.
    """
    for name in manifest.sha256 if files is None else files:
        expected = manifest.sha256[name]
        if (found := sha256_of(manifest.path(name))) != expected:
            raise CheckpointError(
                f"{manifest.path(name)} is not the file that {FILE} describes: its sha256 begins with "
                f"{found[:12]}, expected {expected[:12]}. Get the model again.",
                code="checkpoint_damaged",
            )


def verify_model(folder: Path | None = None) -> Manifest:
    """Check all files of a model folder (default: the embedded model), without loading it.

    Returns:
        what the folder says about itself, such as ``name``, ``version`` and ``size`` in bytes.

    Raises:
        CheckpointError: a file is missing, changed or cut short.
    """
    manifest = read_manifest(folder or EMBEDDED)
    verify(manifest)
    return manifest


def sha256_of(path: Path) -> str:
    """Checksum of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _check_files(manifest: Manifest) -> None:
    names = {part.file for part in manifest.parts.values()} | set(manifest.sha256)
    for name in sorted(names):
        if Path(name).name != name:
            raise CheckpointError(
                f"{FILE} names the file {name!r}, which is outside its folder; get the model again."
            )
        if not manifest.path(name).is_file():
            raise CheckpointError(
                f"{manifest.path(name)} is missing; the model is incomplete, get it again.",
                code="checkpoint_missing",
            )
    if unchecked := sorted(names - set(manifest.sha256)):
        raise CheckpointError(
            f"{FILE} has no checksum for {unchecked}; get the model again.", code="checkpoint_damaged"
        )
