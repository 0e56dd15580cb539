"""``Heart``: while the engine works, a thread shows the store that the worker lives, tells how far it is, and listens.

The engine's own thread never waits for the store: it leaves its news here, and learns at its next step whether it
has to stop.
"""

from __future__ import annotations

import logging
import statistics
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from infinite_talk.errors import Cancelled, InfiniteTalkError, JobActionError
from infinite_talk.jobs.following import follow
from infinite_talk.jobs.leases import LEASE_SECONDS, Leases
from infinite_talk.jobs.types import Lease
from infinite_talk.progress import Phase, Progress

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How often a worker does what, in seconds."""

    idle: float = 0.5
    """Between two looks for a job."""
    listen: float = 0.25
    """Between two looks for a wish."""
    report: float = 1.0
    """Between two reports of progress."""
    beat: float = 5.0
    """Between two signs of life when there is nothing to report."""
    lease: float = LEASE_SECONDS
    """A worker that could not give a sign of life for so long stops: others may think it dead."""
    hung: float = 300.0
    """A denoising step that takes longer than this, and than ``hung_times`` the usual, hangs."""
    hung_times: float = 10.0


class Watchdog:
    """Notices a denoising step that does not end. Steps are compared with those before, so none is needed to know."""

    def __init__(self, pace: Pace, clock: Callable[[], float]) -> None:
        self._pace, self._clock = pace, clock
        self._steps: deque[float] = deque(maxlen=64)
        self._last: float | None = None  # when the step began that runs now

    def hear(self, event: Progress) -> None:
        """An event of the engine."""
        now = self._clock()
        if self._last is not None and event.phase is Phase.SAMPLING:
            self._steps.append(now - self._last)
        between = event.phase is Phase.SAMPLING and 0 < event.step < event.steps
        self._last = now if between else None

    @property
    def limit(self) -> float | None:
        """Seconds that the step that runs now may take; ``None``: not known, or none runs."""
        if self._last is None or not self._steps:
            return None
        return max(self._pace.hung, self._pace.hung_times * statistics.median(self._steps))

    def problem(self) -> str | None:
        """A sentence when the step that runs now hangs."""
        limit, last = self.limit, self._last
        if limit is None or last is None or (took := self._clock() - last) <= limit:
            return None
        usual = statistics.median(self._steps)
        return f"A denoising step did not end in {took:.0f} s; the ones before took {usual:.1f} s."


class Heart:
    """A context manager around the work on one job; ``listen`` is the engine's listener."""

    def __init__(
        self,
        leases: Leases,
        lease: Lease,
        *,
        stop: threading.Event,
        pace: Pace,
        hung: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """``stop``: the worker is to end; ``hung``: called from the thread when a step does not end."""
        self._leases, self._lease = leases, lease
        self._stop, self._pace, self._clock, self._hung = stop, pace, clock, hung
        self._progress = lease.job.progress
        self._told = self._progress
        self._reported = self._alive = clock()
        self._watchdog = Watchdog(pace, clock)
        self._why: str | None = None  # a reason to stop
        self.lost = False
        """Whether the job is somebody else's by now."""
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="heart", daemon=True)

    @property
    def heard(self) -> bool:
        """Whether the work will stop at its next step."""
        return self._why is not None or self._stop.is_set()

    def listen(self, event: Progress) -> None:
        """Hear the engine.

        Raises:
            Cancelled: somebody wants the work to stop.
        """
        self._watchdog.hear(event)
        self._progress = follow(self._progress, event)
        self.check()

    def check(self) -> None:
        """Raise ``Cancelled`` when the work is to stop."""
        if self._stop.is_set():
            raise Cancelled("The worker stops; finished windows are kept.")
        if self._why is not None:
            raise Cancelled(self._why)

    def say(self, note: str) -> None:
        """Add a line that a person should read."""
        self._progress = follow(self._progress, Progress(phase=Phase.READING, note=note))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()
        if self._progress is not self._told and not self.lost:  # where it stopped, for those who look later
            self._speak(report=True)

    def _run(self) -> None:
        while not self._over.wait(self._pace.listen):
            problem = self._watchdog.problem()
            if problem is not None:
                self._hung(problem)
            self._speak(report=self._clock() - self._reported >= self._pace.report)

    def _speak(self, *, report: bool) -> None:
        """One exchange with the store; that it does not answer is no reason to stop for a while."""
        now, progress = self._clock(), self._progress
        try:
            if report and progress is not self._told:
                wish = self._leases.report(self._lease, progress)
                self._told, self._reported, self._alive = progress, now, now
            elif now - self._alive >= self._pace.beat:
                wish = self._leases.renew(self._lease)
                self._alive = now
            else:
                wish = self._leases.wish(self._lease)
        except JobActionError as error:
            self.lost = True
            self._why = error.message
        except InfiniteTalkError as error:
            logger.warning("%s", error.message)
            if self._clock() - self._alive >= self._pace.lease:
                self._why = f"The store of jobs does not answer: {error.message}"
        else:
            if wish is not None:
                self._why = f"Stopped, as was asked: {wish}."
