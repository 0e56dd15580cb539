"""``Leases``: how workers take jobs, speak of them, and lose them.

Nothing is decided by the clock on the wall. A worker shows that it lives by raising the ``beat`` of its lease; those
who wait for its end measure with their own monotonic clock how long the beat has stood still. A worker of the same
machine is looked at directly (``presence.py``), so its job is taken back at once.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy import Connection, select, update

from infinite_talk.errors import JobActionError
from infinite_talk.jobs import rows
from infinite_talk.jobs.database import Database
from infinite_talk.jobs.tables import JOBS
from infinite_talk.jobs.types import Job, JobProgress, Lease, State, Wish

Alive = Callable[[str, str], bool | None]
"""Host and name of a worker: does it live? ``None``: cannot be told from here, its beat decides."""
LEASE_SECONDS = 60.0
"""A worker of another machine whose beat stands still for so long is thought dead."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How often a job's worker may be lost, without a newly finished window, before the job is given up."""

    crashes: int = 3
    """Somebody saw the worker process fail."""
    interruptions: int = 20
    """Worker gone together with whoever watched it: a reboot, or a service that was killed as a whole."""


class Leases:
    """The jobs of a store, as its workers see them. Safe to use from several threads and processes."""

    def __init__(
        self,
        database: Database,
        *,
        seconds: float = LEASE_SECONDS,
        patience: Patience = Patience(),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """``seconds``: after which a silent worker is thought dead; ``clock``: monotonic seconds."""
        self._database = database
        self._seconds = seconds
        self._patience = patience
        self._clock = clock
        self._beats: dict[str, tuple[int, float]] = {}  # token: beat, and when it was first seen
        self._watching = threading.Lock()

    def claim(self, worker: str, *, host: str = "", alive: Alive | None = None) -> Lease | None:
        """The next job for a worker, or ``None`` when none waits. Jobs of dead workers are taken back first.

        Args:
            worker: its name, which no other worker ever had.
            host: what ``alive`` knows its machine by.
            alive: see ``reap``.
        """
        self.reap(alive)
        waiting = JOBS.c.state == State.QUEUED
        with self._database.read() as connection:  # no write, and so no news for watchers, when nothing waits
            if connection.scalar(select(JOBS.c.number).where(waiting).limit(1)) is None:
                return None
        with self._database.write() as (connection, counter):
            row = connection.execute(select(JOBS).where(waiting).order_by(*rows.RUN_ORDER).limit(1)).first()
            if row is None:
                return None
            token = secrets.token_hex(16)
            owner = {"worker": worker, "host": host, "token": token, "beat": row.beat + 1, "wish": None}
            times = {"started": row.started or time.time(), "attempts": row.attempts + 1}
            rows.change(connection, row, counter, state=State.RUNNING, **owner, **times)
            return Lease(rows.get(connection, row.id), token, worker)

    def reap(self, alive: Alive | None = None) -> int:
        """Take back the jobs of dead workers, each to its place in the queue; returns how many.

        Args:
            alive: tells of workers that can be looked at from here; the others are dead when their beat has stood
                still for as long as a lease lasts, of this object's own watching.
        """
        lost, taken = self._lost(alive), 0
        if not lost:
            return 0
        with self._database.write() as (connection, counter):
            for token, beat in lost.items():
                same = (JOBS.c.state == State.RUNNING) & (JOBS.c.token == token) & (JOBS.c.beat == beat)
                row = connection.execute(select(JOBS).where(same)).first()
                if row is not None:
                    self._strike(connection, row, counter, crash=None)
                    taken += 1
        return taken

    def crashed(self, worker: str, message: str) -> Job | None:
        """Somebody saw a worker fail: its job is queued again, or failed after too many times.

        Args:
            message: what happened, a sentence; shown when the job is given up.

        Returns:
            its job; ``None`` when it had none, or when the job is deleted as was wished.
        """
        with self._database.write() as (connection, counter):
            own = (JOBS.c.state == State.RUNNING) & (JOBS.c.worker == worker)
            row = connection.execute(select(JOBS).where(own)).first()
            if row is None:
                return None
            self._strike(connection, row, counter, crash=message)
            return rows.find(connection, row.id)

    def renew(self, lease: Lease) -> Wish | None:
        """Show that the worker lives; returns what was asked of the job.

        Raises:
            JobActionError: ``lease_lost``; as all methods below.
        """
        with self._database.touch() as connection:
            own = (JOBS.c.id == lease.job.id) & (JOBS.c.token == lease.token)
            row = connection.execute(
                update(JOBS).where(own).values(beat=JOBS.c.beat + 1).returning(JOBS.c.wish)
            ).first()
        if row is None:
            raise _lease_lost(lease)
        return Wish(row.wish) if row.wish else None

    def wish(self, lease: Lease) -> Wish | None:
        """What was asked of the job; nothing is written."""
        with self._database.read() as connection:
            row = _own(connection, lease)
        return Wish(row.wish) if row.wish else None

    def report(self, lease: Lease, progress: JobProgress) -> Wish | None:
        """As ``renew``, with news. ``percent`` and the number of finished windows never fall."""
        with self._database.write() as (connection, counter):
            row = _own(connection, lease)
            values = rows.progress_values(progress, row)
            rows.change(connection, row, counter, beat=row.beat + 1, **values)
        return Wish(row.wish) if row.wish else None

    def complete(self, lease: Lease, output: str) -> Job | None:
        """The video is there: ``output``, relative to the job's folder. ``None`` when it was to be deleted."""
        return self._end(lease, State.COMPLETED, output=output)

    def fail(self, lease: Lease, code: str, message: str) -> Job | None:
        """It cannot be made. ``None`` when it was to be deleted."""
        return self._end(lease, State.FAILED, error_code=code, error_message=message)

    def release(self, lease: Lease) -> Job | None:
        """The worker stops: the job goes where its wish says, else back to its place in the queue."""
        with self._database.write() as (connection, counter):
            row = _own(connection, lease)
            rows.leave(connection, row, counter)
            return rows.find(connection, row.id)

    def _end(self, lease: Lease, state: State, **values: str) -> Job | None:
        with self._database.write() as (connection, counter):
            row = _own(connection, lease)
            if row.wish == Wish.DELETE:
                rows.forget(connection, row)
                return None
            done = rows.done_values(row) if state is State.COMPLETED else {}
            rows.end(connection, row, counter, state, **values, **done)
            return rows.get(connection, row.id)

    def _lost(self, alive: Alive | None) -> dict[str, int]:
        """Token and beat of leases whose worker is dead."""
        with self._database.read() as connection:
            columns = (JOBS.c.token, JOBS.c.beat, JOBS.c.worker, JOBS.c.host)
            running = connection.execute(select(*columns).where(JOBS.c.state == State.RUNNING)).all()
        lives = {row.token: alive(row.host, row.worker) if alive else None for row in running}
        now, lost = self._clock(), {}
        with self._watching:
            self._beats = {row.token: self._beats.get(row.token, (row.beat, now)) for row in running}
            for row in running:
                beat, since = self._beats[row.token]
                if lives[row.token] is False:
                    lost[row.token] = row.beat
                elif lives[row.token] or beat != row.beat:
                    self._beats[row.token] = (row.beat, now)
                elif now - since >= self._seconds:
                    lost[row.token] = row.beat
        return lost

    def _strike(self, connection: Connection, row: rows.AnyRow, counter: int, *, crash: str | None) -> None:
        """A worker was lost: count it, and give the job up when many tries brought no progress."""
        if row.wish is not None:
            rows.leave(connection, row, counter)
            return
        fresh = row.windows_done > row.windows_then
        crashes = (0 if fresh else row.crashes) + (crash is not None)
        interruptions = (0 if fresh else row.interruptions) + (crash is None)
        counted = {"crashes": crashes, "interruptions": interruptions, "windows_then": row.windows_done}
        problem = self._given_up(crashes, interruptions, crash or "")
        if problem:
            code, message = problem
            rows.end(
                connection, row, counter, State.FAILED, error_code=code, error_message=message, **counted
            )
        else:
            rows.change(connection, row, counter, state=State.QUEUED, **rows.NO_LEASE, **counted)

    def _given_up(self, crashes: int, interruptions: int, message: str) -> tuple[str, str] | None:
        where = "without finishing another window. Its finished windows are kept; retry continues after them."
        if crashes >= self._patience.crashes:
            return "worker_crashed", f"{message} This was failure {crashes} {where}".strip()
        if interruptions >= self._patience.interruptions:
            return "worker_lost", f"The worker was gone {interruptions} times {where}"
        return None


def _own(connection: Connection, lease: Lease) -> rows.AnyRow:
    own = (JOBS.c.id == lease.job.id) & (JOBS.c.token == lease.token)
    row = connection.execute(select(JOBS).where(own)).first()
    if row is None:
        raise _lease_lost(lease)
    return row


def _lease_lost(lease: Lease) -> JobActionError:
    return JobActionError(
        f"Job {lease.job.id} is no longer worked on by {lease.worker}: it was given to another worker, or deleted.",
        code="lease_lost",
    )
