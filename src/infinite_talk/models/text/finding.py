"""Where the tokenizer of a text encoder is: named, inside the weights, beside them, or in the hub's cache."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from infinite_talk.errors import CheckpointError
from infinite_talk.models.text.config import TextConfig
from infinite_talk.models.text.pieces import PieceTokenizer, from_gguf, from_model
from infinite_talk.models.text.tokens import END, FILES, FolderTokenizer, Tokenizer

_BESIDE = ("", "google/umt5-xxl", "umt5-xxl", "tokenizer", "../tokenizer", "../google/umt5-xxl")
"""Seen from the folder of the weights: in it, in the official layout, and in that of diffusers."""
CACHED = (
    ("google/umt5-xxl", ""),
    ("Wan-AI/Wan2.1-I2V-14B-480P", "google/umt5-xxl/"),
    ("Wan-AI/Wan2.1-I2V-14B-720P", "google/umt5-xxl/"),
    ("Wan-AI/Wan2.1-I2V-14B-480P-Diffusers", "tokenizer/"),
    ("Wan-AI/Wan2.1-I2V-14B-720P-Diffusers", "tokenizer/"),
)
"""Repositories that hold the tokenizer of UMT5-XXL, and where in them."""


def find_tokenizer(
    config: TextConfig,
    weights: Sequence[Path] = (),
    *,
    folder: Path | None = None,
    embedded: bytes | None = None,
    metadata: Mapping[str, Any] | None = None,
) -> Tokenizer | None:
    """The tokenizer of a text encoder; ``None`` for a model of bytes, which needs none. Downloads nothing.

    Args:
        weights: the encoder's files; the folders around them are searched.
        folder: chosen by the person; then no other place is looked at.
        embedded: the SentencePiece model that ComfyUI's files carry (``keys.EMBEDDED_TOKENIZER``), as bytes.
        metadata: of a GGUF file.

    Raises:
        CheckpointError: there is none, or what was chosen is another model's; the message names the places and what
            to do.
    """
    if config.bytes:
        return None
    source = ", ".join(path.name for path in weights) or "the text encoder"
    if folder is not None:
        return _checked(FolderTokenizer(folder), config, str(folder))
    if embedded is not None:
        return _checked(from_model(embedded, source), config, source)
    if metadata and (inside := from_gguf(metadata, source)):
        return _checked(inside, config, source)
    for place in _places(weights):
        # Another model's tokenizer may lie there as well, e.g. that of a text tower of CLIP.
        if has_tokenizer(place) and fits(found := FolderTokenizer(place), config):
            return found
    beside = ", ".join(sorted({str(path.parent) for path in weights})) or "the weights"
    raise CheckpointError(
        f"The text encoder {source} knows {config.vocab_size} pieces of words, but its tokenizer was not found: "
        f"looked inside the file, in and beside {beside} (google/umt5-xxl), and in the Hugging Face cache. Put "
        f"{' or '.join(FILES)} of google/umt5-xxl into a folder google/umt5-xxl beside the weights.",
        code="tokenizer_missing",
    )


def fits(tokenizer: FolderTokenizer | PieceTokenizer, config: TextConfig) -> bool:
    """Whether a tokenizer can be the encoder's: as many pieces as the embedding has rows, or a few less, and
    UMT5's end mark. Embeddings are padded to a round number of rows: 256384 for 256300 pieces.
    """
    return 0.9 * config.vocab_size <= tokenizer.size <= config.vocab_size and list(tokenizer("")) == [END]


def _checked(
    tokenizer: FolderTokenizer | PieceTokenizer, config: TextConfig, source: str
) -> FolderTokenizer | PieceTokenizer:
    if fits(tokenizer, config):
        return tokenizer
    raise CheckpointError(
        f"The tokenizer in {source} has {tokenizer.size} pieces and is not that of this text encoder, which has "
        f"{config.vocab_size} and the end mark {END}. Give the folder google/umt5-xxl of Wan2.1.",
        code="tokenizer_mismatch",
    )


def has_tokenizer(folder: Path) -> bool:
    """Whether a folder holds what ``FolderTokenizer`` reads."""
    return any((folder / name).is_file() for name in FILES)


def _places(weights: Sequence[Path]) -> Iterator[Path]:
    from huggingface_hub import try_to_load_from_cache

    for path in weights:
        home = path if path.is_dir() else path.parent
        yield from (home / place for place in _BESIDE)
    for repository, place in CACHED:
        for name in FILES:
            cached = try_to_load_from_cache(repository, place + name)
            if isinstance(cached, str):
                yield Path(cached).parent
