"""Media in a request: parts of a form, data URLs, and addresses where those are allowed."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO

from infinite_talk.frontends.http.bodies import Parsed, json_value
from infinite_talk.frontends.http.envelope import Refusal

Fetch = Callable[[str], Iterable[bytes]]
"""Reads an address given by a client, with all care; raises one of our errors."""

_PIECE = 2**20
_DATA = re.compile(r"data:(?P<type>[\w.+/-]*)(;[\w.+-]+=[\w.+-]+)*(?P<base64>;base64)?,", re.IGNORECASE)
_REFERENCES: Mapping[str, tuple[str, ...]] = {
    "input_reference": ("image_url", "video_url"),
    "audio": ("audio_url",),
    "audio_reference": ("audio_url",),
    "audio_2": ("audio_url",),
    "audio_reference_2": ("audio_url",),
    "mask": ("image_url",),
    "mask_2": ("image_url",),
}
"""Names of the address inside of an object, by field."""
_PICTURES = (b"\x89PNG", b"\xff\xd8\xff", b"BM", b"GIF8")


@dataclass(frozen=True, slots=True)
class Medium:
    """One file that came along, not yet read to its end."""

    field: str
    name: str
    head: bytes
    """Its first bytes, which ``pieces`` gives too."""
    pieces: Iterator[bytes]

    @property
    def picture(self) -> bool:
        """Whether it begins like an image; films are told by being none."""
        webp = self.head[:4] == b"RIFF" and self.head[8:12] == b"WEBP"
        return webp or self.head.startswith(_PICTURES)


def medium_of(parsed: Parsed, field: str, fetch: Fetch | None) -> Medium | None:
    """The file of a field, however it was given.

    Raises:
        Refusal: 400, neither a file nor a usable reference.
    """
    if field in parsed.files:
        upload = parsed.files[field]
        return _medium(field, upload.filename or "", _read(upload.file))
    value = parsed.fields.get(field)
    if value is None:
        return None
    address = _address(field, value)
    if match := _DATA.match(address):
        return _medium(field, "", iter([_decoded(field, address, match)]))
    if not re.match(r"https?://", address, re.IGNORECASE):
        raise _wrong(field, "expected a file, or a data URL (data:...;base64,...)")
    if fetch is None:
        raise Refusal(
            400,
            f"{field}: this server does not fetch addresses. Send the file, or a data URL.",
            code="url_not_allowed",
            param=field,
        )
    return _medium(field, "", iter(fetch(address)))


def _address(field: str, value: Any) -> str:  # noqa: ANN401 - any JSON
    """The text that stands for a file: itself, or in an object, or in an object as JSON text."""
    if isinstance(value, str) and value.lstrip().startswith("{"):
        value = json_value(value, param=field)
    if isinstance(value, dict):
        names = _REFERENCES[field]
        if len(value) != 1 or next(iter(value)) not in names:
            raise _wrong(field, f"expected an object with {' or '.join(names)}")
        value = next(iter(value.values()))
    if not isinstance(value, str):
        raise _wrong(field, "expected text")
    return value


def _decoded(field: str, address: str, match: re.Match[str]) -> bytes:
    if not match["base64"]:
        raise _wrong(field, "expected a data URL in base64")
    try:
        return base64.b64decode(address[match.end() :], validate=True)
    except (binascii.Error, ValueError):
        raise _wrong(field, "its base64 is damaged") from None


def _medium(field: str, name: str, pieces: Iterator[bytes]) -> Medium:
    head = b""
    while len(head) < 16 and (piece := next(pieces, b"")):
        head += piece

    def all_of_it() -> Iterator[bytes]:
        yield head
        yield from pieces

    return Medium(field, name[:300], head[:16], all_of_it())


def _read(file: BinaryIO) -> Iterator[bytes]:
    file.seek(0)
    while piece := file.read(_PIECE):
        yield piece


def _wrong(field: str, expected: str) -> Refusal:
    return Refusal(400, f"{field}: {expected}.", code="invalid_field", param=field)
