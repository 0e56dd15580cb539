"""``JobStore``: all jobs of a service, in SQLite or PostgreSQL; what it has answered is on the disk.

Every change is one short transaction that begins by raising the change counter (``database.py``), so there is one
writer at a time on either database, and the counter tells watchers that something is new.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Self

from pydantic import TypeAdapter
from sqlalchemy import Connection, delete, func, insert, select

from infinite_talk.errors import JobActionError, LimitError
from infinite_talk.jobs import rows
from infinite_talk.jobs.database import Database
from infinite_talk.jobs.rows import new_id
from infinite_talk.jobs.tables import JOBS, PROFILES
from infinite_talk.jobs.types import Job, Order, State, Wish
from infinite_talk.settings import Settings

__all__ = ["JobStore", "new_id"]

_SETTINGS = TypeAdapter(Settings)
_STRENGTH = {None: 0, Wish.PAUSE: 1, Wish.CANCEL: 2, Wish.DELETE: 3}


class JobStore:
    """Safe to use from several threads and several processes."""

    def __init__(self, database: Database, *, clock: Callable[[], float] = time.monotonic) -> None:
        """Use :meth:`open`."""
        self.database = database
        self._clock = clock

    @classmethod
    def open(cls, where: str | Path, *, create: bool = True) -> Self:
        """Open the store.

        Args:
            where: an SQLite file, or a URL: ``sqlite:///...``, ``postgresql://user@host/name``.
            create: make what is missing; else a missing store is an error.

        Raises:
            StoreError: ``store_missing``, ``store_newer``, ``store_damaged``, ``store_unreachable``, ``store_busy``.
            UsageError: not such a URL. NoSpaceError: it cannot be written.
        """
        return cls(Database.open(where, create=create))

    def close(self) -> None:
        """Give all connections back."""
        self.database.close()

    def submit(
        self,
        order: Order,
        *,
        key: str | None = None,
        priority: int = 0,
        id: str | None = None,  # noqa: A002 - the field's name
        most: int | None = None,
    ) -> Job:
        """Accept a job. When this returns it is on the disk.

        Args:
            key: idempotency key. The same key with the same order gives the job that is there.
            priority: higher ones run first.
            id: from ``new_id``, where the job's folder had to be made before.
            most: refuse when as many jobs wait, run or are paused.

        Raises:
            JobActionError: ``key_reused``.
            LimitError: ``queue_full``.
        """
        with self.database.write() as (connection, counter):
            if key is not None and (earlier := self._earlier(connection, key, order)):
                return earlier
            if most is not None:
                _check_room(connection, most)
            name = id or new_id()
            values = rows.new(order, name=name, number=counter, priority=priority, key=key)
            connection.execute(insert(JOBS).values(values))
            return rows.get(connection, name)

    def get(self, job: str) -> Job:
        """One job by its id.

        Raises:
            JobActionError: ``job_not_found``.
        """
        with self.database.read() as connection:
            return rows.get(connection, job)

    def list(
        self,
        *,
        after: str | None = None,
        limit: int | None = None,
        newest_first: bool = True,
        states: Collection[State] = (),
    ) -> tuple[Job, ...]:
        """Jobs by age.

        Args:
            after: go on after the job of this id.
            states: only these; empty: all.
        """
        with self.database.read() as connection:
            query = rows.SELECT.limit(limit)
            query = query.order_by(JOBS.c.number.desc() if newest_first else JOBS.c.number)
            if after is not None:
                number = rows.row_of(connection, after).number
                query = query.where(JOBS.c.number < number if newest_first else JOBS.c.number > number)
            if states:
                query = query.where(JOBS.c.state.in_(states))
            return tuple(rows.job(row) for row in connection.execute(query))

    def queue(self) -> tuple[Job, ...]:
        """What waits, in the order in which it will run."""
        with self.database.read() as connection:
            query = rows.SELECT.where(JOBS.c.state == State.QUEUED).order_by(*rows.RUN_ORDER)
            return tuple(rows.job(row) for row in connection.execute(query))

    def counts(self) -> Mapping[State, int]:
        """How many jobs there are in each state; all states are there."""
        with self.database.read() as connection:
            query = select(JOBS.c.state, func.count()).group_by(JOBS.c.state)
            found = {State(state): count for state, count in connection.execute(query)}
        return {state: found.get(state, 0) for state in State}

    def cancel(self, job: str) -> Job:
        """End a job; what has ended stays as it is.

        A running one hears it within a denoising step; until then it is ``running`` and its ``wish`` is ``cancel``.
        """
        return _there(self._ask(job, Wish.CANCEL))

    def pause(self, job: str) -> Job:
        """Take a job out of the queue until ``resume``; a running one stops within a step and keeps its windows.

        Raises:
            JobActionError: ``job_not_found``, or ``job_state``: it has ended.
        """
        return _there(self._ask(job, Wish.PAUSE))

    def delete(self, job: str) -> Job | None:
        """Forget a job. A running one is stopped first, and returned; it goes when its worker has heard.

        Its files are not touched here.
        """
        return self._ask(job, Wish.DELETE)

    def resume(self, job: str) -> Job:
        """Put a paused job back to its place in the queue; what waits or runs stays as it is.

        Raises:
            JobActionError: ``job_not_found``, or ``job_state``: it has ended.
        """
        with self._changing(job) as (connection, counter, row):
            if State(row.state).ended:
                raise _wrong_state(row, "resumed", "Use retry to queue a failed or cancelled job again.")
            if row.state == State.PAUSED:
                rows.change(connection, row, counter, state=State.QUEUED)
            elif row.wish == Wish.PAUSE:
                rows.change(connection, row, counter, wish=None)
            return rows.get(connection, job)

    def retry(self, job: str) -> Job:
        """Queue a failed or cancelled job again, at the end; it continues after its finished windows.

        Raises:
            JobActionError: ``job_not_found``, or ``job_state``.
        """
        with self._changing(job) as (connection, counter, row):
            if row.state not in (State.FAILED, State.CANCELLED):
                raise _wrong_state(row, "retried", "Only failed and cancelled jobs can be.")
            clean = dict.fromkeys(("error_code", "error_message", "finished"))
            counts = {"crashes": 0, "interruptions": 0, "rank": counter * rows.GAP}
            rows.change(connection, row, counter, state=State.QUEUED, **clean, **counts)
            return rows.get(connection, job)

    def move(self, job: str, before: str | None) -> Job:
        """Place a waiting job before another one, whose priority it takes.

        Args:
            before: id of the other one; ``None``: behind all of the job's own priority.

        Raises:
            JobActionError: ``job_not_found``, or ``job_state``: one of them does not wait.
        """
        with self._changing(job) as (connection, counter, row):
            for one in (row, rows.row_of(connection, before) if before else row):
                if one.state not in (State.QUEUED, State.PAUSED):
                    raise _wrong_state(one, "moved", "Only jobs that wait have a place.")
            if before is None:
                rows.change(connection, row, counter, rank=counter * rows.GAP)
            elif before != job:
                other = rows.row_of(connection, before)
                rank = _place_before(connection, other, row)
                rows.change(connection, row, counter, priority=other.priority, rank=rank)
            return rows.get(connection, job)

    def set_priority(self, job: str, priority: int) -> Job:
        """Higher ones run first; the job goes behind those that have the priority already."""
        with self._changing(job) as (connection, counter, row):
            if row.state not in (State.QUEUED, State.PAUSED):
                raise _wrong_state(row, "given another priority", "Only jobs that wait can be.")
            rows.change(connection, row, counter, priority=priority, rank=counter * rows.GAP)
            return rows.get(connection, job)

    def counter(self) -> int:
        """Rises with every change of any job."""
        return self.database.counter()

    def wait_for_change(self, since: int, timeout: float, *, every: float = 0.2) -> int:
        """Wait until the counter is not ``since``, at most ``timeout`` seconds; returns the counter."""
        until = self._clock() + timeout
        while (now := self.counter()) == since and (left := until - self._clock()) > 0:
            time.sleep(min(every, left))
        return now

    def profiles(self) -> Mapping[str, Settings]:
        """Named settings that orders can be made with."""
        with self.database.read() as connection:
            query = select(PROFILES.c.name, PROFILES.c.settings_json).order_by(PROFILES.c.name)
            return {name: _SETTINGS.validate_json(text) for name, text in connection.execute(query)}

    def set_profile(self, name: str, settings: Settings | None) -> None:
        """Keep settings under a name; ``None`` forgets it. Jobs that were accepted keep theirs."""
        with self.database.write() as (connection, _):
            connection.execute(delete(PROFILES).where(PROFILES.c.name == name))
            if settings is not None:
                text = _SETTINGS.dump_json(settings).decode()
                connection.execute(insert(PROFILES).values(name=name, settings_json=text))

    def ended_longer_ago(self, seconds: float) -> tuple[Job, ...]:
        """Jobs whose end is so long ago, the oldest end first."""
        with self.database.read() as connection:
            old = JOBS.c.finished <= time.time() - seconds
            query = rows.SELECT.where(old, JOBS.c.state.in_(rows.ENDS)).order_by(JOBS.c.finished)
            return tuple(rows.job(row) for row in connection.execute(query))

    def _earlier(self, connection: Connection, key: str, order: Order) -> Job | None:
        row = connection.execute(select(JOBS).where(JOBS.c.idempotency_key == key)).first()
        if row is None:
            return None
        if row.digest != order.digest:
            raise JobActionError(
                f"The idempotency key {key!r} was used for another order (job {row.id}). Use a new key for a "
                "new order.",
                code="key_reused",
            )
        return rows.get(connection, row.id)

    def _ask(self, job: str, wish: Wish) -> Job | None:
        """Do what was wished at once, or leave the wish for the worker; ``None`` when the job is gone."""
        with self._changing(job) as (connection, counter, row):
            state = State(row.state)
            if state is State.RUNNING:
                if _STRENGTH[wish] > _STRENGTH[row.wish and Wish(row.wish)]:
                    rows.change(connection, row, counter, wish=wish)
            elif wish is Wish.DELETE:
                rows.forget(connection, row)
            elif wish is Wish.CANCEL and not state.ended:
                rows.end(connection, row, counter, State.CANCELLED)
            elif wish is Wish.PAUSE:
                if state.ended:
                    raise _wrong_state(row, "paused", "It has ended.")
                rows.change(connection, row, counter, state=State.PAUSED)
            return rows.find(connection, job)

    @contextmanager
    def _changing(self, job: str) -> Iterator[tuple[Connection, int, rows.AnyRow]]:
        with self.database.write() as (connection, counter):
            yield connection, counter, rows.row_of(connection, job)


def _check_room(connection: Connection, most: int) -> None:
    still = JOBS.c.state.in_([state for state in State if not state.ended])
    count = connection.scalar(select(func.count()).select_from(JOBS).where(still)) or 0
    if count >= most:
        raise LimitError(
            f"{count} jobs wait already, the most that are accepted here. Try again when one has ended.",
            code="queue_full",
        )


def _place_before(connection: Connection, before: rows.AnyRow, moved: rows.AnyRow) -> int:
    """A free rank just before another job; ranks of its priority are spread anew when there is none."""
    same = (JOBS.c.priority == before.priority) & (JOBS.c.number != moved.number)
    same &= JOBS.c.state.not_in(rows.ENDS)
    lower = connection.scalar(select(func.max(JOBS.c.rank)).where(same, JOBS.c.rank < before.rank))
    if lower is None:
        return int(before.rank) - rows.GAP
    if before.rank - lower > 1:
        return int(lower + before.rank) // 2
    # All move up by their place: those behind keep their order, and end below the ranks of jobs to come.
    every = connection.execute(select(JOBS).where(same).order_by(JOBS.c.rank.desc())).all()
    highest, place = int(every[0].rank), 0
    for at, row in enumerate(every):
        rank = highest - at * rows.GAP
        connection.execute(JOBS.update().where(JOBS.c.number == row.number).values(rank=rank))
        if row.number == before.number:
            place = rank - rows.GAP // 2
    return place


def _wrong_state(row: rows.AnyRow, verb: str, advice: str) -> JobActionError:
    return JobActionError(f"Job {row.id} is {row.state} and cannot be {verb}. {advice}", code="job_state")


def _there(job: Job | None) -> Job:
    assert job is not None, "only a deletion removes jobs"
    return job
