"""Who the nodes run in: ComfyUI, the workflow runner, or a script; and where names of model files are looked for.

A name is resolved by ComfyUI's ``folder_paths`` inside ComfyUI, else in the folders that the host gives. An absolute
path, or a path from the current folder, is itself. ``embedded``, the first choice of every loader, is that part of the
model that comes with the package; a folder with ``model.json`` serves every loader likewise.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Protocol

from infinite_talk.errors import CheckpointError
from infinite_talk.nodes.declare import Files, listed
from infinite_talk.progress import Listener, silent
from infinite_talk.settings import Settings
from infinite_talk.weights.manifest import EMBEDDED
from infinite_talk.weights.scan import SUFFIXES, named

if TYPE_CHECKING:
    from infinite_talk.media.take import Take
    from infinite_talk.types import Plan, Size

EMBEDDED_NAME = "embedded"
KINDS: Mapping[str, tuple[str, ...]] = {
    "diffusion_models": ("diffusion_models", "unet", "unet_gguf"),
    "vae": ("vae",),
    "vae_approx": ("vae_approx",),
    "text_encoders": ("text_encoders", "clip"),
    "clip_vision": ("clip_vision",),
    "wav2vec2": ("wav2vec2", "audio_encoders", "transformers"),
    "loras": ("loras",),
    "controlnet": ("controlnet",),
    "dwpose": ("dwpose", "detection"),
}
"""Folders of ComfyUI's ``models`` by the kind of file."""


class Places(Protocol):
    """Where model files are."""

    @property
    def roots(self) -> tuple[Path, ...]:
        """Folders in which parts that nobody named, such as a tokenizer, are looked for."""
        ...

    def names(self, kind: str) -> Sequence[str]:
        """Names of the files of a kind."""
        ...

    def find(self, kind: str, name: str) -> Path | None:
        """The file of a name."""
        ...


@dataclass(frozen=True, slots=True)
class ModelFolders:
    """Folders laid out like ComfyUI's ``models``, or with the files directly in them."""

    roots: tuple[Path, ...] = ()

    def names(self, kind: str) -> list[str]:
        found = {
            str(path.relative_to(folder))
            for folder in self._folders(kind)
            for path in folder.rglob("*")
            if path.suffix.lower() in SUFFIXES and path.is_file()
        }
        return sorted(found)

    def find(self, kind: str, name: str) -> Path | None:
        places = (folder / name for folder in (*self._folders(kind), *self.roots))
        direct = next((path for path in places if path.exists()), None)
        if direct is not None:
            return direct
        found = named(Path(name), self.roots)
        if len(found) > 1:
            raise CheckpointError(
                f"Several files are called {name}: {listed(found[:5])}. Give the whole path.",
                code="checkpoint_ambiguous",
            )
        return found[0] if found else None

    def _folders(self, kind: str) -> list[Path]:
        tops = [top for root in self.roots for top in (root, root / "models")]
        return [folder for top in tops for part in KINDS[kind] if (folder := top / part).is_dir()]


@dataclass(frozen=True, slots=True)
class ComfyFolders:
    """ComfyUI's own ``folder_paths``."""

    module: ModuleType

    @property
    def roots(self) -> tuple[Path, ...]:
        folders = (Path(p) for kind in ("text_encoders", "clip") for p in self._paths(kind))
        return tuple(dict.fromkeys(folder for folder in folders if folder.is_dir()))

    def names(self, kind: str) -> list[str]:
        known = [part for part in KINDS[kind] if part in self.module.folder_names_and_paths]
        names = (name for part in known for name in self.module.get_filename_list(part))
        return list(dict.fromkeys(names))

    def find(self, kind: str, name: str) -> Path | None:
        for part in KINDS[kind]:
            if part not in self.module.folder_names_and_paths:
                # ComfyUI does not list the files of this folder.
                path = Path(self.module.models_dir, part, name)
                if ".." not in path.parts and path.is_file():
                    return path
            elif found := self.module.get_full_path(part, name):
                return Path(found)
        return None

    def _paths(self, kind: str) -> Sequence[str]:
        if kind not in self.module.folder_names_and_paths:
            return ()
        paths: Sequence[str] = self.module.get_folder_paths(kind)
        return paths


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """What the nodes are told by whoever runs them."""

    places: Places = ModelFolders()
    settings: Settings = field(default_factory=Settings)
    """The machine: device, memory limit, strictness, threads. Models and precisions come from the nodes."""
    listen: Listener = silent
    """Hears what a person should know; raising ``Cancelled`` in it stops the run."""
    embedded: bool = False
    """Every name of a model file means the embedded model."""
    take: Callable[[Plan, Size], Take] | None = None
    """Opens the take in which a talking video grows, so that a later run goes on with it; ``None``: no take."""
    text_cache: Path | None = None
    """Folder for encoded texts; ``None``: ``use_disk_cache`` has no place to write to."""


_given: ContextVar[Host | None] = ContextVar("infinite_talk_host", default=None)
_installed: list[Host] = []


def host() -> Host:
    """The host of this call: the one given by ``hosted``, the installed one, ComfyUI, or a plain one."""
    if (given := _given.get()) is not None:
        return given
    if _installed:
        return _installed[-1]
    comfy = sys.modules.get("folder_paths")
    return Host() if comfy is None else _comfy_host(comfy)


def _comfy_host(folder_paths: ModuleType) -> Host:
    kept = getattr(folder_paths, "get_user_directory", None)
    cache = None if kept is None else Path(kept()) / "infinite_talk" / "texts"
    return Host(places=ComfyFolders(folder_paths), text_cache=cache)


@contextmanager
def hosted(by: Host) -> Iterator[Host]:
    """Run nodes under a host for as long as the block lasts."""
    token = _given.set(by)
    try:
        yield by
    finally:
        _given.reset(token)


def install_host(by: Host | None) -> None:
    """Be the host of all threads of this process, as ComfyUI's front end is; ``None`` ends it."""
    _installed.clear()
    if by is not None:
        _installed.append(by)


def models_in(*folders: Path | str) -> None:
    """For scripts: look for model files in these folders."""
    install_host(replace(host(), places=ModelFolders(tuple(Path(folder) for folder in folders))))


def file_names(kind: str) -> Files:
    """The choice of a loader: the embedded model first, then what is there."""
    return Files([EMBEDDED_NAME, *host().places.names(kind)])


def locate(kind: str, name: str) -> Path:
    """Where the file of a name is; the folder of the embedded model for ``embedded``.

    Raises:
        CheckpointError: it is nowhere.
    """
    by = host()
    if by.embedded or name == EMBEDDED_NAME:
        return EMBEDDED
    path = by.places.find(kind, name) or (Path(name) if Path(name).exists() else None)
    if path is not None:
        return path
    here = by.places.names(kind)
    known = f"there are {listed(here[:8])}{', ...' if len(here) > 8 else ''}" if here else "there are none"
    raise CheckpointError(
        f"The model file {name!r} is not there (looked for {kind}: {known}). Put it there, give its whole path, name "
        "its folder with --models-dir or INFINITE_TALK_MODELS_DIR, or choose 'embedded'.",
        code="checkpoint_missing",
    )
