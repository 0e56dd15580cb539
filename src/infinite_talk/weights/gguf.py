"""Reading of GGUF files: the header of names, shapes and types is parsed with bounds, tensors are read when asked.

Layout (specification ``ggml/docs/gguf.md``), little-endian: magic, version, number of tensors, number of
metadata entries; the entries; for each tensor name, sizes (fastest axis first), type, offset; then, aligned,
the data. GGUF has at most four axes, so converters of video models store the patch embedding flat and its
sizes in the metadata (``comfy.gguf.orig_shape.<name>``), or write five axes all the same; both are read.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from infinite_talk.errors import CheckpointError
from infinite_talk.ops.linear import Packed
from infinite_talk.ops.linear.gguf import FORMATS
from infinite_talk.weights.mapped import MappedFile
from infinite_talk.weights.reader import DTYPES, refused

MAGIC = b"GGUF"
_VERSIONS = (2, 3)
_AGAIN = "Download it again."
_MAX_HEADER = 200_000_000  # bytes; a text encoder's vocabulary takes some ten million
_MAX_TENSORS = 100_000
_MAX_ENTRIES = 100_000
_MAX_NAME = 65_536
_MAX_AXES = 8
_MAX_ARRAY = 4_000_000  # elements; a vocabulary has some hundred thousand
_KEPT = 64  # arrays longer than this (vocabularies) are skipped where only tensors are wanted

PLAIN = {0: "F32", 1: "F16", 24: "I8", 25: "I16", 26: "I32", 27: "I64", 28: "F64", 30: "BF16"}
"""Type numbers of plain tensors -> keys of ``DTYPES``."""
_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9
_ORIGINAL_SHAPE = "comfy.gguf.orig_shape."


@dataclass(frozen=True, slots=True)
class _Entry:
    """One tensor in the file."""

    shape: tuple[int, ...]
    type: str
    offset: int  # from the start of the file
    nbytes: int


class GGUFFile(Mapping[str, Tensor | Packed]):
    """The tensors of one GGUF file: matrices of a quantised type packed, all others plain.

    Raises:
        CheckpointError: missing, not whole, or with a type that is not known.
    """

    def __init__(self, path: Path) -> None:
        self.paths = (path,)
        self._file = MappedFile(path)
        self._entries, values = _header(path, _KEPT)
        self.metadata = {name: str(value) for name, value in values.items() if not isinstance(value, list)}
        self.shapes = {name: entry.shape for name, entry in self._entries.items()}
        self.dtypes = {name: entry.type for name, entry in self._entries.items()}
        self.sizes = {name: entry.nbytes for name, entry in self._entries.items()}

    def __getitem__(self, name: str) -> Tensor | Packed:
        entry = self._entries[name]
        kind = FORMATS.get(entry.type)
        if kind is None:
            return self._file.tensor(entry.offset, entry.nbytes, DTYPES[entry.type], entry.shape)
        rows = entry.shape[0] if len(entry.shape) == 2 else 1
        data = self._file.tensor(entry.offset, entry.nbytes, torch.uint8, (rows, entry.nbytes // rows))
        packed = Packed(kind, (rows, math.prod(entry.shape) // rows), {"data": data})
        return packed if len(entry.shape) == 2 else packed.unpack().reshape(entry.shape)

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)


def read_gguf_metadata(path: Path) -> dict[str, Any]:
    """All that a file says about its model: numbers, texts and lists of either, by key.

    Raises:
        CheckpointError: missing, damaged or cut short.
    """
    return _header(path, _MAX_ARRAY)[1]


def _header(path: Path, keep: int) -> tuple[dict[str, _Entry], dict[str, Any]]:
    """The tensors, and the metadata without arrays of more than ``keep`` elements."""
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            start = file.read(4)
            if start != MAGIC:
                raise refused(path, size, start + file.read(60), "GGUF")
            return _parse(_Cursor(file, path, size), size, keep)
    except OSError as error:
        raise CheckpointError(
            f"The model file {path} cannot be read ({error.strerror}); download it or correct the path.",
            code="checkpoint_missing",
        ) from error


@dataclass(slots=True)
class _Cursor:
    """Reads numbers and strings from the header and never more than the file or the limit holds."""

    file: BinaryIO
    path: Path
    size: int
    position: int = field(default=len(MAGIC))

    def take(self, count: int) -> bytes:
        if self.position + count > min(self.size, _MAX_HEADER):
            raise _corrupt(self.path, "is cut short in its header, or its header is damaged")
        self.position += count
        return self.file.read(count)

    def skip(self, count: int) -> None:
        if self.position + count > min(self.size, _MAX_HEADER):
            raise _corrupt(self.path, "is cut short in its header, or its header is damaged")
        self.position += count
        self.file.seek(count, 1)

    def number(self, form: str) -> int | float:
        return self.numbers(form, 1)[0]

    def numbers(self, form: str, count: int) -> list[int | float]:
        form = f"<{count}{form}"
        return list(struct.unpack(form, self.take(struct.calcsize(form))))

    def count(self, form: str, limit: int, what: str) -> int:
        value = int(self.number(form))
        if value > limit:
            raise _corrupt(self.path, f"has a damaged header: {value} {what}")
        return value

    def text(self) -> str:
        return self.take(self.count("Q", _MAX_HEADER, "letters in a text")).decode("utf-8", "replace")

    def name(self) -> str:
        return self.take(self.count("Q", _MAX_NAME, "letters in a name")).decode("utf-8", "replace")


def _parse(cursor: _Cursor, size: int, keep: int) -> tuple[dict[str, _Entry], dict[str, Any]]:
    version = int(cursor.number("I"))
    if version not in _VERSIONS:
        raise _corrupt(cursor.path, f"is GGUF of version {version}; versions 2 and 3 can be read")
    tensors = cursor.count("Q", _MAX_TENSORS, "tensors")
    values = [_metadata(cursor, keep) for _ in range(cursor.count("Q", _MAX_ENTRIES, "entries of metadata"))]
    metadata: dict[str, Any] = {name: value for name, value in values if value is not None}
    found = [_tensor(cursor) for _ in range(tensors)]
    alignment = metadata.get("general.alignment", 32)
    if not isinstance(alignment, int) or alignment <= 0 or alignment % 8:
        raise _corrupt(cursor.path, f"has a damaged header: an alignment of {alignment}")
    start = -(-cursor.position // alignment) * alignment
    result: dict[str, _Entry] = {}
    for name, axes, number, offset in found:
        kind, nbytes = _bytes_of(cursor.path, name, axes, number)
        if start + offset + nbytes > size:
            raise _corrupt(cursor.path, f"ends before its tensor {name} does: the download was cut short")
        shape = tuple(metadata.get(_ORIGINAL_SHAPE + name, axes))
        if name in result or math.prod(shape) != math.prod(axes):
            raise _corrupt(cursor.path, f"has a damaged header at its tensor {name}")
        result[name] = _Entry(shape, kind, start + offset, nbytes)
    return result, metadata


def _tensor(cursor: _Cursor) -> tuple[str, tuple[int, ...], int, int]:
    """``(name, shape, type number, offset)``; sizes are stored fastest axis first."""
    name = cursor.name()
    axes = [int(cursor.number("Q")) for _ in range(cursor.count("I", _MAX_AXES, f"axes of {name}"))]
    return name, tuple(reversed(axes)), int(cursor.number("I")), int(cursor.number("Q"))


def _bytes_of(path: Path, name: str, shape: tuple[int, ...], number: int) -> tuple[str, int]:
    """Type and size of a tensor."""
    if number in PLAIN:
        return PLAIN[number], math.prod(shape) * DTYPES[PLAIN[number]].itemsize
    kind = next((kind for kind in FORMATS.values() if kind.number == number), None)
    if kind is None:
        raise CheckpointError(
            f"{path} holds {name} in type {number} of GGUF, which cannot be read. Take a file in one of "
            f"{', '.join(FORMATS)}, F16 or BF16.",
            code="checkpoint_mismatch",
        )
    if not shape or shape[-1] % kind.block:
        raise _corrupt(path, f"has a damaged header: rows of {name} are no multiple of {kind.block}")
    return kind.name, math.prod(shape) // kind.block * kind.nbytes


def _metadata(cursor: _Cursor, keep: int) -> tuple[str, object]:
    """Key and value of one entry; ``None`` for a long array."""
    name = cursor.name()
    return name, _value(cursor, int(cursor.number("I")), keep)


def _value(cursor: _Cursor, kind: int, keep: int) -> object:
    if kind in _SCALARS:
        return cursor.number(_SCALARS[kind])
    if kind == _STRING:
        return cursor.text()
    if kind != _ARRAY:
        raise _corrupt(cursor.path, f"has a damaged header: metadata of type {kind}")
    inner, length = int(cursor.number("I")), cursor.count("Q", _MAX_ARRAY, "elements of an array")
    if inner in _SCALARS:
        if length <= keep:
            return cursor.numbers(_SCALARS[inner], length)
        cursor.skip(length * struct.calcsize("<" + _SCALARS[inner]))
        return None
    if inner != _STRING:
        raise _corrupt(cursor.path, f"has a damaged header: an array of type {inner}")
    if length <= keep:
        return [cursor.text() for _ in range(length)]
    for _ in range(length):
        cursor.skip(cursor.count("Q", _MAX_HEADER, "letters in a text"))
    return None


def _corrupt(path: Path, what: str) -> CheckpointError:
    return CheckpointError(f"{path} {what}. {_AGAIN}", code="checkpoint_corrupt")
