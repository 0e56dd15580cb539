"""What every request passes before any handler sees it: Host, Origin, key, and the size and pace of its body.

Plain ASGI, around the whole application, so that pages mounted on it are behind the same door.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import re
from time import monotonic
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from infinite_talk.frontends.http.envelope import Refusal, answer_of
from infinite_talk.frontends.http.options import HttpOptions
from infinite_talk.frontends.http.sessions import Sessions

OPEN = frozenset({"/health", "/ready", "/login"})
"""Paths that need no key."""
_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
_GRACE = 30.0  # seconds before the pace of a body is judged
_HOST = re.compile(r"(?P<name>\[[0-9a-fA-F:.]+\]|[A-Za-z0-9._-]+)(:(?P<port>[0-9]{1,5}))?")


class Guards:
    """The door. Refusals have the usual envelope and end the connection's request before its body is read."""

    def __init__(self, app: ASGIApp, options: HttpOptions, sessions: Sessions) -> None:
        self._app, self._options, self._sessions = app, options, sessions
        self._key = None if options.api_key is None else digest(options.api_key)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        try:
            self._check_host(headers)
            self._check_origin(scope, headers)
            self._check_key(scope, headers)
            limit = self._limit(scope, headers)
        except Refusal as refusal:
            await self._refuse(refusal, scope, receive, send)
            return
        if scope["type"] == "websocket":
            await self._app(scope, receive, send)
            return
        body = Body(receive, limit, self._options)
        answer = Answer(send)
        try:
            await self._app(scope, body.receive, answer.send)
        except Refusal as refusal:
            if answer.begun:
                raise
            await self._refuse(refusal, scope, receive, send)

    def _check_host(self, headers: Headers) -> None:
        """A name that this server has, once."""
        given = headers.getlist("host")
        match = _HOST.fullmatch(given[0]) if len(given) == 1 else None
        if match is None:
            raise Refusal(400, "The Host header is missing, repeated or malformed.", code="bad_host")
        hosts = self._options.hosts
        if hosts is not None and match["name"].lower() not in hosts:
            raise Refusal(
                403,
                "This server does not answer under that name. Call it by one of: "
                f"{', '.join(hosts)}; more are allowed with --allow-host.",
                code="host_not_allowed",
            )

    def _check_origin(self, scope: Scope, headers: Headers) -> None:
        """What a page of another site has its visitor's browser send is refused; programs send no Origin."""
        given = headers.getlist("origin")
        if not given or (scope["type"] == "http" and scope["method"] in _SAFE):
            return
        own = urlsplit(given[0])
        same = own.scheme in ("http", "https") and own.netloc.lower() == headers["host"].lower()
        if len(given) != 1 or not (same or given[0] in self._options.origins):
            raise Refusal(
                403,
                "Pages of other sites may not call this server.",
                code="origin_not_allowed",
                kind="permission",
            )

    def _check_key(self, scope: Scope, headers: Headers) -> None:
        """The key as a bearer token, or the session of a browser that has shown it. Compared in constant time."""
        if self._key is None or scope["path"] in OPEN:
            return
        given = headers.get("authorization", "")
        scheme, _, token = given.partition(" ")
        if scheme.lower() == "bearer" and same_key(token.strip(), self._key):
            return
        if not given and self._sessions.knows(headers.get("cookie", "")):
            return
        if not given and scope["type"] == "http" and _is_page(scope, headers):
            raise Refusal(303, "Log in first.", code="login", headers={"location": "/login"})
        said = "The API key is wrong." if given else "An API key is needed."
        raise Refusal(
            401,
            f"{said} Send it in the header: Authorization: Bearer KEY.",
            code="invalid_api_key",
            kind="authentication_error",
            headers={"www-authenticate": "Bearer"},
        )

    def _limit(self, scope: Scope, headers: Headers) -> int:
        """Most bytes that the body may have; a declared length beyond it is refused at once."""
        if scope["type"] == "websocket":
            return 0
        limit = limit_of(scope["path"], headers.get("content-type", ""), self._options)
        length = headers.get("content-length")
        if length is not None:
            if not re.fullmatch(r"[0-9]{1,18}", length):
                raise Refusal(400, "The Content-Length header is no number.", code="bad_length")
            if int(length) > limit:
                raise too_large(limit)
        return limit

    @staticmethod
    async def _refuse(refusal: Refusal, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
            return
        response = answer_of(refusal)
        response.headers["connection"] = "close"  # what is left of the body is not read
        await response(scope, receive, send)


class Body:
    """The body of a request, counted and timed while it arrives."""

    def __init__(self, receive: Receive, limit: int, options: HttpOptions) -> None:
        self._receive, self._limit, self._options = receive, limit, options
        self._count, self._began, self._whole = 0, monotonic(), False

    async def receive(self) -> Message:
        """The next message.

        Raises:
            Refusal: 413 for a body that is too large, 408 for one that does not arrive.
        """
        if self._whole:  # only the end of the connection can come now, whenever that is
            return await self._receive()
        try:
            async with asyncio.timeout(self._options.idle_seconds):
                message = await self._receive()
        except TimeoutError:
            raise too_slow() from None
        if message["type"] == "http.request":
            self._count += len(message.get("body", b""))
            self._whole = not message.get("more_body", False)
            if self._count > self._limit:
                raise too_large(self._limit)
            took = monotonic() - self._began
            if not self._whole and took > _GRACE and self._count < took * self._options.slowest:
                raise too_slow()
        return message


class Answer:
    """Remembers whether an answer has begun; a second one must not be sent then."""

    def __init__(self, send: Send) -> None:
        self._send, self.begun = send, False

    async def send(self, message: Message) -> None:
        """Pass it on."""
        self.begun = True
        await self._send(message)


def limit_of(path: str, content_type: str, options: HttpOptions) -> int:
    """Most bytes of a body sent to ``path``."""
    files = content_type.lower().startswith("multipart/form-data")
    if path.startswith("/v1/videos"):
        return options.upload_bytes if files else options.json_bytes
    if path.startswith("/ui"):  # the page's own uploads; it has a limit for each file besides
        return options.upload_bytes if files else options.json_bytes
    return options.small_bytes


def digest(secret: str) -> bytes:
    """A hash of equal length for all keys, so that comparing tells nothing about theirs either."""
    return hashlib.sha256(secret.encode("utf-8", "surrogateescape")).digest()


def same_key(given: str, known: bytes) -> bool:
    """Whether a key is the one whose digest is known, in a time that does not tell how much of it is right."""
    return hmac.compare_digest(digest(given), known)


def too_large(limit: int) -> Refusal:
    """413."""
    return Refusal(
        413, f"The body is too large; at most {limit} bytes are accepted here.", code="body_too_large"
    )


def too_slow() -> Refusal:
    """408."""
    return Refusal(408, "The body did not arrive in time. Send it again.", code="body_timeout")


def _is_page(scope: Scope, headers: Headers) -> bool:
    """Whether a person is looking, rather than a program."""
    return scope["method"] in _SAFE and "text/html" in headers.get("accept", "")
