"""Rows of the table of jobs: read as ``Job``, and changed inside the transactions of ``store`` and ``leases``."""

from __future__ import annotations

import secrets
import time
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from pydantic import TypeAdapter
from sqlalchemy import Connection, Row, delete, func, or_, select, update

from infinite_talk.errors import JobActionError, StoreError
from infinite_talk.jobs.tables import JOBS
from infinite_talk.jobs.types import Job, JobError, JobProgress, Order, State, Wish
from infinite_talk.progress import Phase
from infinite_talk.request import Request

ENDS = tuple(state for state in State if state.ended)
RUN_ORDER = (JOBS.c.priority.desc(), JOBS.c.rank)
GAP = 1 << 20
"""Between the ranks of neighbours in the queue: room to move others there."""
ALMOST = 99.9
"""Most percent of a job whose video is not there."""
NO_LEASE = {"worker": None, "host": None, "token": None, "wish": None}

_PROGRESS = TypeAdapter(JobProgress)
_ahead = JOBS.alias("ahead")
_first = or_(
    _ahead.c.priority > JOBS.c.priority,
    (_ahead.c.priority == JOBS.c.priority) & (_ahead.c.rank <= JOBS.c.rank),
)
_place = (
    select(func.count())
    .select_from(_ahead)
    .where(JOBS.c.state == State.QUEUED, _ahead.c.state == State.QUEUED, _first)
    .scalar_subquery()
)
SELECT = select(JOBS, _place.label("position"))
"""All columns, and ``position``: the place in the queue from 1, or 0."""

AnyRow = Row[Any]


def new_id() -> str:
    """Identity of a job to be: ``video_`` and 128 random bits."""
    return f"video_{secrets.token_hex(16)}"


def new(order: Order, *, name: str, number: int, priority: int, key: str | None) -> dict[str, Any]:
    """Values of a job that is accepted now, at the end of the queue; ``number``: the change counter."""
    return {
        "number": number,
        "id": name,
        "idempotency_key": key,
        "digest": order.digest,
        "state": State.QUEUED,
        "priority": priority,
        "rank": number * GAP,
        "order_json": order.to_json(),
        "progress_json": _PROGRESS.dump_json(JobProgress()).decode(),
        "percent": 0.0,
        "created": time.time(),
        "changed": number,
        **dict.fromkeys(("windows_done", "windows_then", "attempts", "crashes", "interruptions", "beat"), 0),
    }


def job(row: AnyRow) -> Job:
    """What a row of ``SELECT`` says. An order that cannot be read is an empty one with an error."""
    progress = _PROGRESS.validate_json(row.progress_json)
    problem = JobError(row.error_code, row.error_message) if row.error_code else None
    try:
        order = Order.from_json(row.order_json)
    except StoreError as error:
        order, problem = Order(request=Request()), problem or JobError(error.code, error.message)
    return Job(
        id=row.id,
        state=State(row.state),
        order=order,
        priority=row.priority,
        position=row.position or None,
        created=_when(row.created) or datetime.now(UTC),
        started=_when(row.started),
        finished=_when(row.finished),
        attempts=row.attempts,
        progress=replace(progress, percent=row.percent),
        error=problem,
        output=row.output,
        wish=Wish(row.wish) if row.wish else None,
        key=row.idempotency_key,
        worker=row.worker,
        changed=row.changed,
    )


def progress_values(progress: JobProgress, row: AnyRow) -> dict[str, Any]:
    """News of a running job; ``percent`` and the finished windows never fall."""
    return {
        "progress_json": _PROGRESS.dump_json(progress).decode(),
        "percent": max(row.percent, min(progress.percent, ALMOST)),
        "windows_done": max(row.windows_done, progress.window),
    }


def done_values(row: AnyRow) -> dict[str, Any]:
    """The progress of a video that is there."""
    progress = _PROGRESS.validate_json(row.progress_json)
    done = replace(progress, phase=Phase.DONE, window=progress.windows, step=progress.steps, eta=0.0)
    return {"progress_json": _PROGRESS.dump_json(done).decode(), "percent": 100.0}


def find(connection: Connection, name: str) -> Job | None:
    """The job of this id."""
    row = connection.execute(SELECT.where(JOBS.c.id == name)).first()
    return None if row is None else job(row)


def get(connection: Connection, name: str) -> Job:
    """The job of this id, or ``job_not_found``."""
    found = find(connection, name)
    if found is None:
        raise not_found(name)
    return found


def row_of(connection: Connection, name: str) -> AnyRow:
    """The row of this id, or ``job_not_found``."""
    row = connection.execute(select(JOBS).where(JOBS.c.id == name)).first()
    if row is None:
        raise not_found(name)
    return row


def change(connection: Connection, row: AnyRow, counter: int, **values: Any) -> None:  # noqa: ANN401
    """Set columns of a row."""
    query = update(JOBS).where(JOBS.c.number == row.number)
    connection.execute(query.values(changed=counter, **values))


def end(connection: Connection, row: AnyRow, counter: int, state: State, **values: Any) -> None:  # noqa: ANN401
    """Bring a job to one of its ends."""
    change(connection, row, counter, state=state, finished=time.time(), **NO_LEASE, **values)


def leave(connection: Connection, row: AnyRow, counter: int) -> None:
    """A worker lets go: the job goes where its wish says, else back to its place in the queue."""
    if row.wish == Wish.DELETE:
        forget(connection, row)
    elif row.wish == Wish.CANCEL:
        end(connection, row, counter, State.CANCELLED)
    else:
        state = State.PAUSED if row.wish == Wish.PAUSE else State.QUEUED
        change(connection, row, counter, state=state, **NO_LEASE)


def forget(connection: Connection, row: AnyRow) -> None:
    """Remove a row."""
    connection.execute(delete(JOBS).where(JOBS.c.number == row.number))


def not_found(name: str) -> JobActionError:
    """No such job."""
    return JobActionError(f"There is no job {name!r}. It may have been deleted.", code="job_not_found")


def _when(seconds: float | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)
