"""What is in the files that were dropped, told at once: format, size, crop, length, loudness."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from html import escape
from pathlib import Path
from threading import Lock
from typing import Any, TypeVar, cast
from urllib.parse import quote

from infinite_talk.frontends.web.telling import length, number
from infinite_talk.frontends.web.texts import Texts
from infinite_talk.jobs.checking import Checker
from infinite_talk.jobs.facts import PictureFacts, SoundFacts

QUIET = -40.0
"""LUFS below which a recording is more likely a mistake than a whisper; speech lies near -23."""
REMEMBERED = 64
"""Answers of the checker that are kept: options change more often than files, and a check takes a second."""
T = TypeVar("T")


class Findings:
    """Facts of uploaded files. Asks the checker once for each file and option; safe for several threads."""

    def __init__(self, checker: Checker) -> None:
        self._checker = checker
        self._known: OrderedDict[Hashable, Future[Any]] = OrderedDict()
        self._lock = Lock()

    def picture(self, path: Path, size: str | None = None) -> PictureFacts:
        """Facts of an image or a film; a small picture with the crop appears beside it.

        Raises:
            InputError, UsageError: as ``Checker.picture``.
        """
        preview = preview_of(path, size)
        return self._once(
            ("picture", _stamp(path), size), lambda: self._checker.picture(path, size=size, preview=preview)
        )

    def sound(self, path: Path, start: float = 0.0, end: float | None = None) -> SoundFacts:
        """Facts of a recording within its trim.

        Raises:
            InputError: as ``Checker.sound``.
        """
        return self._once(
            ("sound", _stamp(path), start, end), lambda: self._checker.sound(path, start=start, end=end)
        )

    def _once(self, key: Hashable, ask: Callable[[], T]) -> T:
        """The answer to a question, asked by whoever comes first; the others wait. Refusals are not kept."""
        with self._lock:
            known = self._known.get(key)
            answer: Future[Any] = known or self._known.setdefault(key, Future())
            self._known.move_to_end(key)
            while len(self._known) > REMEMBERED:
                self._known.popitem(last=False)
        if known is None:
            try:
                answer.set_result(ask())
            except BaseException as error:
                with self._lock:
                    self._known.pop(key, None)
                answer.set_exception(error)
        return cast(T, answer.result())


def _stamp(path: Path) -> tuple[str, int, int]:
    status = path.stat()
    return str(path), status.st_size, status.st_mtime_ns


def preview_of(path: Path, size: str | None) -> Path:
    """Where the small picture of an upload lies; one for each size, as the crop differs."""
    suffix = "".join(c for c in size or "" if c.isalnum())[:24]
    return path.with_name(f"preview-{suffix}.jpg")


def picture_html(texts: Texts, language: str, path: Path, facts: PictureFacts, size: str | None) -> str:
    """The picture with its crop and the places of people, and what it is."""
    values = {
        "width": facts.width,
        "height": facts.height,
        "to_width": facts.output_width,
        "to_height": facts.output_height,
    }
    if facts.moving:
        said = texts.html(
            language, "video_ok", seconds=length(texts, language, facts.seconds or 0.0), **values
        )
    else:
        said = texts.html(language, "picture_ok", **values)
    lines = [f'<p class="it-good">{said}</p>']
    if facts.moving:
        lines.append(f'<p class="it-dim">{texts.html(language, "video_help")}</p>')
    if facts.width * facts.height < facts.output_width * facts.output_height / 2:
        lines.append(f'<p class="it-warn">{texts.html(language, "small_warning", **values)}</p>')
    lines += [f'<p class="it-warn" lang="en">{escape(note)}</p>' for note in facts.notes]
    source = f"{ROOT}/gradio_api/file={quote(str(preview_of(path, size)))}"
    frame = (
        f'<div class="it-frame" data-width="{facts.width}" data-height="{facts.height}">'
        f'<img src="{source}" alt="{escape(said, quote=True)}" draggable="false">'
        '<div class="it-box it-box-first"></div><div class="it-box it-box-second"></div></div>'
    )
    return f'<div class="it-found" aria-live="polite">{frame}{"".join(lines)}</div>'


ROOT = "/ui"
"""Where the page is mounted."""


def sound_html(texts: Texts, language: str, facts: SoundFacts) -> str:
    """How long and how loud a recording is, said."""
    if facts.loudness is None:
        loudness = texts.html(language, "silent")
    else:
        loudness = texts.html(language, "lufs", value=number(facts.loudness))
    said = texts.html(language, "voice_ok", seconds=length(texts, language, facts.seconds), loudness=loudness)
    lines = [f'<p class="it-good">{said}</p>']
    if facts.loudness is None:
        lines = [f'<p class="it-warn">{texts.html(language, "silent_warning")}</p>']
    elif facts.loudness < QUIET:
        lines.append(f'<p class="it-warn">{texts.html(language, "quiet_warning")}</p>')
    lines += [f'<p class="it-warn" lang="en">{escape(note)}</p>' for note in facts.notes]
    return f'<div class="it-found" aria-live="polite">{"".join(lines)}</div>'
