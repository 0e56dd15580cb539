"""``Writer``: puts clips on disk beside the making of the next ones, in order, one at a time."""

from __future__ import annotations

from queue import Queue
from threading import Thread
from types import TracebackType
from typing import Protocol, Self

from infinite_talk.types import Clip

WAITING = 1
"""Clips that wait while another is written. With more, a slow disk would fill the memory; a maker that is faster
than the encoder has to wait in the end anyway."""


class Taker(Protocol):
    """Where clips go; see ``Take.add``."""

    def add(self, clip: Clip) -> None:
        """Put the next clip on disk; when this returns it is safe."""
        ...


class Writer:
    """A thread that hands clips on to a take. A context manager: leaving it waits for what was added.

    A clip is safe when the take says so, not when ``add`` returns: after a crash in between it is made again. What
    goes wrong is raised on the caller's thread, by the next ``add`` or ``check``, or at the end; clips after the
    one that failed are dropped, so that none is missing in between. Nobody else may use the take meanwhile.
    """

    def __init__(self, take: Taker) -> None:
        self._take = take
        self._clips: Queue[Clip | None] = Queue(maxsize=WAITING)
        self._error: Exception | None = None
        self._thread = Thread(target=self._work, name="clip writer")

    def add(self, clip: Clip) -> None:
        """Have a clip written after those before it; waits while too many do.

        Raises:
            Exception: what went wrong with an earlier clip.
        """
        self.check()
        self._clips.put(clip)

    def check(self) -> None:
        """Raise what has gone wrong."""
        if self._error is not None:
            raise self._error

    def _work(self) -> None:
        while (clip := self._clips.get()) is not None:
            if self._error is None:  # else it is taken away, so that nobody waits for a place
                try:
                    self._take.add(clip)
                except Exception as error:
                    self._error = error
            del clip  # before the next one comes: it is as large as a window

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Wait for the clips that were added, also when the caller was stopped: they are finished windows."""
        self._clips.put(None)
        self._thread.join()
        if kind is None:
            self.check()
