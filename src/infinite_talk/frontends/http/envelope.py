"""Errors as programs of this kind of API expect them: ``{"error": {"message", "type", "param", "code"}}``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel
from starlette.responses import Response

from infinite_talk import (
    CapabilityError,
    CheckpointError,
    InfiniteTalkError,
    InputError,
    NoSpaceError,
    OutOfMemoryError,
    UsageError,
)

INVALID, CONFLICT, LIMIT, SERVER = (
    "invalid_request_error",
    "conflict_error",
    "rate_limit_error",
    "server_error",
)


class ErrorBody(BaseModel):
    """What went wrong."""

    message: str
    type: str
    param: str | None
    code: str | None


class ErrorEnvelope(BaseModel):
    """Every answer that is no success."""

    error: ErrorBody


class Refusal(Exception):  # noqa: N818 - an answer, not a failure
    """An answer other than success, by its status.

    Args:
        status: of HTTP.
        message: what came, what was expected, what to do.
        code: short name for programs.
        kind: group of errors, as in the envelope's ``type``.
        param: field of the request that is wrong.
        headers: of the answer.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        code: str,
        kind: str = INVALID,
        param: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.code, self.kind, self.param = status, message, code, kind, param
        self.headers = dict(headers or {})


_BY_CODE: Mapping[str, tuple[int, str]] = {
    "job_not_found": (404, INVALID),
    "job_state": (409, CONFLICT),
    "key_reused": (409, CONFLICT),
    "not_ready": (409, CONFLICT),
    "queue_full": (429, LIMIT),
    "upload_too_large": (413, INVALID),
    "no_space": (507, SERVER),
    "not_writable": (507, SERVER),
    "check_unavailable": (503, SERVER),
}
_BY_KIND: tuple[tuple[type[InfiniteTalkError], int, str], ...] = (
    (UsageError, 400, INVALID),
    (InputError, 400, INVALID),
    (CapabilityError, 400, INVALID),
    (NoSpaceError, 507, SERVER),
    (CheckpointError, 503, SERVER),
    (OutOfMemoryError, 503, SERVER),
)
_UNSUPPORTED = "_unsupported"
"""End of the codes of files that are of no kind that is read."""


def refusal_of(error: InfiniteTalkError, *, param: str | None = None, retry_after: int = 10) -> Refusal:
    """The answer to one of our errors."""
    status, kind = _status(error)
    headers = {"retry-after": str(retry_after)} if status in (429, 503) else {}
    return Refusal(status, error.message, code=error.code, kind=kind, param=param, headers=headers)


def answer_of(refusal: Refusal) -> Response:
    """The envelope with its status and headers."""
    error = {
        "message": _plain(refusal.message),
        "type": refusal.kind,
        "param": refusal.param and _plain(refusal.param),
        "code": refusal.code,
    }
    return Response(
        json.dumps({"error": error}, ensure_ascii=True),
        status_code=refusal.status,
        headers=refusal.headers,
        media_type="application/json",
    )


Answers = dict[int | str, dict[str, Any]]
"""Statuses and what they come with, for the OpenAPI document."""


def documented(*statuses: int) -> Answers:
    """These statuses, and those that any request may have, with the envelope."""
    every = {400, 401, 403, 408, 413, 503, *statuses}
    return {
        status: {"model": ErrorEnvelope, "description": _WORDS.get(status, "Refused")}
        for status in sorted(every)
    }


_WORDS = {
    400: "A field is wrong; it is named",
    401: "The API key is missing or wrong",
    403: "Another site's page, or another name of this server",
    404: "There is no such video",
    405: "The path does not know this method",
    408: "The body did not arrive in time",
    409: "Not in this state",
    410: "It was there, and is not kept any longer",
    413: "The body is too large",
    415: "The body is of another kind",
    416: "The range lies outside of the file",
    429: "The queue is full",
    503: "Not now; try again later",
    507: "The disk is full",
}


def _status(error: InfiniteTalkError) -> tuple[int, str]:
    if error.code in _BY_CODE:
        return _BY_CODE[error.code]
    if error.code.endswith(_UNSUPPORTED):
        return 415, INVALID
    if error.code.startswith("store"):
        return 503, SERVER
    for kind, status, name in _BY_KIND:
        if isinstance(error, kind):
            return status, name
    return (400, INVALID) if error.exit_code == UsageError.exit_code else (500, SERVER)


def _plain(text: str) -> str:
    """Without characters that JSON cannot carry as UTF-8."""
    return text.encode("utf-8", "replace").decode()
