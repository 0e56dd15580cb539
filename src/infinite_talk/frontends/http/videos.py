"""``/v1/videos``: order, look, fetch, stop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import anyio
from fastapi import APIRouter, Header, Query, Request, Response

from infinite_talk import InfiniteTalkError
from infinite_talk.frontends.http.bodies import parsed_body
from infinite_talk.frontends.http.context import Context, in_thread
from infinite_talk.frontends.http.document import CREATE_BODY, DELETION_ANSWER, FILE_ANSWERS, REMIX_BODY
from infinite_talk.frontends.http.envelope import CONFLICT, Refusal, documented
from infinite_talk.frontends.http.orders import key_of, order, remix
from infinite_talk.frontends.http.ranges import file_answer
from infinite_talk.frontends.http.resource import VideoDeleted, VideoList, VideoResource
from infinite_talk.frontends.naming import video_name
from infinite_talk.jobs import Job, State

DELETION = 2.0
"""Seconds that a deletion waits for a running job to stop."""
Key = Annotated[str | None, Header(alias="Idempotency-Key", max_length=255)]


class Variant(StrEnum):
    """What of a finished video is fetched."""

    VIDEO = "video"
    THUMBNAIL = "thumbnail"
    SPRITESHEET = "spritesheet"


class Order(StrEnum):
    """Direction of a list, by age."""

    ASC = "asc"
    DESC = "desc"


def routes(context: Context) -> APIRouter:
    """The routes."""
    router = APIRouter(prefix="/v1/videos", tags=["videos"])
    _add_orders(router, context)
    _add_looks(router, context)
    _add_content(router, context)
    _add_actions(router, context)
    return router


def _add_orders(router: APIRouter, context: Context) -> None:
    @router.post("", responses=documented(404, 409, 415, 429, 507), openapi_extra=CREATE_BODY)
    async def create_video(request: Request, key: Key = None) -> VideoResource:
        """Order a video. When this answers, the order is on the disk and will be carried out."""
        return context.told(await _ordered(request, context, key))

    @router.post(
        "/sync", responses=FILE_ANSWERS | documented(404, 409, 415, 429, 500, 507), openapi_extra=CREATE_BODY
    )
    async def create_video_and_wait(request: Request, key: Key = None) -> Response:
        """Order a video and get the file itself. Who hangs up cancels it, as nobody would fetch it."""
        job = await _ordered(request, context, key)
        while not job.state.ended:
            if await request.is_disconnected():
                await in_thread(context.desk.cancel, job.id)
                raise Refusal(499, "The client has gone.", code="gone")
            if context.changes.stopping.is_set():
                raise Refusal(
                    503,
                    f"The server stops; the video goes on when it is back, as {job.id}.",
                    code="stopping",
                    headers={"retry-after": str(context.options.retry_after)},
                )
            await context.changes.next(context.options.poll)
            job = await in_thread(context.job, job.id)
        return await _content(request, context, job, Variant.VIDEO)

    @router.post(
        "/{video_id}/remix", responses=documented(404, 409, 410, 415, 429, 507), openapi_extra=REMIX_BODY
    )
    async def remix_video(video_id: str, request: Request, key: Key = None) -> VideoResource:
        """Order an earlier video again with another prompt or seed; files and what is not said stay."""
        source = await in_thread(context.job, video_id)
        async with parsed_body(request) as parsed:
            if parsed.files:
                raise Refusal(400, "A remix has the files of its source.", code="invalid_field")
            job = await _limited(context, lambda: remix(context, source, parsed.fields, key_of(key)))
        context.changes.wake()
        return context.told(job)


def _add_looks(router: APIRouter, context: Context) -> None:
    @router.get("", responses=documented(404))
    def list_videos(
        limit: Annotated[int, Query(ge=1, le=100)] = 20,
        after: Annotated[str | None, Query(max_length=100)] = None,
        order: Order = Order.DESC,
    ) -> VideoList:
        """Videos by age; ``after`` is the id that the page before ended with."""
        last = None if after is None else context.job(after).id
        jobs = context.desk.list(after=last, limit=limit + 1, newest_first=order is Order.DESC)
        shown = [context.told(job) for job in jobs[:limit]]
        return VideoList(
            data=shown,
            first_id=shown[0].id if shown else None,
            last_id=shown[-1].id if shown else None,
            has_more=len(jobs) > limit,
        )

    @router.get("/{video_id}", responses=documented(404))
    def get_video(video_id: str) -> VideoResource:
        """How far a video is."""
        return context.told(context.job(video_id))


def _add_content(router: APIRouter, context: Context) -> None:
    async def fetch(video_id: str, request: Request, variant: Variant = Variant.VIDEO) -> Response:
        """The finished video, a picture of it, or a sheet of pictures. Ranges and conditions work as usual."""
        job = await in_thread(context.job, video_id)
        return await _content(request, context, job, variant)

    path, told = "/{video_id}/content", FILE_ANSWERS | documented(404, 409, 410, 416, 507)
    router.get(path, response_class=Response, responses=told, operation_id="download_video")(fetch)
    router.head(path, response_class=Response, include_in_schema=False)(fetch)


def _add_actions(router: APIRouter, context: Context) -> None:
    actions: dict[str, tuple[Callable[[str], Job], str]] = {
        "cancel": (
            context.desk.cancel,
            "Stop making it, within a denoising step. What has ended stays as it is.",
        ),
        "pause": (context.desk.pause, "Take it out of the queue, or stop it and keep what is finished."),
        "resume": (context.desk.resume, "Put a paused video back to its place."),
        "retry": (context.desk.retry, "Queue a failed or cancelled video again; finished windows are kept."),
    }
    for name, (act, words) in actions.items():
        router.post(
            f"/{{video_id}}/{name}",
            responses=documented(404, 409),
            operation_id=f"{name}_video",
            description=words,
        )(_action(context, act))

    @router.delete("/{video_id}", responses=DELETION_ANSWER | documented(404))
    async def delete_video(video_id: str, response: Response) -> VideoDeleted:
        """Stop it if it is being made, then forget it and its files. 202: it has not stopped yet, and will go then."""
        job = await in_thread(context.job, video_id)
        left = await in_thread(context.desk.delete, job.id)
        context.changes.wake()
        waited = 0.0
        while left is not None and waited < DELETION:
            await asyncio.sleep(0.1)
            waited += 0.1
            left = await in_thread(_if_there, context, job.id)
        if left is not None:
            response.status_code = 202
        return VideoDeleted(id=job.id, deleted=left is None)


def _action(context: Context, act: Callable[[str], Job]) -> Callable[[str], VideoResource]:
    def change(video_id: str) -> VideoResource:
        return context.told(act(context.job(video_id).id))

    return change


def _if_there(context: Context, video_id: str) -> Job | None:
    try:
        return context.desk.get(video_id)
    except InfiniteTalkError as error:
        if error.code != "job_not_found":
            raise
        return None


async def _ordered(request: Request, context: Context, key: str | None) -> Job:
    checked = key_of(key)
    async with parsed_body(request) as parsed:
        job = await _limited(context, lambda: order(context, parsed, checked))
    context.changes.wake()
    return job


async def _limited(context: Context, work: Callable[[], Job]) -> Job:
    """A few orders at a time: each may take a process and seconds for its media."""
    return await anyio.to_thread.run_sync(work, limiter=context.orders)


async def _content(request: Request, context: Context, job: Job, variant: Variant) -> Response:
    if job.state is not State.COMPLETED:
        reason = f": {job.error.message}" if job.error else ""
        raise Refusal(
            409, f"There is no video yet, it is {job.state}{reason}", code="not_ready", kind=CONFLICT
        )
    video = context.desk.video(job)
    try:
        if video is None or not video.is_file():
            raise FileNotFoundError
        path, kind, ending = await in_thread(_variant, context, job, video, variant)
        return await file_answer(request, path, kind=kind, name=video_name(job, ending))
    except FileNotFoundError:
        raise Refusal(410, "This video is not kept any longer.", code="expired") from None


def _variant(context: Context, job: Job, video: Path, variant: Variant) -> tuple[Path, str, str]:
    """File, media type and ending of its name."""
    if variant is Variant.THUMBNAIL:
        return context.previews.thumbnail(job), "image/webp", ".webp"
    if variant is Variant.SPRITESHEET:
        return context.previews.sprite_sheet(job), "image/jpeg", ".jpg"
    return video, "video/mp4", ".mp4"
