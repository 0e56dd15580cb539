"""Stopping politely: the first Ctrl-C or SIGTERM ends the run at its next step, the second one at once."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from time import monotonic, sleep
from types import FrameType

from infinite_talk import Cancelled

INTERRUPTED, TERMINATED = 130, 143


class Terminated(Cancelled):
    """Stopped by SIGTERM instead of Ctrl-C."""

    exit_code = TERMINATED
    default_code = "terminated"


class Stop:
    """What was asked for so far."""

    def __init__(
        self,
        kept: str = "finished windows are kept",
        onward: str = "the same command continues from there",
    ) -> None:
        self._kept, self._onward = kept, onward
        self.exit_code: int | None = None
        """130 after Ctrl-C, 143 after SIGTERM, ``None`` while nobody asked."""

    def check(self) -> None:
        """Raise ``Cancelled`` when asked to stop; called at each progress event."""
        if self.exit_code is not None:
            kind = Terminated if self.exit_code == TERMINATED else Cancelled
            raise kind(f"Stopped: {self._kept}; {self._onward}.")

    def wait(self, seconds: float) -> None:
        """Do nothing for so long, or until asked to stop; for commands that have no steps."""
        until = monotonic() + seconds
        while self.exit_code is None and (left := until - monotonic()) > 0:
            sleep(min(0.1, left))

    def ask(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002 - the form of a signal handler
        """Signal handler."""
        if self.exit_code is not None:
            os._exit(self.exit_code)  # a take on disk is whole at every moment, so nothing is lost
        self.exit_code = TERMINATED if number == signal.SIGTERM else INTERRUPTED
        _say(f"\nstopping at the next step, {self._kept} (once more to stop at once)\n")


def _say(text: str) -> None:
    """To the file below stderr: a signal may come in the middle of a write, and the stream would refuse another."""
    with suppress(OSError):
        os.write(sys.stderr.fileno(), text.encode())


@contextmanager
def polite_stop(
    kept: str = "finished windows are kept", onward: str = "the same command continues from there"
) -> Iterator[Stop]:
    """Take Ctrl-C and SIGTERM while the block runs.

    ``kept``: what an interruption leaves for the next run; ``onward``: what that run does with it.
    """
    stop = Stop(kept, onward)
    before = {number: signal.signal(number, stop.ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
