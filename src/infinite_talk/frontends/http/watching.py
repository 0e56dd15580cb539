"""To follow a video while it is made: events, and its finished windows as a film that grows."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from time import monotonic
from typing import Annotated

from fastapi import APIRouter, Header, Query, Request, Response
from starlette.responses import StreamingResponse

from infinite_talk import InfiniteTalkError
from infinite_talk.frontends.http.context import Context, in_thread
from infinite_talk.frontends.http.document import EVENTS_ANSWER, PIECE_ANSWER, PLAYLIST_ANSWER
from infinite_talk.frontends.http.envelope import CONFLICT, Refusal, documented
from infinite_talk.jobs import Job
from infinite_talk.jobs.previews import Growth, Piece, codecs_of, playlist

_LIVE = {"cache-control": "no-store", "x-accel-buffering": "no", "x-content-type-options": "nosniff"}
_GROWING = {**_LIVE, "accept-ranges": "none"}
"""A film whose length is not known yet cannot be asked for in parts; its playlist names them."""
RETRY = 3000
"""Milliseconds after which a browser connects again when an event stream breaks."""


def routes(context: Context) -> APIRouter:
    """The routes."""
    router = APIRouter(prefix="/v1/videos/{video_id}", tags=["watching"])
    _add_events(router, context)
    _add_preview(router, context)
    _add_playlist(router, context)
    return router


def _add_events(router: APIRouter, context: Context) -> None:
    @router.get("/events", response_class=Response, responses=EVENTS_ANSWER | documented(404, 429))
    async def video_events(
        video_id: str,
        last: Annotated[str | None, Header(alias="Last-Event-ID", max_length=40)] = None,
    ) -> Response:
        """Server-sent events: the video as it is now, and again at each change, until it has ended.

        The event is named ``progress``, at the end ``completed``, ``failed`` or ``cancelled``, or ``deleted``; the
        data is the video. Who comes back with the last id hears what is new only; after the end that is 204, which
        tells a browser not to come back.
        """
        job = await in_thread(context.job, video_id)
        seen = int(last) if last is not None and last.isascii() and last.isdecimal() else -1
        if job.state.ended and job.changed <= seen:
            return Response(status_code=204)
        context.changes.enter()
        return StreamingResponse(_events(context, job, seen), media_type="text/event-stream", headers=_LIVE)


def _add_preview(router: APIRouter, context: Context) -> None:
    async def preview(
        video_id: str,
        request: Request,
        windows: Annotated[
            int | None, Query(ge=1, description="The first windows only, and no waiting.")
        ] = None,
    ) -> Response:
        """The finished windows as one fragmented mp4 that goes on with each new window until the video has ended."""
        job = await in_thread(context.job, video_id)
        growth = await in_thread(_growth, context, job)
        pieces = growth.pieces if windows is None else growth.pieces[:windows]
        frames = growth.frames if windows is None else sum(piece.frames for piece in pieces)
        head = await in_thread(context.previews.initialisation, job, frames)
        kind = f'video/mp4; codecs="{codecs_of(head)}"'
        if request.method == "HEAD":
            return Response(headers={**_GROWING, "content-type": kind})
        if windows is not None:
            return StreamingResponse(_parts(context, job, head, pieces), media_type=kind, headers=_GROWING)
        context.changes.enter()
        return StreamingResponse(_grown(context, job, head), media_type=kind, headers=_GROWING)

    told = PIECE_ANSWER | documented(404, 409, 410, 429, 507)
    router.get("/preview", response_class=Response, responses=told, operation_id="preview_video")(preview)
    router.head("/preview", response_class=Response, include_in_schema=False)(preview)


def _add_playlist(router: APIRouter, context: Context) -> None:
    @router.get(
        "/preview.m3u8", response_class=Response, responses=PLAYLIST_ANSWER | documented(404, 409, 410)
    )
    def preview_playlist(video_id: str) -> Response:
        """An HLS playlist of the finished windows, for players that want one."""
        job = context.job(video_id)
        growth = _growth(context, job)
        text = playlist(growth, ended=growth.complete or job.state.ended, folder="preview")
        return Response(text, media_type="application/vnd.apple.mpegurl", headers=_LIVE)

    @router.get(
        "/preview/init.mp4",
        response_class=Response,
        responses=PIECE_ANSWER | documented(404, 409, 410, 507),
    )
    def preview_head(video_id: str) -> Response:
        """What a player needs before the first piece."""
        job = context.job(video_id)
        head = context.previews.initialisation(job, _growth(context, job).frames)
        return Response(head, media_type=f'video/mp4; codecs="{codecs_of(head)}"', headers=_LIVE)

    @router.get(
        "/preview/{number}.m4s",
        response_class=Response,
        responses=PIECE_ANSWER | documented(404, 409, 410, 507),
    )
    def preview_piece(video_id: str, number: int) -> Response:
        """The pictures and the sound of one finished window, from 0 on."""
        job = context.job(video_id)
        pieces = _growth(context, job).pieces
        if not 0 <= number < len(pieces):
            raise Refusal(
                404,
                f"Window {number} is not finished; {len(pieces)} are.",
                code="piece_not_found",
                param="number",
            )
        return Response(context.previews.fragment(job, pieces[number]), media_type="video/mp4", headers=_LIVE)


def _growth(context: Context, job: Job) -> Growth:
    """What there is to see. Blocks.

    Raises:
        Refusal: 409, nothing yet; 410, nothing any longer.
    """
    growth = context.previews.growth(job)
    if growth.pieces:
        return growth
    if job.output is not None:
        raise Refusal(410, "This video is not kept any longer.", code="expired")
    raise Refusal(
        409,
        f"No window is finished yet, the video is {job.state}. Ask again when chunks_done is 1 or more.",
        code="not_ready",
        kind=CONFLICT,
        headers={} if job.state.ended else {"retry-after": "2"},
    )


async def _events(context: Context, job: Job, seen: int) -> AsyncIterator[str]:
    """The stream of one client; ``seen`` is the last change that it knows."""
    try:
        yield f"retry: {RETRY}\n\n"
        said = monotonic()
        while True:
            if job.changed > seen:
                seen = job.changed
                yield _event(context, job)
                said = monotonic()
            if job.state.ended or context.changes.stopping.is_set():
                return
            await context.changes.next(min(context.options.heartbeat, 2 * context.options.poll))
            if monotonic() - said >= context.options.heartbeat:
                yield ": still here\n\n"
                said = monotonic()
            try:
                job = await in_thread(context.job, job.id)
            except InfiniteTalkError as error:
                if error.code == "job_not_found":
                    yield f"event: deleted\ndata: {json.dumps({'id': job.id})}\n\n"
                return
    finally:
        context.changes.leave()


def _event(context: Context, job: Job) -> str:
    name = str(job.state) if job.state.ended else "progress"
    return f"id: {job.changed}\nevent: {name}\ndata: {context.told(job).model_dump_json()}\n\n"


async def _parts(context: Context, job: Job, head: bytes, pieces: Sequence[Piece]) -> AsyncIterator[bytes]:
    """These pieces, one after the other."""
    yield head
    for piece in pieces:
        yield await in_thread(context.previews.fragment, job, piece)


async def _grown(context: Context, job: Job, head: bytes) -> AsyncIterator[bytes]:
    """All pieces, also those that are still to come."""
    try:
        yield head
        sent = 0
        while True:
            growth = await in_thread(context.previews.growth, job)
            for piece in growth.pieces[sent:]:
                yield await in_thread(context.previews.fragment, job, piece)
                sent += 1
            job = await in_thread(context.job, job.id)
            if growth.complete or job.state.ended or context.changes.stopping.is_set():
                return
            await context.changes.next(context.options.poll)
    except InfiniteTalkError:  # deleted, or files go: the film ends here
        return
    finally:
        context.changes.leave()
