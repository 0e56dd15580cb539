"""Which language a visitor reads: what they chose, else what their browser asks for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

COOKIE = "infinite_talk_language"
"""Set by ``page.js``, so that the server answers in the language that the page shows."""


class Asking(Protocol):
    """The part of a web request that tells."""

    @property
    def cookies(self) -> Mapping[str, str]: ...
    @property
    def headers(self) -> Any: ...  # noqa: ANN401 - any mapping


def language_of(request: Asking | None) -> str:
    """``"en"`` or ``"zh"``."""
    if request is None:
        return "en"
    chosen = request.cookies.get(COOKIE, "")
    if chosen in ("en", "zh"):
        return str(chosen)
    return preferred(str(request.headers.get("accept-language", "")))


def preferred(header: str) -> str:
    """The better one of our languages for an ``Accept-Language`` header (RFC 9110, 12.5.4).

    Entries without a readable weight count as 1; of equal weights the first one wins.
    """
    weights: dict[str, float] = {}
    for part in header.split(","):
        tag, _, parameter = part.strip().partition(";")
        language = tag.strip().lower().split("-")[0]
        if language in ("en", "zh"):
            weights.setdefault(language, _weight(parameter))
    return max(weights, key=lambda language: weights[language]) if any(weights.values()) else "en"


def _weight(parameter: str) -> float:
    name, _, value = parameter.strip().partition("=")
    try:
        return min(1.0, max(0.0, float(value))) if name.strip().lower() == "q" else 1.0
    except ValueError:
        return 1.0
