"""Reading of safetensors files: checked at the door, read tensor by tensor when asked for.

A file that is empty, cut short, a web page or a Git LFS pointer is named as such, since these are what failed
downloads leave behind. Other kinds of files: ``pickles.py``, ``gguf.py``; ``sources.py`` tells them apart.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from infinite_talk.errors import CheckpointError
from infinite_talk.ops.linear import Packed
from infinite_talk.ops.linear.gguf import Blocks
from infinite_talk.weights.mapped import MappedFile

_LENGTH_BYTES = 8  # little-endian size of the JSON header at the start of the file
_MAX_HEADER = 100_000_000  # limit of the format
_AGAIN = "Download it again."
_IN_FOLDERS = ("*.safetensors", "*.gguf", "*.pth", "*.bin")
"""What is read in a folder: the first kind of which there is one."""


DTYPES: Mapping[str, torch.dtype] = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "U16": torch.uint16,
    "U32": torch.uint32,
    "U64": torch.uint64,
    "C64": torch.complex64,
    "BOOL": torch.bool,
}
"""What safetensors calls the dtypes; readers of all files use these words, and GGUF's for its own types."""


@dataclass(frozen=True, slots=True)
class Header:
    """What a file says about itself."""

    shapes: Mapping[str, tuple[int, ...]]
    metadata: Mapping[str, str]
    dtypes: Mapping[str, str]
    """Keys of ``DTYPES``, or a type of GGUF such as ``Q4_K``."""
    sizes: Mapping[str, int]
    """Bytes in the file."""
    starts: Mapping[str, int]
    """Where in the file the bytes begin."""


class Source(Protocol):
    """The tensors of a file or several, whatever their kind: known from the headers, read one by one."""

    @property
    def paths(self) -> tuple[Path, ...]: ...
    @property
    def shapes(self) -> dict[str, tuple[int, ...]]: ...
    @property
    def dtypes(self) -> dict[str, str]: ...
    @property
    def sizes(self) -> dict[str, int]: ...
    @property
    def metadata(self) -> dict[str, str]: ...
    def __getitem__(self, name: str) -> Tensor | Packed: ...


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
        self.dtypes: dict[str, str] = {}
        self.sizes: dict[str, int] = {}
        self.metadata: dict[str, str] = {}
        self._home: dict[str, tuple[MappedFile, int]] = {}
        for path in self.paths:
            header = read_header(path)
            file = MappedFile(path)
            self.shapes.update(header.shapes)
            self.dtypes.update(header.dtypes)
            self.sizes.update(header.sizes)
            self.metadata.update(header.metadata)
            self._home.update({name: (file, start) for name, start in header.starts.items()})

    def __getitem__(self, name: str) -> Tensor:
        file, start = self._home[name]
        return file.tensor(start, self.sizes[name], DTYPES[self.dtypes[name]], self.shapes[name])

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


def check_finite(name: str, value: Tensor | Packed) -> None:
    """Refuse a weight with NaN or infinity: one pass over its memory, without a copy of a plain one.

    Raises:
        CheckpointError: there are some.
    """
    if isinstance(value, Packed):
        kind = value.format
        finite = (
            bool(kind.finite(value.parts))
            if isinstance(kind, Blocks)
            else all(map(_finite, value.parts.values()))
        )
    else:
        finite = _finite(value)
    if not finite:
        raise CheckpointError(
            f"The weight {name} holds NaN or infinity, so the file is damaged or was converted badly. {_AGAIN}",
            code="checkpoint_corrupt",
        )


def _finite(tensor: Tensor) -> bool:
    if not tensor.is_floating_point() or not tensor.numel():
        return True
    if tensor.dtype in _NEVER_FINITE:  # float8 has no reductions
        mask = _NEVER_FINITE[tensor.dtype]
        return bool(((tensor.view(torch.uint8) & mask) != mask).all())
    low, high = torch.aminmax(tensor)  # NaN goes through both
    return math.isfinite(low.item()) and math.isfinite(high.item())


_NEVER_FINITE = {torch.float8_e4m3fn: 0x7F, torch.float8_e5m2: 0x7C, torch.float8_e8m0fnu: 0xFF}
"""The bits that are all set in what is no number: e4m3fn has two NaN, e5m2 an exponent for NaN and infinity, and
e8m0fnu, a power of two without sign, one NaN."""


