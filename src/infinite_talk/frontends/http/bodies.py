"""The body of a request becomes fields and files, whatever came; nothing in it is believed yet."""

from __future__ import annotations

import json
import math
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException
from starlette.requests import ClientDisconnect, Request

from infinite_talk.frontends.http.envelope import INVALID, Refusal

MAX_FIELDS = 64
MAX_FILES = 8
MAX_TEXT = 2**20
"""Bytes of a text field of a form. Media in text (data URLs) belong into a JSON body."""
MAX_DEPTH = 32
"""Of nested JSON."""
MAX_DIGITS = 400
"""Of one number."""
_KEYED = re.compile(r"(\w{1,60})\[(\w{1,60})\]")


@dataclass(frozen=True, slots=True)
class Parsed:
    """What was sent: plain values by name, and files by name."""

    fields: Mapping[str, Any]
    files: Mapping[str, UploadFile]


@asynccontextmanager
async def parsed_body(request: Request) -> AsyncIterator[Parsed]:
    """Read a JSON object or a form with files. Files are closed, and with that gone, at the end of the block.

    Raises:
        Refusal: 400 for what cannot be parsed, 415 for another kind of body.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "application/json":
        yield Parsed(json_object(await request.body()), {})
        return
    if kind not in ("multipart/form-data", "application/x-www-form-urlencoded"):
        raise Refusal(
            415,
            "Send multipart/form-data (with files) or application/json (with data URLs).",
            code="unsupported_body",
        )
    try:
        form = await request.form(max_files=MAX_FILES, max_fields=MAX_FIELDS, max_part_size=MAX_TEXT)
    except ClientDisconnect:
        raise
    except (MultiPartException, ValueError, KeyError) as error:
        reason = getattr(error, "message", "it is malformed")
        raise Refusal(400, f"The form cannot be read: {reason}", code="bad_form") from None
    except Exception as error:
        if type(error).__name__ != "HTTPException":
            raise
        raise Refusal(
            400, f"The form cannot be read: {getattr(error, 'detail', '')}", code="bad_form"
        ) from None
    try:
        yield _split(list(form.multi_items()))
    finally:
        await form.close()


def json_object(data: bytes) -> dict[str, Any]:
    """A JSON object, strictly: no repeated names, no NaN, numbers that fit, text that is Unicode.

    Raises:
        Refusal: 400, with what is wrong.
    """
    try:
        value = json_value(data.decode("utf-8"))
    except UnicodeDecodeError:
        raise _bad("the text is not UTF-8") from None
    if not isinstance(value, dict):
        raise _bad("expected an object")
    return value


def json_value(text: str, *, param: str | None = None) -> Any:  # noqa: ANN401 - any JSON
    """As ``json_object``, for any value, such as one inside of a form field."""
    try:
        value = json.loads(
            text,
            object_pairs_hook=_unique,
            parse_constant=_no_constant,
            parse_float=_finite,
            parse_int=_whole,
        )
        _walk(value, 0)
    except RecursionError:
        raise _bad("it is nested too deeply", param) from None
    except _JsonError as error:
        raise _bad(str(error), param) from None
    except ValueError:
        raise _bad("it is malformed", param) from None
    return value


class _JsonError(ValueError):
    """What is wrong, in words."""


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise _JsonError(f"the name {name[:60]!r} is given twice")
        found[name] = value
    return found


def _no_constant(text: str) -> float:
    raise _JsonError(f"{text} is no JSON")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise _JsonError("a number is too large")
    return number


def _whole(text: str) -> int:
    if len(text) > MAX_DIGITS:
        raise _JsonError("a number has too many digits")
    return int(text)


def _walk(value: object, depth: int) -> None:
    """Refuse depth, and text that is no Unicode (half of a surrogate pair)."""
    if depth > MAX_DEPTH:
        raise _JsonError("it is nested too deeply")
    if isinstance(value, str):
        _check_text(value)
    elif isinstance(value, Mapping):
        for name, inner in value.items():
            _check_text(name)
            _walk(inner, depth + 1)
    elif isinstance(value, list):
        for inner in value:
            _walk(inner, depth + 1)


def _check_text(text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise _JsonError("a text holds half of a surrogate pair") from None


def _split(items: list[tuple[str, UploadFile | str]]) -> Parsed:
    fields: dict[str, Any] = {}
    files: dict[str, UploadFile] = {}
    for name, value in items:
        if name in fields or name in files:
            raise Refusal(
                400, f"The field {name[:60]!r} is given twice.", code="repeated_field", param=name[:60]
            )
        if isinstance(value, str):
            try:
                _check_text(value)
                _check_text(name)
            except _JsonError as error:
                raise _bad(str(error), name[:60]) from None
            fields[name] = value
        else:
            files[name] = value
    return Parsed(_folded(fields), files)


def _folded(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Fields called ``name[key]`` put together as an object ``name``, which is how some clients write one in a form.

    Raises:
        Refusal: 400, the same name stands for a text too.
    """
    folded: dict[str, Any] = {}
    for name, value in fields.items():
        if not _KEYED.fullmatch(name):
            folded[name] = value
    for name, value in fields.items():
        if match := _KEYED.fullmatch(name):
            inside = folded.setdefault(match[1], {})
            if not isinstance(inside, dict):
                raise Refusal(
                    400, f"The field {match[1]!r} is given twice.", code="repeated_field", param=match[1]
                )
            inside[match[2]] = value
    return folded


def _bad(reason: str, param: str | None = None) -> Refusal:
    where = f"The field {param}" if param else "The body"
    return Refusal(400, f"{where} is no usable JSON: {reason}.", code="bad_json", kind=INVALID, param=param)
