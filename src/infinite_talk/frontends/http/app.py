"""``create_app``: the HTTP interface over a desk. No model is held here, and torch is never loaded."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from http import HTTPStatus

import anyio
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse

from infinite_talk import InfiniteTalkError, __version__
from infinite_talk.frontends.http import machine, videos, watching
from infinite_talk.frontends.http.changes import Changes
from infinite_talk.frontends.http.context import Context, in_thread
from infinite_talk.frontends.http.document import document
from infinite_talk.frontends.http.envelope import SERVER, Refusal, answer_of, refusal_of
from infinite_talk.frontends.http.guards import Guards, digest, same_key
from infinite_talk.frontends.http.metrics import Counted, Metrics
from infinite_talk.frontends.http.options import HttpOptions
from infinite_talk.frontends.http.references import Fetch
from infinite_talk.frontends.http.sessions import COOKIE, LIFETIME, Sessions, login_page
from infinite_talk.jobs.checking import Checker
from infinite_talk.jobs.desk import Desk
from infinite_talk.jobs.previews import Previews

_log = logging.getLogger(__name__)
_DESCRIPTION = """Order talking videos, follow them while they are made, fetch them.

The routes under /v1/videos have the shape that many programs know from OpenAI's Videos API; this document is what
holds. Errors are `{"error": {"message", "type", "param", "code"}}`.
"""
ORDERS = 4
"""Orders that are checked at the same time."""


def create_app(
    desk: Desk,
    options: HttpOptions | None = None,
    *,
    checker: Checker | None = None,
    fetch: Fetch | None = None,
    workers: machine.Workers | None = None,
) -> FastAPI:
    """The application. A page is mounted on it afterwards, at ``/ui``, and is behind the same door.

    Args:
        desk: where orders go.
        options: of the door.
        checker: whose process opens recordings for previews.
        fetch: reads addresses that clients give instead of files; ``None``: they are refused.
        workers: counts living workers, for ``/ready``.
    """
    options = options or HttpOptions()
    changes = Changes(desk, poll=options.poll, streams=options.streams)
    metrics = Metrics(desk)
    context = Context(
        desk=desk,
        options=options,
        previews=Previews(desk.folder, checker or Checker()),
        changes=changes,
        metrics=metrics,
        orders=anyio.CapacityLimiter(ORDERS),
        fetch=fetch,
    )
    app = FastAPI(
        title="Infinite Talk",
        version=__version__,
        description=_DESCRIPTION,
        lifespan=_lifespan(context),
        docs_url=None,  # the usual pages load their programs from elsewhere
        redoc_url=None,
    )
    app.state.changes = changes
    sessions = Sessions()
    app.include_router(videos.routes(context))
    app.include_router(watching.routes(context))
    app.include_router(machine.routes(context, workers))
    _add_front(app, options, sessions)
    _add_errors(app, options)
    app.add_middleware(Guards, options=options, sessions=sessions)
    app.add_middleware(Counted, metrics=metrics)
    app.openapi = lambda: document(app, keyed=options.api_key is not None)  # type: ignore[method-assign]
    return app


def _lifespan(context: Context) -> Callable[[FastAPI], AbstractAsyncContextManager[None]]:
    @asynccontextmanager
    async def running(_app: FastAPI) -> AsyncIterator[None]:
        async with context.changes.running(), anyio.create_task_group() as tasks:
            tasks.start_soon(_measure, context)
            yield
            tasks.cancel_scope.cancel()

    return running


async def _measure(context: Context) -> None:
    """Let the metrics look at jobs when they change."""
    while True:
        try:
            await in_thread(context.metrics.look)
        except InfiniteTalkError as error:
            _log.warning("jobs cannot be counted: %s", error.message)
        await context.changes.next(60.0)
        await anyio.sleep(context.options.poll)


def _add_front(app: FastAPI, options: HttpOptions, sessions: Sessions) -> None:
    """The root, and the way in for people when there is a key."""

    @app.get("/", include_in_schema=False)
    def root() -> Response:
        if any(getattr(route, "path", "") == "/ui" for route in app.routes):
            return RedirectResponse("/ui/")
        return JSONResponse({"name": "infinite-talk", "version": __version__, "openapi": "/openapi.json"})

    key = options.api_key
    if key is None:
        return

    @app.get("/login", include_in_schema=False)
    def login() -> Response:
        return HTMLResponse(login_page())

    @app.post("/login", include_in_schema=False)
    async def enter(request: Request) -> Response:
        given = (await request.form(max_files=0, max_fields=4)).get("key")
        if not isinstance(given, str) or not same_key(given.strip(), digest(key)):
            return HTMLResponse(login_page("That is not the key. · 密钥不正确。"), status_code=401)
        answer = RedirectResponse("/", status_code=303)
        answer.set_cookie(
            COOKIE,
            sessions.begin(),
            max_age=int(LIFETIME),
            httponly=True,
            samesite="strict",
            secure=request.url.scheme == "https",
        )
        return answer


def _add_errors(app: FastAPI, options: HttpOptions) -> None:
    """Whatever goes wrong has the envelope."""

    async def refused(_request: Request, error: Exception) -> Response:
        assert isinstance(error, Refusal)
        return answer_of(error)

    async def ours(_request: Request, error: Exception) -> Response:
        assert isinstance(error, InfiniteTalkError)
        refusal = refusal_of(error, retry_after=options.retry_after)
        if refusal.status == HTTPStatus.INTERNAL_SERVER_ERROR:
            _log.error("%s: %s", error.code, error.message)
        return answer_of(refusal)

    async def invalid(_request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        first = error.errors()[0]
        name = str(first["loc"][-1])[:60]
        return answer_of(Refusal(400, f"{name}: {first['msg']}.", code="invalid_field", param=name))

    async def plain(_request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        code = "not_found" if error.status_code == HTTPStatus.NOT_FOUND else "http_error"
        return answer_of(Refusal(error.status_code, str(error.detail), code=code, headers=error.headers))

    async def gone(_request: Request, _error: Exception) -> Response:
        return answer_of(Refusal(499, "The client has gone.", code="gone"))  # nobody reads it

    async def unknown(_request: Request, error: Exception) -> Response:
        _log.error("a request failed", exc_info=error)
        return answer_of(
            Refusal(500, "The server failed; its log says why.", code="internal_error", kind=SERVER)
        )

    handlers: dict[type[Exception], Callable[[Request, Exception], Awaitable[Response]]] = {
        Refusal: refused,
        InfiniteTalkError: ours,
        RequestValidationError: invalid,
        HTTPException: plain,
        ClientDisconnect: gone,
        Exception: unknown,
    }
    for kind, handler in handlers.items():
        app.add_exception_handler(kind, handler)
