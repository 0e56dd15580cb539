"""``Worker``: takes jobs one after the other and makes their videos. It runs in a process of its own (``child.py``)."""

from __future__ import annotations

import gc
import logging
import os
import shutil
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from infinite_talk.errors import (
    Cancelled,
    InfiniteTalkError,
    JobActionError,
    NoSpaceError,
    StoreError,
    TakeError,
)
from infinite_talk.jobs.heart import Heart, Pace
from infinite_talk.jobs.leases import Leases
from infinite_talk.jobs.paths import delivered, rooted
from infinite_talk.jobs.presence import Presence, is_held, this_host
from infinite_talk.jobs.retention import remove_folder
from infinite_talk.jobs.types import VIDEO, DataFolder, Job, Lease

if TYPE_CHECKING:
    from infinite_talk.engine import Engine
    from infinite_talk.jobs.node_run import NodeRunner
    from infinite_talk.request import Request

logger = logging.getLogger(__name__)
BROKEN = 70
"""Exit code of a worker that has met a fault of the program or of the machine: another process may do better."""
_TRANSIENT = {"store_busy", "store_unreachable"}
_NO_MEMORY = "The memory of this machine was not enough. Choose a smaller size or fewer frames per window."


class Broken(Exception):  # noqa: N818 - the end of a worker, seen by nobody but its process
    """The process is of no use any more; its job was given back."""


