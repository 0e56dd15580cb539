"""Text to token numbers: cleaning, and the two ways of cutting it into pieces."""

from __future__ import annotations

import html
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import ftfy
from tokenizers import Tokenizer as Library

from infinite_talk.errors import CheckpointError
from infinite_talk.models.text.pieces import from_model

_BYTE_OFFSET = 3  # padding, end mark, unknown
END = 1
"""The end mark of ByT5 and of UMT5."""

FILES = ("tokenizer.json", "spiece.model")
"""What a tokenizer's folder holds at least one of; the first is faster to load."""


class Tokenizer(Protocol):
    """Cuts a clean text into token numbers, the end mark last."""

    def __call__(self, text: str) -> Sequence[int]: ...


@dataclass(frozen=True, slots=True)
class Tokens:
    """The token numbers of one text."""

    ids: tuple[int, ...]
    dropped: int  # tokens that did not fit


def clean(text: str) -> str:
    """Repair wrongly decoded characters, resolve HTML entities (``&amp;lt;`` too), collapse white space."""
    text = html.unescape(html.unescape(ftfy.fix_text(text)))
    return re.sub(r"\s+", " ", text).strip()


def tokenise(text: str, tokenizer: Tokenizer, limit: int) -> Tokens:
    """Clean and cut ``text`` into at most ``limit`` tokens; the end mark is kept."""
    ids = tuple(tokenizer(clean(text)))
    if len(ids) <= limit:
        return Tokens(ids, 0)
    return Tokens((*ids[: limit - 1], ids[-1]), len(ids) - limit)


def byte_tokenizer(text: str) -> Sequence[int]:
    """ByT5: every UTF-8 byte is a token, so no vocabulary file is needed and nothing is unknown."""
    return [*(byte + _BYTE_OFFSET for byte in text.encode("utf-8", "replace")), END]


class FolderTokenizer:
    """The tokenizer of a published model, from its own folder (``google/umt5-xxl`` beside Wan2.1)."""

    def __init__(self, folder: Path) -> None:
        """Load ``tokenizer.json``, or else ``spiece.model``; nothing is downloaded.

        Raises:
            CheckpointError: the folder holds no tokenizer, or a damaged one.
        """
        whole, pieces = (folder / name for name in FILES)
        if whole.is_file():
            library = _from_json(whole)
            self.size = library.get_vocab_size()  # pieces and special tokens
            self._cut: Tokenizer = lambda text: library.encode(text, add_special_tokens=True).ids
        elif pieces.is_file():
            made = from_model(pieces.read_bytes(), str(pieces))
            self.size, self._cut = made.size, made
        else:
            raise CheckpointError(
                f"No tokenizer in {folder}; expected the folder with {' or '.join(FILES)} that was published with "
                "the text encoder.",
                code="tokenizer_missing",
            )

    def __call__(self, text: str) -> Sequence[int]:
        return self._cut(text)


def _from_json(path: Path) -> Library:
    try:
        library = Library.from_file(str(path))
    except Exception as error:  # the library raises no narrower one
        raise CheckpointError(
            f"The tokenizer {path} cannot be read ({error}). Download it again.", code="tokenizer_corrupt"
        ) from error
    # Texts are cut and padded by us, whatever the file was used for last.
    library.no_truncation()
    library.no_padding()
    return library
