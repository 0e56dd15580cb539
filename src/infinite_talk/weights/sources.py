"""Opening any file of weights: what it is says its beginning, not its name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from torch import Tensor

from infinite_talk.errors import CheckpointError
from infinite_talk.ops.linear import Packed
from infinite_talk.weights.gguf import MAGIC, GGUFFile
from infinite_talk.weights.pickles import PickleFile
from infinite_talk.weights.reader import Source, TensorFiles, refused, shards

_ZIP, _PICKLE = b"PK\x03\x04", b"\x80"


class Tensors(Mapping[str, Tensor | Packed]):
    """The tensors of several sources by name; a later one overrides an earlier one."""

    def __init__(self, sources: Sequence[Source], kinds: Sequence[str]) -> None:
        self.kinds = tuple(dict.fromkeys(kinds))
        """``safetensors``, ``pickle``, ``gguf``."""
        self.paths = tuple(path for source in sources for path in source.paths)
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.dtypes: dict[str, str] = {}
        self.sizes: dict[str, int] = {}
        self.metadata: dict[str, str] = {}
        self._home: dict[str, Source] = {}
        for source in sources:
            self.shapes.update(source.shapes)
            self.dtypes.update(source.dtypes)
            self.sizes.update(source.sizes)
            self.metadata.update(source.metadata)
            self._home.update(dict.fromkeys(source.shapes, source))

    def __getitem__(self, name: str) -> Tensor | Packed:
        return self._home[name][name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._home)

    def __len__(self) -> int:
        return len(self._home)


def open_tensors(*paths: Path, allow_pickle: bool = False) -> Tensors:
    """The tensors of files and folders of shards; headers only.

    Raises:
        CheckpointError: a file is missing, not whole, no file of weights, or a pickle that is not allowed.
    """
    files = [file for path in paths for file in shards(path)]
    kinds = [kind_of(file) for file in files]
    return Tensors([_open(f, k, allow_pickle) for f, k in zip(files, kinds, strict=True)], kinds)


def kind_of(path: Path) -> str:
    """``safetensors``, ``pickle`` or ``gguf``.

    Raises:
        CheckpointError: it cannot be read, is empty, a web page or a Git LFS pointer.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            start = file.read(64)
    except OSError as error:
        raise CheckpointError(
            f"The model file {path} cannot be read ({error.strerror}); download it or correct the path.",
            code="checkpoint_missing",
        ) from error
    if start.startswith(MAGIC):
        return "gguf"
    if (
        start.startswith((_ZIP, _PICKLE)) and start[8:9] != b"{"
    ):  # a header of 128 bytes starts with \x80, too
        return "pickle"
    if start[8:9] == b"{":
        return "safetensors"
    raise refused(path, size, start, "safetensors, GGUF or PyTorch")


def _open(path: Path, kind: str, allow_pickle: bool) -> Source:
    if kind == "gguf":
        return GGUFFile(path)
    return PickleFile(path, allow=allow_pickle) if kind == "pickle" else TensorFiles(path)
