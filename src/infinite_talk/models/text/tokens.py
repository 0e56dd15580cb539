"""Text to token numbers: cleaning, and the two ways of cutting it into pieces."""

from __future__ import annotations

import html
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import ftfy

from infinite_talk.errors import CheckpointError

_BYTE_OFFSET = 3  # padding, end mark, unknown
_BYTE_END = 1


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
    return [*(byte + _BYTE_OFFSET for byte in text.encode("utf-8", "replace")), _BYTE_END]


class FolderTokenizer:
    """The tokenizer of a published model, from its own folder (``google/umt5-xxl`` beside Wan2.1)."""

    def __init__(self, folder: Path) -> None:
        """Load it; nothing is downloaded.

        Raises:
            CheckpointError: the folder holds no tokenizer.
        """
        from transformers import AutoTokenizer

        try:
            if not folder.is_dir():  # else the name would be looked up on the network's model hub
                raise FileNotFoundError("no such folder")
            self._tokenizer = AutoTokenizer.from_pretrained(str(folder), local_files_only=True)
        except (OSError, ValueError, KeyError, ImportError) as error:
            raise CheckpointError(
                f"No tokenizer could be loaded from {folder} ({error}); expected the folder with "
                "tokenizer.json or spiece.model that was published with the text encoder.",
                code="tokenizer_missing",
            ) from error

    def __call__(self, text: str) -> Sequence[int]:
        ids: list[int] = self._tokenizer(text, add_special_tokens=True).input_ids
        return ids
