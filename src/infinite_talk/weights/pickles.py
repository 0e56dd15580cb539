"""Reading of PyTorch's ``.pth``, ``.pt`` and ``.bin`` files, with torch's reader for tensors only.

A pickle can run code when opened. ``torch.load(weights_only=True)`` admits tensors and plain containers only,
and before torch 2.10 that could be got around; so older ones are refused unless the user trusts the file.
The full unpickler is never used.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from infinite_talk.errors import CheckpointError
from infinite_talk.weights.reader import DTYPES

_SAFE = (2, 10)  # torch from which on weights_only has no known way around
_MAX_PROGRAM = 64_000_000  # bytes of the pickle beside the tensors; a real one has some hundred kilobytes
_WRAPPERS = ("state_dict", "model", "model_state", "module", "params", "params_ema")
_NAMES = {dtype: name for name, dtype in DTYPES.items()}
_AGAIN = "Download it again."


class PickleFile(Mapping[str, Tensor]):
    """The tensors of one PyTorch file; memory-mapped, so opening reads the names only.

    Args:
        allow: the user trusts the file, on a torch whose reader has known holes.

    Raises:
        CheckpointError: not whole, with something else than tensors in it, or torch is too old.
    """

    def __init__(self, path: Path, *, allow: bool = False) -> None:
        if not allow and torch_version() < _SAFE:
            raise CheckpointError(
                f"{path} is a PyTorch pickle, which could run code: the check of torch {torch.__version__} can "
                "be got around. Update torch to 2.10 or newer, take the .safetensors file of this model, or "
                "say that you trust the file.",
                code="checkpoint_pickle",
            )
        self.paths = (path,)
        self._tensors = _tensors(_load(path), path)
        self.shapes = {name: tuple(tensor.shape) for name, tensor in self._tensors.items()}
        self.dtypes = {
            name: _NAMES.get(tensor.dtype, str(tensor.dtype)) for name, tensor in self._tensors.items()
        }
        self.sizes = {name: tensor.numel() * tensor.element_size() for name, tensor in self._tensors.items()}
        self.metadata: dict[str, str] = {}

    def __getitem__(self, name: str) -> Tensor:
        return self._tensors[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)


def torch_version() -> tuple[int, int]:
    """Major and minor version of torch."""
    major, minor = torch.__version__.split(".")[:2]
    return int(major), int(minor)


def _load(path: Path) -> object:
    zipped = _check_zip(path)
    try:
        return torch.load(path, map_location="cpu", weights_only=True, mmap=True if zipped else None)
    except Exception as error:  # what the unpickler meets in a damaged or hostile file can be anything
        reason = str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__
        raise CheckpointError(
            f"{path} cannot be read as a file of tensors ({reason}). It is damaged or holds other Python objects, "
            "which are never loaded because they could run code. Take the .safetensors file of this model.",
            code="checkpoint_corrupt",
        ) from error


def _check_zip(path: Path) -> bool:
    """Whether the file is a zip, as torch writes them since 1.6, and then whole and of a sane size.

    Raises:
        CheckpointError: it is not whole, or its pickle is absurdly large.
    """
    with path.open("rb") as file:
        if file.read(4) != b"PK\x03\x04":
            return False
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise CheckpointError(
            f"{path} is not a whole PyTorch file: the download was cut short or mixed up. {_AGAIN}",
            code="checkpoint_corrupt",
        ) from error
    programs = [entry for entry in entries if entry.filename.rpartition("/")[2] == "data.pkl"]
    packed = any(entry.compress_type != zipfile.ZIP_STORED for entry in entries)
    if len(programs) != 1 or programs[0].file_size > _MAX_PROGRAM or packed:
        raise CheckpointError(f"{path} is no file that PyTorch writes. {_AGAIN}", code="checkpoint_corrupt")
    return True


def _tensors(content: object, path: Path) -> dict[str, Tensor]:
    """The tensors by name, out of the wrappers of training programs."""
    while isinstance(content, dict):
        inner: Any = next((content[key] for key in _WRAPPERS if isinstance(content.get(key), dict)), None)
        if inner is None:
            break
        content = inner
    if not isinstance(content, dict):
        raise CheckpointError(
            f"{path} holds no tensors by name but a {type(content).__name__}; expected the weights of a model.",
            code="checkpoint_mismatch",
        )
    found = {str(name): value for name, value in content.items() if isinstance(value, Tensor)}
    if not found:
        raise CheckpointError(
            f"{path} holds no tensors by name; expected the weights of a model.", code="checkpoint_mismatch"
        )
    return found
