"""Files as answers: ranges, conditions and HEAD as RFC 9110 has them."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from email.utils import formatdate
from pathlib import Path
from typing import BinaryIO

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from infinite_talk.frontends.http.envelope import Refusal, answer_of
from infinite_talk.frontends.naming import disposition

_PIECE = 256 * 1024
_RANGE = re.compile(r"bytes=[ \t]*([0-9]*)-([0-9]*)[ \t]*", re.IGNORECASE)
_TAG = re.compile(r'(?:W/)?"[\x21\x23-\x7e\x80-\xff]*"')


@dataclass(frozen=True, slots=True)
class Span:
    """Bytes ``start`` to ``end`` of a file, ``end`` not included."""

    start: int
    end: int


class UnsatisfiableError(ValueError):
    """A range outside of the file."""


def range_of(header: str | None, size: int) -> Span | None:
    """The one range that is asked for, or ``None`` for the whole file (RFC 9110, 14.2).

    What is malformed or of another unit is ignored, as is a list of several ranges: a server may always send all.

    Raises:
        UnsatisfiableError: the range begins behind the end, or is the last 0 bytes.
    """
    match = _RANGE.fullmatch(header.strip()) if header is not None else None
    if match is None or not (match[1] or match[2]):
        return None
    if not match[1]:
        last = _number(match[2])
        if last == 0 or size == 0:
            raise UnsatisfiableError
        return Span(max(0, size - last), size)
    start = _number(match[1])
    end = _number(match[2]) if match[2] else size - 1
    if match[2] and end < start:
        return None
    if start >= size:
        raise UnsatisfiableError
    return Span(start, min(end + 1, size))


def matches(header: str, tag: str) -> bool:
    """Whether an If-None-Match header names the tag; compared weakly, as for that header."""
    if header.strip() == "*":
        return True
    return tag in {found.removeprefix("W/") for found in _TAG.findall(header)}


async def file_answer(
    request: Request, path: Path, *, kind: str, name: str, headers: Mapping[str, str] | None = None
) -> Response:
    """Answer with a file that is complete and will not change.

    It is opened before the answer begins: deleted meanwhile, it is sent to its end all the same.

    Args:
        request: GET or HEAD.
        path: the file.
        kind: its media type.
        name: under which a browser saves it; any text.
        headers: more of them.

    Raises:
        FileNotFoundError: it is not there.
    """
    file = await run_in_threadpool(path.open, "rb")
    try:
        state = os.fstat(file.fileno())
        tag = tag_of(state)
        told = {
            "etag": tag,
            "last-modified": formatdate(state.st_mtime, usegmt=True),
            "accept-ranges": "bytes",
            "cache-control": "private, no-cache",
            "content-disposition": disposition(name),
            "x-content-type-options": "nosniff",
            **(headers or {}),
        }
        if (known := request.headers.get("if-none-match")) is not None and matches(known, tag):
            return _closing(file, Response(status_code=304, headers=told))
        wanted = None if _changed(request, told) else request.headers.get("range")
        try:
            span = range_of(wanted, state.st_size)
        except UnsatisfiableError:
            refusal = Refusal(
                416,
                f"The range lies outside of the file of {state.st_size} bytes.",
                code="bad_range",
                headers={"content-range": f"bytes */{state.st_size}"},
            )
            return _closing(file, answer_of(refusal))
    except BaseException:
        file.close()
        raise
    if span is not None:
        told["content-range"] = f"bytes {span.start}-{span.end - 1}/{state.st_size}"
    sent = span or Span(0, state.st_size)
    told["content-length"] = str(sent.end - sent.start)
    status = 200 if span is None else 206
    if request.method == "HEAD":
        return _closing(file, Response(status_code=status, headers=told, media_type=kind))
    return StreamingResponse(_bytes(file, sent), status_code=status, headers=told, media_type=kind)


def tag_of(state: os.stat_result) -> str:
    """A strong tag: files get their name when they are complete, so these three tell versions apart."""
    seen = f"{state.st_ino}-{state.st_size}-{state.st_mtime_ns}"
    return f'"{hashlib.sha256(seen.encode()).hexdigest()[:32]}"'


def _changed(request: Request, told: Mapping[str, str]) -> bool:
    """Whether If-Range says that the client's part is of another version."""
    known = request.headers.get("if-range")
    return known is not None and known not in (told["etag"], told["last-modified"])


def _closing(file: BinaryIO, response: Response) -> Response:
    file.close()
    return response


async def _bytes(file: BinaryIO, span: Span) -> AsyncIterator[bytes]:
    with file:
        await run_in_threadpool(file.seek, span.start)
        left = span.end - span.start
        while left and (piece := await run_in_threadpool(file.read, min(_PIECE, left))):
            left -= len(piece)
            yield piece


def _number(digits: str) -> int:
    """A number that may have very many digits; beyond any file's size they do not matter."""
    return int(digits[:30])
