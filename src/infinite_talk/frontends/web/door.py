"""What of Gradio's own server can be reached: the routes that the page needs, and uploaded files only.

Gradio brings some seventy routes: calls by name, a proxy, recordings that it converts, monitoring. The page needs a
dozen. And Gradio trusts the path in a ``FileData`` of a page that is mounted on another application (its check waits
for ``Blocks.has_launched``, which mounting does not set), so that any file of the server could be handed to a handler
and read back. Here every path in what the page sends must lie in the folder of uploads.

This is a door of its own, so that it holds whatever a new version of Gradio, or a new field of the page, does.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from fastapi import FastAPI
from starlette.responses import JSONResponse
from starlette.routing import Mount
from starlette.types import ASGIApp, Message, Receive, Scope, Send

API: Final = "/gradio_api"
MAX_EVENT = 8 * 2**20
"""Bytes of an event: the values of all fields. Files are uploaded on a route of their own."""
MAX_DEPTH = 40
_LOOK: Final = re.compile(
    r"/?|/config/?|/theme\.css|/favicon\.ico|/robots\.txt|/(static|assets|svelte)/.+"
    rf"|{API}/(app_id|info|startup-events|upload_progress|queue/data|theme\.css)/?|{API}/heartbeat/[\w-]+"
    rf"|{API}/file=(?!\w+:).+"  # an address there would be fetched by the server
)
_SEND: Final = re.compile(rf"{API}/(upload|cancel|reset|queue/join|run/predict)/?")
_EVENT: Final = re.compile(rf"{API}/(queue/join|run/predict)/?")


def guard(application: FastAPI, mounted: str, uploads: Path) -> None:
    """Put the door before the page that is mounted on an application, behind whatever guards the application itself.

    Args:
        application: it has a mount at ``mounted``.
        mounted: such as ``/ui``.
        uploads: Gradio's folder of uploads.
    """
    (mount,) = (route for route in application.routes if isinstance(route, Mount) and route.path == mounted)
    mount.app = PageDoor(mount.app, uploads)


class PageDoor:
    """The page's own application with fewer routes, and with paths of uploaded files only."""

    def __init__(self, app: ASGIApp, uploads: Path) -> None:
        self._app, self._uploads = app, uploads

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request pass or refuse it."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        path = scope["path"].removeprefix(scope.get("root_path", ""))
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
        elif not _wanted(scope["method"], path):
            await _refusal(404, "There is no such page.", "not_found")(scope, receive, send)
        elif not _EVENT.fullmatch(path):
            await self._app(scope, receive, send)
        else:
            await self._event(scope, receive, send)

    async def _event(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Read an event whole, look at the paths in it, and hand it on."""
        body = bytearray()
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            body += message.get("body", b"")
            if len(body) > MAX_EVENT:
                refusal = _refusal(413, f"An event may have {MAX_EVENT} bytes at most.", "body_too_large")
                await refusal(scope, receive, send)
                return
            if not message.get("more_body", False):
                break
        try:
            outside = not all(is_upload(path, self._uploads) for path in paths_in(json.loads(bytes(body))))
        except (ValueError, RecursionError):
            await _refusal(400, "The event is no usable JSON.", "bad_json")(scope, receive, send)
            return
        if outside:
            refusal = _refusal(403, "This file was not uploaded on this page; upload it.", "file_outside")
            await refusal(scope, receive, send)
            return
        await self._app(scope, _again(bytes(body), receive), send)


def paths_in(value: Any, depth: int = 0) -> Iterator[object]:  # noqa: ANN401 - any JSON
    """What any object within a JSON value calls its ``path``: what Gradio may take for a file of this machine.

    Raises:
        ValueError: it is nested more than ``MAX_DEPTH`` deep.
    """
    if depth > MAX_DEPTH:
        raise ValueError("nested too deeply")
    if isinstance(value, dict):
        yield from (inner for name, inner in value.items() if name == "path" and inner is not None)
        for inner in value.values():
            yield from paths_in(inner, depth + 1)
    elif isinstance(value, list):
        for inner in value:
            yield from paths_in(inner, depth + 1)


def is_upload(path: object, folder: Path) -> bool:
    """Whether ``path`` names something within ``folder``, links followed. Addresses and relative paths do not."""
    if not isinstance(path, str) or not Path(path).is_absolute():
        return False
    try:
        found, root = Path(path).resolve(), folder.resolve()
    except (OSError, ValueError, RuntimeError):
        return False
    return found.is_relative_to(root) and found != root


def _wanted(method: str, path: str) -> bool:
    if ".." in path or "\\" in path:
        return False
    if method in ("GET", "HEAD"):
        return _LOOK.fullmatch(path) is not None
    return method == "POST" and _SEND.fullmatch(path) is not None


def _again(body: bytes, receive: Receive) -> Receive:
    """A ``receive`` that gives a body that was read already, then what comes after it."""
    given = False

    async def next_message() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return next_message


def _refusal(status: int, message: str, code: str) -> JSONResponse:
    error = {"message": message, "type": "invalid_request_error", "param": None, "code": code}
    return JSONResponse({"error": error}, status, {"Connection": "close"})
