"""What a browser has to know before Gradio starts: language and theme, from the visitor's last choice.

Gradio puts its ``head`` into the document when it is running already, and by then it has asked the browser for its
language. Here the page's own look and script are written into the document itself, as it is sent.
"""

from __future__ import annotations

from fastapi import FastAPI
from starlette.routing import Mount
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_PLACE = b"<head>"
_DOCUMENT = ("", "/")
"""Paths, below the page's own, under which the document lies."""


def put_early(application: FastAPI, mounted: str, html: str) -> None:
    """Begin the head of the page that is mounted on an application with ``html``.

    Args:
        mounted: such as ``/ui``.
    """
    (mount,) = (route for route in application.routes if isinstance(route, Mount) and route.path == mounted)
    mount.app = Early(mount.app, html.encode())


class Early:
    """The page's own application with a longer head."""

    def __init__(self, app: ASGIApp, html: bytes) -> None:
        self._app, self._html = app, html

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand a request on; the document is read whole, and sent with what belongs at its beginning."""
        path = scope["path"].removeprefix(scope.get("root_path", "")) if scope["type"] == "http" else None
        if path not in _DOCUMENT or scope["method"] != "GET":
            await self._app(scope, receive, send)
            return
        # As it is, not compressed: it is changed here.
        headers = [(name, value) for name, value in scope["headers"] if name != b"accept-encoding"]
        answer: list[Message] = []

        async def keep(message: Message) -> None:
            answer.append(message)

        await self._app({**scope, "headers": headers}, receive, keep)
        (start,) = (message for message in answer if message["type"] == "http.response.start")
        body = b"".join(
            message.get("body", b"") for message in answer if message["type"] == "http.response.body"
        )
        body = body.replace(_PLACE, _PLACE + self._html, 1)
        kept = [(name, value) for name, value in start.get("headers", ()) if name != b"content-length"]
        length = (b"content-length", str(len(body)).encode())
        await send({**start, "headers": [*kept, length]})
        await send({"type": "http.response.body", "body": body})
