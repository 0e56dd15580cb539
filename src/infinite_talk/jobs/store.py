"""``JobStore``: all jobs of a service, in SQLite or PostgreSQL; what it has answered is on the disk.

Every change is one short transaction that begins by raising the change counter, so that there is one writer at a
time on either database and the counter tells watchers, in order, that something is new.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Self

from infinite_talk.jobs.types import Job, JobProgress, Lease, Order, State, Wish
from infinite_talk.settings import Settings


class JobStore:
    """Safe to use from several threads and several processes."""

    @classmethod
    def open(cls, where: str | Path, *, create: bool = True) -> Self:
        """Open the store.

        Args:
            where: an SQLite file, or a URL: ``sqlite:///...``, ``postgresql://user@host/name``.
            create: make what is missing; else a missing store is an error.

        Raises:
            StoreError: ``store_missing``, ``store_newer``, ``store_damaged``, ``store_unreachable``, ``store_busy``.
        """
        raise NotImplementedError

    def close(self) -> None:
        """Give all connections back."""
        raise NotImplementedError

    def submit(
        self,
        order: Order,
        *,
        key: str | None = None,
        priority: int = 0,
        id: str | None = None,  # noqa: A002
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
        raise NotImplementedError

    def get(self, id: str) -> Job:  # noqa: A002
        """One job.

        Raises:
            JobActionError: ``job_not_found``.
        """
        raise NotImplementedError

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
            after: go on after this job.
            states: only these; empty: all.
        """
        raise NotImplementedError

    def queue(self) -> tuple[Job, ...]:
        """What waits, in the order in which it will run."""
        raise NotImplementedError

    def counts(self) -> Mapping[State, int]:
        """How many jobs there are in each state; all states are there."""
        raise NotImplementedError

    def cancel(self, id: str) -> Job:  # noqa: A002
        """End a job. A running one hears it within a step and is ``running`` with ``wish`` until then. What ended stays."""
        raise NotImplementedError

    def pause(self, id: str) -> Job:  # noqa: A002
        """Take a job out of the queue until ``resume``; a running one stops within a step and keeps its windows."""
        raise NotImplementedError

    def resume(self, id: str) -> Job:  # noqa: A002
        """Put a paused job back to its place in the queue."""
        raise NotImplementedError

    def retry(self, id: str) -> Job:  # noqa: A002
        """Queue a failed or cancelled job again, at the end; it continues after its finished windows."""
        raise NotImplementedError

    def delete(self, id: str) -> Job | None:  # noqa: A002
        """Forget a job; a running one is stopped first, and returned until then. Its files are the desk's to remove."""
        raise NotImplementedError

    def move(self, id: str, before: str | None) -> Job:  # noqa: A002
        """Place a queued job before another one, taking its priority; ``None``: behind all of its own priority."""
        raise NotImplementedError

    def claim(
        self, worker: str, *, host: str = "", dead: Callable[[str, str], bool] | None = None
    ) -> Lease | None:
        """The next job for a worker, or ``None``."""
        raise NotImplementedError

    def renew(self, lease: Lease) -> Wish | None:
        """Show that the worker lives; returns what was asked of the job."""
        raise NotImplementedError

    def report(self, lease: Lease, progress: JobProgress) -> Wish | None:
        """As ``renew``, with news. ``percent`` never falls."""
        raise NotImplementedError

    def complete(self, lease: Lease, output: str) -> Job:
        """The video is there."""
        raise NotImplementedError

    def fail(self, lease: Lease, code: str, message: str) -> Job:
        """It cannot be made."""
        raise NotImplementedError

    def release(self, lease: Lease) -> Job | None:
        """The worker stops: the job goes where its wish says, or back to its place in the queue."""
        raise NotImplementedError

    def counter(self) -> int:
        """Rises with every change of any job."""
        raise NotImplementedError

    def wait_for_change(self, since: int, timeout: float) -> int:
        """Wait until the counter is not ``since``, at most ``timeout`` seconds; returns the counter."""
        raise NotImplementedError

    def profiles(self) -> Mapping[str, Settings]:
        """Named settings that orders can be made with."""
        raise NotImplementedError

    def set_profile(self, name: str, settings: Settings | None) -> None:
        """Keep settings under a name; ``None`` forgets it."""
        raise NotImplementedError


def new_id() -> str:
    """Identity of a job to be: ``video_`` and 128 random bits."""
    raise NotImplementedError