class Worker:
    """Makes one video at a time. The model stays loaded while jobs have equal settings."""

    def __init__(
        self,
        leases: Leases,
        folder: DataFolder,
        *,
        name: str,
        stop: threading.Event,
        pace: Pace = Pace(),  # noqa: B008 - frozen
        hung: Callable[[str], None] | None = None,
        prepare: Callable[[], None] | None = None,
    ) -> None:
        """``stop``: set it to end after the current step; ``hung``: called when a step does not end; ``prepare``:
        called once, when nothing waits.

        A signal handler may set ``stop``, so this thread never waits for it: a handler that interrupts the waiting
        would want the lock that the waiting holds, and both would stand still.
        """
        self._leases, self._folder = leases, folder
        self._name, self._stop, self._pace = name, stop, pace
        self._presence = Presence(folder)
        self._hung, self._prepare = hung or self._end_hung, prepare
        self._engine: Engine | None = None
        self._runner: NodeRunner | None = None

    def run(self, *, until_empty: bool = False) -> None:
        """Work until ``stop`` is set, or until nothing waits.

        Raises:
            StoreError: the store is gone. Broken: the process should end.
        """
        prepare = self._prepare
        with self._presence.stay(self._name):
            while not self._stop.is_set():
                lease = self._claim()
                if lease is not None:
                    self._work(lease)
                elif until_empty:
                    return
                elif prepare is not None:
                    prepare()
                    prepare = None
                else:
                    time.sleep(self._pace.idle)  # not ``stop.wait``: see ``__init__``

    def _claim(self) -> Lease | None:
        try:
            return self._leases.claim(self._name, host=this_host(), alive=self._presence.alive)
        except (StoreError, NoSpaceError) as error:
            if isinstance(error, StoreError) and error.code not in _TRANSIENT:
                raise
            logger.warning("%s", error.message)
            return None

    def _work(self, lease: Lease) -> None:
        """Make one video, and say what became of it."""
        job, fault = lease.job, None
        logger.info("job %s: attempt %d", job.id, job.attempts)
        try:
            with Heart(self._leases, lease, stop=self._stop, pace=self._pace, hung=self._hung) as heart:
                self._make(job, heart)
        except Cancelled:
            tell = partial(self._leases.release, lease)
        except InfiniteTalkError as error:
            tell = partial(self._leases.fail, lease, error.code, error.message)
            self._forget_engine()
        except MemoryError:
            tell = partial(self._leases.fail, lease, "out_of_memory", _NO_MEMORY)
            self._forget_engine()
        except Exception as error:
            logger.exception("job %s", job.id)
            fault = error
        else:
            tell = partial(self._leases.complete, lease, VIDEO)
        if fault is not None:
            said = f"The worker failed ({type(fault).__name__}: {' '.join(str(fault).split())[:300]})."
            self._end(lease, lambda: self._leases.crashed(self._name, said) or job)
            raise Broken from fault
        self._end(lease, tell)

    def _make(self, job: Job, heart: Heart) -> None:
        """The video of a job, from where the last attempt stopped."""
        video, folder = self._folder.video(job.id), self._folder.of(job.id)
        take = video.with_name(f"{video.name}.take")
        if delivered(video):  # killed between the last window and telling so
            shutil.rmtree(take, ignore_errors=True)
            return
        if job.error is not None:  # a running job has none of its own: the order cannot be read
            raise StoreError(job.error.message, code=job.error.code)
        if not folder.is_dir():
            raise NoSpaceError(
                f"The folder of job {job.id} is gone from {self._folder.jobs}. Order it again, or give the worker "
                "the same data folder as the service.",
                code="job_folder_missing",
            )
        write = self._writer_for(job, rooted(job.order.request, folder), video, heart)
        heart.check()
        try:
            write(resume=True)
        except TakeError as error:
            if error.code == "busy":  # a worker that was thought dead still holds the take
                self._wait_for(take, heart)
                write(resume=True)
                return
            heart.say(f"Beginning again from the first window: {error.message}")
            write(resume=False)

    def _writer_for(self, job: Job, request: Request, video: Path, heart: Heart) -> Callable[..., object]:
        """What makes the video: the engine, or the nodes for options that only they have."""
        if job.order.options.wanted:
            runner = self._runner_for(job)
            return partial(runner.write, request, job.order.options, video, progress=heart.listen)
        return partial(self._engine_for(job).write, request, video, progress=heart.listen)

    def _wait_for(self, take: Path, heart: Heart) -> None:
        """Wait until nobody holds a take; a wish ends the waiting."""
        while is_held(take / "lock"):
            heart.check()
            time.sleep(self._pace.idle)

    def _engine_for(self, job: Job) -> Engine:
        """The model of the last job, when this one is made with the same settings."""
        from infinite_talk.engine import Engine
        from infinite_talk.weights.distilled import with_distilled

        settings = with_distilled(job.order.settings, job.order.request.distilled)
        if self._engine is None or self._engine.settings != settings:
            self._forget_engine()
            self._engine = Engine(settings)
        return self._engine

    def _runner_for(self, job: Job) -> NodeRunner:
        """Likewise for orders that the nodes make; one model is loaded at a time."""
        from infinite_talk.jobs.node_run import NodeRunner
        from infinite_talk.weights.distilled import with_distilled

        settings = with_distilled(job.order.settings, job.order.request.distilled)
        if self._runner is None or self._runner.settings != settings:
            self._forget_engine()
            self._runner = NodeRunner(settings)
        return self._runner

    def _forget_engine(self) -> None:
        self._engine = self._runner = None
        gc.collect()  # modules refer to themselves in circles

    def _end(self, lease: Lease, tell: Callable[[], Job | None]) -> None:
        """Tell the store what became of a job, until it has heard, and remove the files of one that was deleted."""
        patience = self._pace.lease
        while True:
            try:
                if tell() is None:
                    remove_folder(self._folder, lease.job.id)
                return
            except JobActionError as error:  # somebody else has the job; the files are theirs
                logger.warning("%s", error.message)
                return
            except (StoreError, NoSpaceError) as error:
                if patience <= 0 or (isinstance(error, StoreError) and error.code not in _TRANSIENT):
                    raise
                logger.warning("%s", error.message)
                time.sleep(self._pace.idle)
                patience -= self._pace.idle

    def _end_hung(self, problem: str) -> None:
        """A thread that hangs in a kernel cannot be stopped; its process can."""
        logger.error("%s", problem)
        try:
            self._leases.crashed(self._name, problem)
        finally:
            os._exit(BROKEN)
