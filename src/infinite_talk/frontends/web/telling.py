"""Errors, times and sizes as sentences in the visitor's language. Everything that comes from outside is escaped."""

from __future__ import annotations

from html import escape

from infinite_talk import InfiniteTalkError
from infinite_talk.frontends.web.texts import Texts


def error_text(texts: Texts, language: str, code: str, message: str) -> str:
    """What went wrong and what to do, as HTML.

    In English it is the error's own message. In Chinese it is the sentence for the code, and the message, which has
    the numbers, below; or the message alone where the code has no sentence.
    """
    key = f"error_{code}"
    if not texts.has(key):
        return texts.html(language, "error_unknown", message=message)
    said = texts.html(language, key, message=message)
    if language == "en" or escape(message) in said:
        return said
    return f'{said}<details lang="en" class="it-dim"><summary>English</summary>{escape(message)}</details>'


def alert(html: str) -> str:
    """An error where it belongs on the page; read out at once by screen readers."""
    return f'<div class="it-found"><div class="it-bad" role="alert">{html}</div></div>'


def told(texts: Texts, language: str, error: InfiniteTalkError) -> str:
    """One of our errors as an alert."""
    return alert(error_text(texts, language, error.code, error.message))


def duration(texts: Texts, language: str, seconds: float) -> str:
    """``"8 s"``, ``"12 min"``, ``"3 h 5 min"``; rounded up, so that a promise is kept."""
    whole = max(1, -int(-seconds // 1))
    if whole < 90:
        return texts.say(language, "seconds", value=whole)
    minutes = -(-whole // 60)
    if minutes < 90:
        return texts.say(language, "minutes", value=minutes)
    return texts.say(language, "hours", hours=minutes // 60, minutes=minutes % 60)


def length(texts: Texts, language: str, seconds: float) -> str:
    """How long something plays: ``"4.2 s"``, ``"40 min 12 s"``."""
    if seconds < 90:
        return texts.say(language, "seconds", value=number(seconds))
    minutes, rest = divmod(round(seconds), 60)
    return texts.say(language, "minutes_seconds", minutes=minutes, seconds=rest)


def amount(count: float) -> str:
    """``"850 MB"``, ``"12.3 GB"``."""
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"


def number(value: float) -> str:
    """At most one decimal."""
    return f"{value:.1f}".removesuffix(".0")
