"""Reading of safetensors files: checked at the door, read tensor by tensor when asked for.

Only safetensors are opened, because a pickle can run code. A file that is empty, cut short, a web page or a
Git LFS pointer is named as such, since these are what failed downloads leave behind.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from safetensors import SafetensorError, safe_open
from torch import Tensor

from infinite_talk.errors import CheckpointError
from infinite_talk.ops.linear import Packed

_LENGTH_BYTES = 8  # little-endian size of the JSON header at the start of the file
_MAX_HEADER = 100_000_000  # limit of the format
_AGAIN = "Download it again."


@dataclass(frozen=True, slots=True)
class Header:
    """What a file says about itself."""

    shapes: Mapping[str, tuple[int, ...]]
    metadata: Mapping[str, str]


class _File(Protocol):
    """An open safetensors file."""

    def get_tensor(self, name: str) -> Tensor: ...


class TensorFiles(Mapping[str, Tensor]):
    """The tensors of one or more safetensors files by name; a later file overrides an earlier one.

    Opening reads the headers only. Each access reads one tensor, on the CPU, in its stored dtype.

    Args:
        paths: files, or folders with the shards of one checkpoint (see ``shards``).

    Raises:
        CheckpointError: a file is missing or not whole.
    """

    def __init__(self, *paths: Path) -> None:
        self.paths = tuple(file for path in paths for file in shards(path))
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.metadata: dict[str, str] = {}
        self._home: dict[str, _File] = {}
        for path in self.paths:
            header = read_header(path)
            file = _opened(path)
            self.shapes.update(header.shapes)
            self.metadata.update(header.metadata)
            self._home.update(dict.fromkeys(header.shapes, file))

    def __getitem__(self, name: str) -> Tensor:
        return self._home[name].get_tensor(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._home)

    def __len__(self) -> int:
        return len(self._home)


class Renamed(Mapping[str, Tensor]):
    """Another mapping's tensors under other names, still read when asked for.

    Args:
        tensors: where the tensors come from.
        names: new name -> name in ``tensors``.
    """

    def __init__(self, tensors: Mapping[str, Tensor], names: Mapping[str, str]) -> None:
        self._tensors, self._names = tensors, names

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        stored = shapes_of(self._tensors)
        return {name: stored[theirs] for name, theirs in self._names.items()}

    def __getitem__(self, name: str) -> Tensor:
        return self._tensors[self._names[name]]

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


def shapes_of(tensors: Mapping[str, Tensor] | Mapping[str, Tensor | Packed]) -> dict[str, tuple[int, ...]]:
    """The shape of every tensor; files and views of files answer from their headers."""
    if isinstance(known := getattr(tensors, "shapes", None), dict):
        return known
    return {name: tuple(tensor.shape) for name, tensor in tensors.items()}


def shards(path: Path) -> Sequence[Path]:
    """The files of a checkpoint: ``path``, or in a folder those its index names, else all in order of name.

    Raises:
        CheckpointError: nothing there, or a shard that the index names is missing.
    """
    if not path.is_dir():
        return (path,)
    if index := next(iter(sorted(path.glob("*.safetensors.index.json"))), None):
        names = _json_object(index.read_bytes(), index).get("weight_map", {})
        return tuple(path / name for name in sorted(set(names.values())))
    if found := sorted(path.glob("*.safetensors")):
        return tuple(found)
    raise CheckpointError(
        f"The folder {path} holds no .safetensors file; expected the shards of a model there.",
        code="checkpoint_missing",
    )


def read_header(path: Path) -> Header:
    """Check that ``path`` is a whole safetensors file and say what is in it, without reading the tensors.

    Raises:
        CheckpointError: missing, empty, cut short, or something else under this name.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            start = file.read(_LENGTH_BYTES)
            length = int.from_bytes(start, "little")
            if size < _LENGTH_BYTES or length > min(size - _LENGTH_BYTES, _MAX_HEADER):
                raise _refused(path, size, start + file.read(56))
            text = file.read(length)
    except OSError as error:
        raise CheckpointError(
            f"The model file {path} cannot be read ({error.strerror}); download it or correct the path.",
            code="checkpoint_missing",
        ) from error
    entries = _json_object(text, path)
    metadata = entries.pop("__metadata__", {})
    try:
        end = max((entry["data_offsets"][1] for entry in entries.values()), default=0)
        shapes = {name: tuple(entry["shape"]) for name, entry in entries.items()}
    except (TypeError, KeyError, IndexError) as error:
        raise CheckpointError(f"{path} has a damaged header. {_AGAIN}", code="checkpoint_corrupt") from error
    if size != (expected := _LENGTH_BYTES + length + end):
        raise CheckpointError(
            f"{path} has {size} bytes where its header announces {expected}: the download was cut short or "
            f"mixed up. {_AGAIN}",
            code="checkpoint_corrupt",
        )
    return Header(shapes, metadata)


def _opened(path: Path) -> _File:
    try:
        file: _File = safe_open(path, framework="pt")
    except SafetensorError as error:
        raise CheckpointError(
            f"{path} is not a valid safetensors file ({error}). {_AGAIN}", code="checkpoint_corrupt"
        ) from error
    return file


def _json_object(text: bytes, path: Path) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise CheckpointError(f"{path} has a damaged header. {_AGAIN}", code="checkpoint_corrupt")
    return value


def _refused(path: Path, size: int, start: bytes) -> CheckpointError:
    """The error for a file whose first bytes are no safetensors header."""
    if size == 0:
        reason = f"is empty. {_AGAIN}"
    elif start.startswith(b"version https://git-lfs"):
        reason = "is a Git LFS pointer, not the weights. Fetch the file itself with 'git lfs pull'."
    elif start.lstrip().lower().startswith((b"<!doctype", b"<html", b"<?xml")):
        reason = f"is a web page, not weights: the download address was wrong or asked for a login. {_AGAIN}"
    elif start.startswith((b"PK\x03\x04", b"\x80")):
        reason = "is a PyTorch pickle, which could run code when opened. Convert it to safetensors."
    elif start.startswith(b"GGUF"):
        reason = "is a GGUF file; a safetensors file is expected."
    else:
        reason = f"is not a safetensors file, or it was cut short in its header. {_AGAIN}"
    return CheckpointError(f"{path} {reason}", code="checkpoint_corrupt")
