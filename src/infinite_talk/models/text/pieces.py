"""A SentencePiece vocabulary as a tokenizer: from a ``spiece.model``, or from what a GGUF file says of it.

The pieces are cut by the library ``tokenizers``, as in the official program; this file only reads the vocabulary.
A ``spiece.model`` is a protobuf message (``sentencepiece_model.proto`` of google/sentencepiece): field 1 the
pieces, each with text (1), score (2) and kind (3); field 2 how it was trained; field 3 how text is normalised.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers, processors

from infinite_talk.errors import CheckpointError

_NORMAL, _USER_DEFINED = 1, 4
_SILENT = (2, 3, 5)  # unknown, control, unused: no text is cut into them
_UNIGRAM = 1
_GGUF = "tokenizer.ggml."
"""Beginning of the keys under which GGUF files have their vocabulary."""
_SPACE = "\u2581"  # stands for a space in the pieces
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
"""Kinds of values in a protobuf message."""

Value = int | bytes


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """All that a SentencePiece model of the unigram kind knows."""

    pieces: tuple[str, ...]
    scores: tuple[float, ...]  # logarithm of the probability
    kinds: tuple[
        int, ...
    ]  # 1 normal, 2 unknown, 3 control, 4 found as a whole before all others, 5 unused, 6 byte
    unknown: int
    end: int
    byte_fallback: bool
    add_space: bool  # in front of a text
    charsmap: bytes  # compiled replacements of characters; may be empty

    def __post_init__(self) -> None:
        count = len(self.pieces)
        if not count or not len(self.scores) == len(self.kinds) == count:
            raise ValueError(f"{count} pieces with {len(self.scores)} scores and {len(self.kinds)} kinds")
        if not 0 <= self.unknown < count or not 0 <= self.end < count:
            raise ValueError(f"marks {self.unknown} and {self.end} are outside {count} pieces")


class PieceTokenizer:
    """Cuts a clean text into the most probable pieces, the end mark last."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        # A silent piece gets a name that is in no text, else a prompt could spell the end mark.
        names = [
            f"\0{number}" if kind in _SILENT else piece
            for number, (piece, kind) in enumerate(zip(vocabulary.pieces, vocabulary.kinds, strict=True))
        ]
        pairs = list(zip(names, vocabulary.scores, strict=True))
        tokenizer = Tokenizer(
            models.Unigram(pairs, vocabulary.unknown, byte_fallback=vocabulary.byte_fallback)
        )
        steps: list[Any] = [normalizers.Precompiled(vocabulary.charsmap)] if vocabulary.charsmap else []
        steps.append(
            normalizers.Replace(Regex(" {2,}"), _SPACE)
        )  # replacements of characters may make spaces
        tokenizer.normalizer = normalizers.Sequence(steps)
        scheme = "first" if vocabulary.add_space else "never"
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(replacement=_SPACE, prepend_scheme=scheme)
        end = names[vocabulary.end]
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"$A {end}", special_tokens=[(end, vocabulary.end)]
        )
        whole = zip(vocabulary.pieces, vocabulary.kinds, strict=True)
        tokenizer.add_tokens(
            [AddedToken(piece, normalized=False) for piece, kind in whole if kind == _USER_DEFINED]
        )
        self._tokenizer = tokenizer

    @property
    def size(self) -> int:
        """How many pieces there are."""
        return self._tokenizer.get_vocab_size()

    def __call__(self, text: str) -> Sequence[int]:
        return self._tokenizer.encode(text).ids


def from_model(data: bytes, source: str) -> PieceTokenizer:
    """The tokenizer of a ``spiece.model``'s bytes. ``source``: what to call it in an error message.

    Raises:
        CheckpointError: it is damaged, or a SentencePiece model of another kind.
    """
    try:
        return PieceTokenizer(_vocabulary(data))
    except (ValueError, IndexError, TypeError, struct.error) as error:
        raise _damaged(source, error) from error
    except Exception as error:  # the library raises no narrower one for a damaged table of replacements
        raise _damaged(source, error) from error


