"""Progress and messages on stderr: a live line on a terminal, plain lines elsewhere, nothing with ``-q``."""

from __future__ import annotations

import json
import os
import re
import sys
from types import TracebackType
from typing import Self, TextIO

from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.text import Text

from infinite_talk import Phase, Progress

WORDS = {
    Phase.LOADING: "loading the model",
    Phase.READING: "reading the media",
    Phase.ENCODING: "listening to the speech",
    Phase.SAMPLING: "drawing",
    Phase.DECODING: "developing the frames",
    Phase.WRITING: "writing the file",
    Phase.DONE: "done",
}
_PLAIN_EVERY = 10.0
"""Seconds between two plain lines of the same window."""


class Show:
    """One listener for progress events; ``note`` and ``warn`` print lines between them."""

    def __init__(
        self, *, quiet: bool = False, stream: TextIO | None = None, live: bool | None = None
    ) -> None:
        self._stream = stream or sys.stderr
        self._quiet = quiet
        self._console = Console(file=self._stream, highlight=False, soft_wrap=True)
        live = self._console.is_terminal and os.environ.get("TERM") != "dumb" if live is None else live
        self._live = (
            Live(console=self._console, refresh_per_second=8, transient=True) if live and not quiet else None
        )
        self._told: tuple[Phase, int] | None = None
        self._told_at = 0.0
        self._status: object = None

    def __enter__(self) -> Self:
        if self._live:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Take the live line away; later events are not shown."""
        if self._live:
            self._live.stop()
            self._live = None
        self._quiet = True

    def note(self, text: str) -> None:
        """One line; not with ``-q``."""
        if not self._quiet:
            self._console.print(escape(clean(text)))

    def warn(self, text: str) -> None:
        """One line that stands out; also with ``-q``."""
        self._console.print(Text.assemble(("note: ", "yellow"), clean(text)))

    def progress(self, event: Progress, now: float) -> None:
        """Show one event; ``now`` is a monotonic time in seconds."""
        if event.note:
            self.warn(event.note)
            return
        if self._quiet:
            return
        if self._live:
            self._live.update(bar(event))
        elif self._is_news(event, now):
            self._told, self._told_at = (event.phase, event.window), now
            self._console.print(line(event), markup=False)

    def status(self, text: str, key: object, now: float) -> None:
        """Show the state of something else than a run: live, or as a line when ``key`` is new or it is time."""
        if self._quiet:
            return
        if self._live:
            self._live.update(Text(clean(text)))
        elif self._status != key or now - self._told_at >= _PLAIN_EVERY:
            self._status, self._told_at = key, now
            self._console.print(clean(text), markup=False)

    def _is_news(self, event: Progress, now: float) -> bool:
        """A new phase or window is; another step only after a while. What takes moments is not."""
        if event.phase in (Phase.DONE, Phase.DECODING):
            return False
        if event.phase is Phase.WRITING and event.window < event.windows:
            return False
        return self._told != (event.phase, event.window) or now - self._told_at >= _PLAIN_EVERY


def line(event: Progress) -> str:
    """``window 2/13, step 3/8, 1.20 s/step, 0:45 left``."""
    parts = [WORDS[event.phase]]
    if event.phase not in (Phase.SAMPLING, Phase.DECODING):
        return parts[0]
    parts.append(f"window {min(event.window + 1, event.windows)}/{event.windows}")
    if event.phase is Phase.SAMPLING:
        parts.append(f"step {event.step}/{event.steps}")
    if event.seconds_per_step is not None:
        parts.append(f"{event.seconds_per_step:.2f} s/step")
    if event.eta is not None:
        parts.append(f"{duration(event.eta)} left")
    return ", ".join(parts)


def bar(event: Progress, width: int = 12) -> Text:
    """The same with a bar in front."""
    done = event.window + (event.step / event.steps if event.steps else 0)
    share = min(1.0, done / event.windows) if event.windows else 0.0
    full = round(share * width)
    return Text.assemble(("━" * full, "green"), ("━" * (width - full), "bright_black"), "  ", line(event))


def duration(seconds: float) -> str:
    """``0:07``, ``12:30``, ``1:02:03``."""
    whole = max(0, round(seconds))
    hours, minutes, rest = whole // 3600, whole // 60 % 60, whole % 60
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def size(bytes_: float) -> str:
    """``340 MB``, ``1.4 GB``."""
    return f"{bytes_ / 1e9:.1f} GB" if bytes_ >= 1e9 else f"{bytes_ / 1e6:.0f} MB"


def clean(text: str) -> str:
    """Text that may come from file names, without control characters that a terminal would obey."""
    return "".join(c if c.isprintable() or c in "\n\t" else repr(c)[1:-1] for c in text)


def json_text(values: object) -> str:
    """One line of JSON for programs that a terminal may show too: beyond JSON's own escapes, no control characters."""
    written = json.dumps(values, default=str, ensure_ascii=False)
    return re.sub("[\x7f-\x9f\u2028\u2029]", lambda found: f"\\u{ord(found[0]):04x}", written)
