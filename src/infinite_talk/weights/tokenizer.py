"""The tokenizer of an opened text encoder: from a folder that was named, from its own files, or beside them."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from infinite_talk.models.text import Tokenizer
from infinite_talk.models.text.finding import find_tokenizer
from infinite_talk.models.text.keys import EMBEDDED_TOKENIZER
from infinite_talk.models.text.pieces import has_vocabulary
from infinite_talk.weights.checkpoint import Checkpoint
from infinite_talk.weights.gguf import read_gguf_metadata
from infinite_talk.weights.sources import kind_of, open_tensors


def tokenizer_of(text: Checkpoint, folder: Path | None = None) -> Tokenizer | None:
    """The tokenizer of a text encoder; ``None`` for a model of bytes, which needs none.

    Args:
        folder: named by the person; ``None``: the one that the files carry, or the one beside them.

    Raises:
        CheckpointError: there is none, or it is damaged.
    """
    if text.config.bytes or folder is not None:
        return find_tokenizer(text.config, text.files, folder=folder)
    ggufs = [file for file in text.files if kind_of(file) == "gguf"]
    metadata = read_gguf_metadata(ggufs[0]) if ggufs else None
    return find_tokenizer(text.config, text.files, embedded=_embedded(text.files), metadata=metadata)


def carries_tokenizer(*files: Path) -> bool:
    """Whether the files of a text encoder, or a folder of them, hold its vocabulary themselves; headers only.

    Raises:
        CheckpointError: they cannot be opened.
    """
    tensors = open_tensors(*files, allow_pickle=True)
    if EMBEDDED_TOKENIZER in tensors:
        return True
    ggufs = (file for file in tensors.paths if kind_of(file) == "gguf")
    return any(has_vocabulary(read_gguf_metadata(file)) for file in ggufs)


def _embedded(files: tuple[Path, ...]) -> bytes | None:
    # The files were opened before, so that whether a pickle may be has been decided.
    tensors = open_tensors(*files, allow_pickle=True)
    if EMBEDDED_TOKENIZER not in tensors:
        return None
    stored = tensors[EMBEDDED_TOKENIZER]
    assert isinstance(stored, Tensor)
    return stored.numpy().tobytes()
