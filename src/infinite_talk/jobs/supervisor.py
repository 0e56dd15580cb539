"""``Supervisor``: keeps one worker process per slot running, and tells the store when one has failed.

It holds no model and loads no torch. Workers end with it, however it ends.
"""

from __future__ import annotations

import logging
import platform
import secrets
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self, TypeVar

from infinite_talk.errors import InfiniteTalkError
from infinite_talk.jobs.child import NO_STORE, Task
from infinite_talk.jobs.heart import Pace
from infinite_talk.jobs.leases import Leases, Patience
from infinite_talk.jobs.presence import Presence
from infinite_talk.jobs.store import JobStore
from infinite_talk.jobs.types import DataFolder
from infinite_talk.jobs.worker import BROKEN

Told = TypeVar("Told")
logger = logging.getLogger(__name__)
GRACE = 30.0
"""Seconds that a worker has for its current step when it is asked to end."""
_STEADY = 60.0  # seconds of life after which an end is not thought to be of the same cause as the one before
_LONGEST = 60.0  # between two starts in a row
_PYTHON = (sys.executable, "-P")  # no modules from the folder that this happens to be started in
CHILD = (*_PYTHON, "-m", "infinite_talk.jobs.child")
_VISIBLE = "CUDA_VISIBLE_DEVICES"
_LIST = f"""
import os, torch
names = os.environ.get("{_VISIBLE}", "").split(",")
count = torch.cuda.device_count()
print(",".join(names[:count] if len(names) >= count and names[0] else map(str, range(count))))
"""
"""Names of the GPUs that a process started from here may use. Asked of another process: torch stays out of this one."""


@dataclass(frozen=True, slots=True)
class Slot:
    """What one worker process may use."""

    gpu: str | None = None
    """The GPU's number or name, as CUDA_VISIBLE_DEVICES takes it; ``None``: what the settings of a job choose."""


@dataclass(slots=True)
class _Place:
    """A slot, and who works in it."""

    slot: Slot
    process: subprocess.Popen[bytes] | None = None
    name: str = ""
    began: float = 0.0
    failures: int = 0
    not_before: float = 0.0
    starts: int = field(default=0)


def slots_here(workers: int | None = None) -> tuple[Slot, ...]:
    """One slot per GPU, or one for the CPU.

    Args:
        workers: as many slots instead; they share the GPUs in turn.
    """
    asked = subprocess.run([*_PYTHON, "-c", _LIST], capture_output=True, text=True, check=False)
    gpus = [name.strip() for name in asked.stdout.split(",") if name.strip()] if not asked.returncode else []
    count = workers or max(len(gpus), 1)
    return tuple(Slot(gpus[number % len(gpus)] if gpus else None) for number in range(count))


class Supervisor:
    """A context manager: workers run inside its block. Its thread looks after them."""

    def __init__(
        self,
        store: JobStore,
        folder: DataFolder,
        url: str | None = None,
        *,
        slots: Sequence[Slot] = (Slot(),),
        pace: Pace = Pace(),  # noqa: B008 - frozen
        patience: Patience = Patience(),  # noqa: B008 - frozen
        grace: float = GRACE,
        command: Sequence[str] = CHILD,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """``url``: of the store, for the workers; default: the SQLite file in the folder. ``command``: of a worker."""
        self._folder, self._url = folder, url or str(folder.database)
        self._leases = Leases(store.database, seconds=pace.lease, patience=patience)
        self._presence = Presence(folder)
        self._pace, self._patience, self._grace, self._clock = pace, patience, grace, clock
        self._command = tuple(command)
        self._places = [_Place(slot) for slot in slots]
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="supervisor", daemon=True)

    @property
    def workers(self) -> tuple[str, ...]:
        """Names of the worker processes that run now."""
        return tuple(p.name for p in self._places if p.process is not None and p.process.poll() is None)

    @property
    def slots(self) -> int:
        """How many worker processes there should be."""
        return len(self._places)

    @property
    def starts(self) -> int:
        """How often a worker process was started."""
        return sum(place.starts for place in self._places)

    def __enter__(self) -> Self:
        self._presence.tidy()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """End all workers: each after its current step, its job back in the queue; by force after the grace."""
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join()
        running = [place for place in self._places if place.process is not None]
        for place in running:
            assert place.process is not None
            place.process.send_signal(signal.SIGTERM)
        until = self._clock() + self._grace
        for place in running:
            assert place.process is not None
            try:
                place.process.wait(max(0.0, until - self._clock()))
            except subprocess.TimeoutExpired:
                logger.warning("worker %s did not end in %.0f s", place.name, self._grace)
                place.process.kill()
                place.process.wait()
            self._bury(place)
        # Jobs of those that were ended by force go back to their places at once, without counting as a failure.
        self._tell(lambda: self._leases.reap(self._presence.alive))
        self._presence.tidy()

    def _watch(self) -> None:
        while not self._stop.is_set():
            for place in self._places:
                self._look_after(place)
            self._stop.wait(min(0.5, self._pace.idle))

    def _look_after(self, place: _Place) -> None:
        process = place.process
        if process is None:
            if self._clock() >= place.not_before:
                self._start(place)
            return
        code = process.poll()
        if code is None:
            return
        self._bury(place)
        message = _reason(code)
        logger.warning("worker %s ended: %s", place.name, message)
        job = self._tell(lambda: self._leases.crashed(place.name, message))
        self._presence.tidy()
        now = self._clock()
        if job is not None or now - place.began >= _STEADY:
            place.failures = 0  # how often a job may end its worker is limited by the store's patience
        else:
            place.failures += 1
        place.not_before = now + (min(_LONGEST, 0.25 * 2**place.failures) if place.failures > 1 else 0.0)

    def _start(self, place: _Place) -> None:
        place.name = f"{platform.node()[:60]}-{secrets.token_hex(6)}"
        place.began, place.starts = self._clock(), place.starts + 1
        task = Task(
            name=place.name,
            data=str(self._folder.root),
            store=self._url,
            level=logging.getLogger("infinite_talk").getEffectiveLevel(),
            pace=self._pace,
            patience=self._patience,
        )
        try:
            only = () if place.slot.gpu is None else ("env", f"{_VISIBLE}={place.slot.gpu}")
            place.process = subprocess.Popen([*only, *self._command], stdin=subprocess.PIPE)
            assert place.process.stdin is not None
            place.process.stdin.write(task.to_line())
            place.process.stdin.flush()
        except OSError as error:
            logger.error("a worker could not be started: %s", error)
            place.not_before = self._clock() + _LONGEST

    def _bury(self, place: _Place) -> None:
        if place.process is not None and place.process.stdin is not None:
            try:
                place.process.stdin.close()
            except OSError:
                logger.debug("the pipe of worker %s was broken", place.name)
        place.process = None

    def _tell(self, what: Callable[[], Told]) -> Told | None:
        """The store may be busy or gone; then the next worker that claims finds the dead one's job by its lock."""
        try:
            return what()
        except InfiniteTalkError as error:
            logger.warning("%s", error.message)
            return None


def _reason(code: int) -> str:
    if code == BROKEN:
        return "The worker gave up after a fault."
    if code == NO_STORE:
        return "The worker could not use the store of jobs."
    if code == -signal.SIGKILL:
        return "The worker process was killed, as the system does when memory runs out."
    if code < 0:
        return f"The worker process was ended by signal {-code} ({signal.Signals(-code).name})."
    return f"The worker process ended with code {code}."
