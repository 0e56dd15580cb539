"""What a running engine tells: small events for a progress bar, a log, or a page."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum
from time import perf_counter


class Phase(StrEnum):
    """What is going on, in order. ``SAMPLING``, ``DECODING`` and ``WRITING`` come once for every window."""

    LOADING = "loading"
    """The model's files are read; only when the engine is built."""
    READING = "reading"
    """The user's media are opened and checked."""
    ENCODING = "encoding"
    """Text and speech become what the model understands."""
    SAMPLING = "sampling"
    """A window is denoised, step by step."""
    DECODING = "decoding"
    """A window's latent becomes frames."""
    WRITING = "writing"
    """The finished frames and the sound become the file."""
    DONE = "done"


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """One event. Windows and steps count finished ones, so they start at 0 and end at their total."""

    phase: Phase
    window: int = 0
    windows: int = 0
    step: int = 0
    steps: int = 0
    seconds_per_step: float | None = None
    """Mean over this run so far; includes the window's decoding once a window is finished."""
    eta: float | None = None
    """Seconds until the last window is finished, when a guess is possible."""
    runs: str = ""
    """What runs: ``"cuda, bf16, fp8_e4m3fn_scaled_fast, attention sdpa"``; as soon as it is known."""
    note: str = ""
    """One line that a person should read: a fallback, a retry. Most events have none."""


Listener = Callable[[Progress], None]
"""Hears the events on the thread that runs the engine. Raising ``Cancelled`` in it stops the run at once."""


def silent(_event: Progress) -> None:
    """Hears nothing."""


class Clock:
    """Turns "this step is done" into events with speed and remaining time."""

    def __init__(self, listen: Listener, windows: int, steps: int, *, first: int = 0, runs: str = "") -> None:
        """``first``: windows that were finished in an earlier run; ``runs``: see ``Progress``."""
        self._listen, self._windows, self._steps, self._runs = listen, windows, steps, runs
        self._first, self._window = first, first
        self._began = perf_counter()

    def ready(self) -> None:
        """The model is there. Reading it may have taken as long as many steps, and is not counted as one of them."""
        if self._window == self._first:
            self._began = perf_counter()

    def phase(self, phase: Phase, step: int = 0) -> None:
        """Tell the phase and how many steps of the current window are done."""
        done = (self._window - self._first) * self._steps + step
        pace = (perf_counter() - self._began) / done if done else None
        left = (self._windows - self._window) * self._steps - step
        self._listen(
            Progress(
                phase=phase,
                window=self._window,
                windows=self._windows,
                step=step,
                steps=self._steps,
                seconds_per_step=pace,
                eta=None if pace is None else pace * left,
                runs=self._runs,
            )
        )

    def say(self, notes: Iterable[str]) -> None:
        """Say some lines; the window is the current one."""
        for note in notes:
            self._listen(
                Progress(
                    phase=Phase.ENCODING,
                    window=self._window,
                    windows=self._windows,
                    runs=self._runs,
                    note=note,
                )
            )

    def step(self, step: int) -> None:
        """Step number ``step`` of the current window is done."""
        self.phase(Phase.SAMPLING, step + 1)

    def window_done(self) -> None:
        """The current window is finished, and goes to the file."""
        self._window += 1
        self.phase(Phase.WRITING)
