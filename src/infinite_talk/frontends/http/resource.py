"""A job as clients of ``/v1/videos`` see it: the widely used fields, and ours beside them."""

from __future__ import annotations

import math
from datetime import datetime, timedelta
from typing import Literal

from pydantic import BaseModel

from infinite_talk.jobs import Job, Retention, State

REMIXED = "remixed_from"
"""Key in ``Order.extra``."""
DEFAULT_MODEL = "default"
"""Id of the model of orders that name none."""

Status = Literal["queued", "in_progress", "completed", "failed"]
_STATUS: dict[State, Status] = {
    State.QUEUED: "queued",
    State.PAUSED: "queued",
    State.RUNNING: "in_progress",
    State.COMPLETED: "completed",
    State.FAILED: "failed",
    State.CANCELLED: "failed",  # clients know four states only; the error's code tells
}


class VideoError(BaseModel):
    """Why there is no video."""

    code: str
    message: str


class VideoMetrics(BaseModel):
    """How it goes."""

    phase: str | None
    window: int
    windows: int
    step: int
    steps: int
    seconds_per_step: float | None
    attempts: int
    runs: str
    notes: list[str]


class VideoResource(BaseModel):
    """One video, wanted or made."""

    id: str
    object: Literal["video"] = "video"
    model: str
    status: Status
    progress: int
    created_at: int
    completed_at: int | None
    expires_at: int | None
    prompt: str | None
    size: str
    seconds: str
    remixed_from_video_id: str | None
    error: VideoError | None
    state: State
    stopping: bool
    title: str
    seed: int
    queue_position: int | None
    eta_s: float | None
    chunks_done: int
    chunks_total: int
    preview_url: str
    metrics: VideoMetrics


class VideoList(BaseModel):
    """A page of videos."""

    object: Literal["list"] = "list"
    data: list[VideoResource]
    first_id: str | None
    last_id: str | None
    has_more: bool


class VideoDeleted(BaseModel):
    """What became of a deletion."""

    id: str
    object: Literal["video.deleted"] = "video.deleted"
    deleted: bool


class Model(BaseModel):
    """A profile that videos can be made with."""

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str


class ModelList(BaseModel):
    """All of them."""

    object: Literal["list"] = "list"
    data: list[Model]


def resource_of(job: Job, retention: Retention) -> VideoResource:
    """What is told of a job; places on the server's disk are not."""
    order, progress = job.order, job.progress
    remixed = order.extra.get(REMIXED)
    return VideoResource(
        id=job.id,
        model=str(order.extra.get("model") or order.profile or DEFAULT_MODEL),
        status=_STATUS[job.state],
        progress=100 if job.state is State.COMPLETED else min(99, math.floor(progress.percent)),
        created_at=_stamp(job.created),
        completed_at=_stamp(job.finished) if job.finished and job.state is State.COMPLETED else None,
        expires_at=_expiry(job.finished, retention),
        prompt=order.request.prompt,
        size=_size(job),
        seconds=_seconds(job),
        remixed_from_video_id=remixed if isinstance(remixed, str) else None,
        error=_error(job),
        state=job.state,
        stopping=job.wish is not None,
        title=order.title,
        seed=order.request.seed,
        queue_position=job.position,
        eta_s=_finite(progress.eta) if job.state is State.RUNNING else None,
        chunks_done=progress.window,
        chunks_total=progress.windows,
        preview_url=f"/v1/videos/{job.id}/preview",
        metrics=VideoMetrics(
            phase=progress.phase,
            window=progress.window,
            windows=progress.windows,
            step=progress.step,
            steps=progress.steps,
            seconds_per_step=_finite(progress.seconds_per_step),
            attempts=job.attempts,
            runs=progress.runs,
            notes=list(progress.notes),
        ),
    )


def _error(job: Job) -> VideoError | None:
    if job.state is State.CANCELLED:
        return VideoError(
            code="cancelled", message="It was cancelled. What was finished is kept; retry continues."
        )
    return None if job.error is None else VideoError(code=job.error.code, message=job.error.message)


def _expiry(finished: datetime | None, retention: Retention) -> int | None:
    if finished is None or retention.seconds is None:
        return None
    return _stamp(finished + timedelta(seconds=retention.seconds))


def _size(job: Job) -> str:
    checked = job.order.checked
    return f"{checked.width}x{checked.height}" if checked else job.order.request.size or ""


def _seconds(job: Job) -> str:
    checked = job.order.checked
    return f"{checked.seconds:g}" if checked else ""


def _stamp(time: datetime) -> int:
    return int(time.timestamp())


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
