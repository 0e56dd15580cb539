"""Files mapped into memory: pages are read when somebody looks at them, and writing never reaches the disk."""

from __future__ import annotations

import mmap
from pathlib import Path

import torch
from torch import Tensor

from infinite_talk.errors import CheckpointError
from infinite_talk.weights.origin import Origin, with_origin

_NO_RESERVE = getattr(mmap, "MAP_NORESERVE", 0x4000)  # missing in Python before 3.13; this is Linux's
_LINUX = hasattr(mmap, "MAP_POPULATE")


class MappedFile:
    """The bytes of a file as tensors, mapped when first asked for.

    A private mapping counts as memory that may be written, so that Linux refuses one larger than what is free;
    most model files are. Nothing writes to most of it, so none is reserved.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._bytes: Tensor | None = None

    def tensor(self, start: int, nbytes: int, dtype: torch.dtype, shape: tuple[int, ...]) -> Tensor:
        """A tensor in the file; a view of the mapping wherever its place allows.

        Raises:
            CheckpointError: the file cannot be mapped, or has become shorter.
        """
        if nbytes == 0:
            return torch.empty(shape, dtype=dtype)
        if self._path.stat().st_size < start + nbytes:
            raise CheckpointError(
                f"{self._path} was cut short while it was being read. Download it again.",
                code="checkpoint_corrupt",
            )
        data = self._mapping()[start : start + nbytes]
        if start % dtype.itemsize:  # torch has no tensors between the places of their numbers
            return data.clone().view(dtype).reshape(shape)
        return with_origin(data.view(dtype).reshape(shape), Origin(self._path, start))

    def _mapping(self) -> Tensor:
        if self._bytes is None:
            try:
                with self._path.open("rb") as file:
                    self._bytes = torch.frombuffer(_map(file.fileno()), dtype=torch.uint8)
            except (OSError, ValueError) as error:
                raise CheckpointError(
                    f"The model file {self._path} cannot be mapped into memory ({error}); check the disk, or copy "
                    "the file to a local one.",
                    code="checkpoint_missing",
                ) from error
        return self._bytes


def _map(file: int) -> mmap.mmap:
    if not _LINUX:
        return mmap.mmap(file, 0, access=mmap.ACCESS_COPY)
    flags, access = mmap.MAP_PRIVATE | _NO_RESERVE, mmap.PROT_READ | mmap.PROT_WRITE
    return mmap.mmap(file, 0, flags=flags, prot=access)