def shards(path: Path) -> Sequence[Path]:
    """The files of a checkpoint: ``path``, or in a folder those its index names, else all in order of name.

    Raises:
        CheckpointError: nothing there, or a shard that the index names is missing.
    """
    if not path.is_dir():
        return (path,)
    for pattern in _IN_FOLDERS:
        if index := next(iter(sorted(path.glob(f"{pattern}.index.json"))), None):
            names = _json_object(index.read_bytes(), index).get("weight_map", {})
            return tuple(path / name for name in sorted(set(names.values())))
        if found := sorted(path.glob(pattern)):
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
                raise refused(path, size, start + file.read(56))
            text = file.read(length)
    except OSError as error:
        raise CheckpointError(
            f"The model file {path} cannot be read ({error.strerror}); download it or correct the path.",
            code="checkpoint_missing",
        ) from error
    entries = _json_object(text, path)
    metadata = entries.pop("__metadata__", {})
    try:
        spans = {
            name: (entry["data_offsets"][0], entry["data_offsets"][1]) for name, entry in entries.items()
        }
        shapes = {name: tuple(entry["shape"]) for name, entry in entries.items()}
        dtypes = {name: str(entry["dtype"]) for name, entry in entries.items()}
        sizes = {name: stop - start for name, (start, stop) in spans.items()}
        starts = {name: _LENGTH_BYTES + length + start for name, (start, _) in spans.items()}
        end = max((stop for _, stop in spans.values()), default=0)
        metadata = {str(key): str(value) for key, value in metadata.items()}
    except (TypeError, KeyError, IndexError, AttributeError) as error:
        raise CheckpointError(f"{path} has a damaged header. {_AGAIN}", code="checkpoint_corrupt") from error
    if size != (expected := _LENGTH_BYTES + length + end):
        raise CheckpointError(
            f"{path} has {size} bytes where its header announces {expected}: the download was cut short or "
            f"mixed up. {_AGAIN}",
            code="checkpoint_corrupt",
        )
    header = Header(shapes, metadata, dtypes, sizes, starts)
    _check(header, _LENGTH_BYTES + length, path)
    return header


def _check(header: Header, begin: int, path: Path) -> None:
    """Tensors are of known dtypes, as long as their shapes say, and lie one after the other without gaps."""
    unknown = sorted({dtype for dtype in header.dtypes.values() if dtype not in DTYPES})
    if unknown:
        raise CheckpointError(
            f"{path} holds tensors of type {', '.join(unknown)}, which cannot be read. Take a file in another "
            "precision.",
            code="checkpoint_mismatch",
        )
    end = begin
    for name in sorted(header.starts, key=lambda name: (header.starts[name], header.sizes[name])):
        shape, dtype = header.shapes[name], DTYPES[header.dtypes[name]]
        whole = all(isinstance(size, int) and size >= 0 for size in shape)
        if not whole or header.starts[name] != end or math.prod(shape) * dtype.itemsize != header.sizes[name]:
            raise CheckpointError(
                f"{path} is not a valid safetensors file (at its tensor {name}). {_AGAIN}",
                code="checkpoint_corrupt",
            )
        end += header.sizes[name]


def _json_object(text: bytes, path: Path) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise CheckpointError(f"{path} has a damaged header. {_AGAIN}", code="checkpoint_corrupt")
    return value


def refused(path: Path, size: int, start: bytes, expected: str = "safetensors") -> CheckpointError:
    """The error for a file of ``size`` bytes that ``start``s with no header of the ``expected`` kind."""
    if size == 0:
        reason = f"is empty. {_AGAIN}"
    elif start.startswith(b"version https://git-lfs"):
        reason = "is a Git LFS pointer, not the weights. Fetch the file itself with 'git lfs pull'."
    elif start.lstrip().lower().startswith((b"<!doctype", b"<html", b"<?xml")):
        reason = f"is a web page, not weights: the download address was wrong or asked for a login. {_AGAIN}"
    elif start.startswith((b"PK\x03\x04", b"\x80")):
        reason = f"is a PyTorch pickle, which could run code when opened; a {expected} file is expected."
    elif start.startswith(b"GGUF"):
        reason = f"is a GGUF file; a {expected} file is expected."
    else:
        reason = f"is not a {expected} file, or it was cut short in its header. {_AGAIN}"
    return CheckpointError(f"{path} {reason}", code="checkpoint_corrupt")
