"""Writing a safetensors file tensor by tensor, so that a model of any size needs the memory of its largest tensor.

The format allows blanks after the header: room for it is left at the start and filled in at the end. The file takes
its name when it is whole and on disk; until then it is a hidden file beside, which is deleted on any error.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

import torch
from torch import Tensor

from infinite_talk.errors import NoSpaceError

_DTYPES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.float8_e4m3fn: "F8_E4M3",
    torch.float8_e5m2: "F8_E5M2",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}
_LENGTH_BYTES = 8
_ENTRY = 200  # bytes of a header entry besides its name: dtype, up to five sizes, two offsets


class TensorWriter:
    """``with TensorWriter(path, names) as file: file.add(name, tensor)``; the file is there after the block.

    Args:
        names: at least those that will be added.
        metadata: words about the file, in its header.

    Raises:
        NoSpaceError: the disk is full or not writable.
    """

    def __init__(self, path: Path, names: Iterable[str], metadata: Mapping[str, str] | None = None) -> None:
        self._path = path
        self._draft = path.with_name(f".{path.name}.{os.getpid()}.partial")
        self._metadata = dict(metadata or {})
        room = (
            sum(len(json.dumps(name)) + _ENTRY for name in names) + len(json.dumps(self._metadata)) + _ENTRY
        )
        self._room = (room + 7) // 8 * 8
        self._entries: dict[str, object] = {}
        self._end = 0

    def __enter__(self) -> Self:
        try:
            self._file: BinaryIO = self._draft.open("wb")
            self._file.seek(_LENGTH_BYTES + self._room)
        except OSError as error:
            raise _no_space(self._path, error) from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self._finish()
        finally:
            self._file.close()
            self._draft.unlink(missing_ok=True)

    def add(self, name: str, tensor: Tensor) -> None:
        """Append one tensor."""
        assert name not in self._entries, name
        content = tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy()
        end = self._end + content.nbytes
        self._entries[name] = {
            "dtype": _DTYPES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [self._end, end],
        }
        try:
            self._file.write(content.data)
        except OSError as error:
            raise _no_space(self._path, error) from error
        self._end = end

    @property
    def size(self) -> int:
        """Bytes of tensors so far."""
        return self._end

    def _finish(self) -> None:
        header = json.dumps({"__metadata__": self._metadata, **self._entries}, separators=(",", ":")).encode()
        assert len(header) <= self._room, "more names were added than announced"
        try:
            self._file.seek(0)
            self._file.write(self._room.to_bytes(_LENGTH_BYTES, "little") + header.ljust(self._room))
            self._file.flush()
            os.fsync(self._file.fileno())
            self._draft.replace(self._path)
        except OSError as error:
            raise _no_space(self._path, error) from error


def _no_space(path: Path, error: OSError) -> NoSpaceError:
    return NoSpaceError(
        f"{path} cannot be written: {error.strerror}. Free some space or choose another place.",
        code="no_space",
    )