def from_gguf(metadata: Mapping[str, Any], source: str) -> PieceTokenizer | None:
    """The tokenizer that a GGUF file describes (``tokenizer.ggml.*``, model ``t5``), or ``None`` without one.

    Args:
        metadata: values by key as ``gguf`` reads them: numbers, texts, lists of either.

    Raises:
        CheckpointError: what it says is incomplete.
    """
    if not has_vocabulary(metadata):
        return None
    place = _GGUF
    tokens = tuple(str(token) for token in metadata[f"{place}tokens"])
    try:
        vocabulary = Vocabulary(
            pieces=tokens,
            scores=tuple(float(score) for score in metadata[f"{place}scores"]),
            kinds=tuple(int(kind) for kind in metadata.get(f"{place}token_type", (_NORMAL,) * len(tokens))),
            unknown=int(metadata.get(f"{place}unknown_token_id", 2)),
            end=int(metadata.get(f"{place}eos_token_id", 1)),
            byte_fallback="<0x00>" in tokens,
            add_space=bool(metadata.get(f"{place}add_space_prefix", True)),
            charsmap=bytes(bytearray(metadata.get(f"{place}precompiled_charsmap", b""))),
        )
        return PieceTokenizer(vocabulary)
    except Exception as error:
        raise _damaged(source, error) from error


def has_vocabulary(metadata: Mapping[str, Any]) -> bool:
    """Whether a GGUF file describes a SentencePiece vocabulary of the unigram kind."""
    return metadata.get(f"{_GGUF}model") == "t5" and f"{_GGUF}tokens" in metadata


def _damaged(source: str, error: Exception) -> CheckpointError:
    return CheckpointError(
        f"The vocabulary in {source} cannot be read ({error}); expected a SentencePiece model of the unigram kind, "
        "as UMT5 has. Download it again, or give the tokenizer folder google/umt5-xxl.",
        code="tokenizer_corrupt",
    )


def _vocabulary(data: bytes) -> Vocabulary:
    pieces: list[str] = []
    scores: list[float] = []
    kinds: list[int] = []
    trainer: dict[int, Value] = {}
    normalizer: dict[int, Value] = {}
    for field, value in _fields(data):
        if not isinstance(value, bytes):
            continue
        if field == 1:
            piece = dict(_fields(value))
            pieces.append(_bytes(piece[1]).decode("utf-8", "replace"))
            scores.append(struct.unpack("<f", _bytes(piece.get(2, bytes(4))))[0])
            kinds.append(_int(piece.get(3, _NORMAL)))
        elif field == 2:
            trainer = dict(_fields(value))
        elif field == 3:
            normalizer = dict(_fields(value))
    if _int(trainer.get(3, _UNIGRAM)) != _UNIGRAM:
        raise ValueError("it is not of the unigram kind")
    return Vocabulary(
        pieces=tuple(pieces),
        scores=tuple(scores),
        kinds=tuple(kinds),
        unknown=_int(trainer.get(40, 0)),
        end=_int(trainer.get(42, 2)),
        byte_fallback=bool(trainer.get(35, 0)),
        add_space=bool(normalizer.get(3, 1)),
        charsmap=_bytes(normalizer.get(2, b"")),
    )


def _fields(data: bytes) -> Iterator[tuple[int, Value]]:
    """The fields of a protobuf message, numbers as ``int``, all else as its bytes."""
    place = 0
    while place < len(data):
        key, place = _varint(data, place)
        kind = key & 7
        if kind == _VARINT:
            number, place = _varint(data, place)
            yield key >> 3, number
            continue
        if kind == _BYTES:
            size, place = _varint(data, place)
        elif kind in (_FIXED32, _FIXED64):
            size = 4 if kind == _FIXED32 else 8
        else:
            raise ValueError(f"kind {kind} of value at byte {place}")
        if place + size > len(data):
            raise ValueError(f"it ends before byte {place + size}")
        yield key >> 3, data[place : place + size]
        place += size


def _varint(data: bytes, place: int) -> tuple[int, int]:
    """A number of 7 bits a byte from ``place``, and the place behind it."""
    number = 0
    for shift in range(0, 70, 7):
        byte = data[place]
        place += 1
        number |= (byte & 127) << shift
        if byte < 128:
            return number, place
    raise ValueError(f"a number without an end at byte {place}")


def _bytes(value: Value) -> bytes:
    if not isinstance(value, bytes):
        raise TypeError("a number where bytes are expected")
    return value


def _int(value: Value) -> int:
    if not isinstance(value, int):
        raise TypeError("bytes where a number is expected")
    return value
