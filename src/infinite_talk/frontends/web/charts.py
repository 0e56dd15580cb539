"""Charts as SVG inside the page: no library, no request, the colours of the theme, and the same in words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 560, 130
"""Units of a chart; it grows with the page."""
_LEFT, _RIGHT, _TOP, _BOTTOM = 84, 8, 10, 26
_POINTS = 600
"""Most points of a line: more than two for each pixel of a phone show nothing."""


@dataclass(frozen=True, slots=True)
class Line:
    """One track of a chart."""

    name: str
    values: Sequence[float]
    style: str
    """Its class in ``style.css``: ``sound``, ``mouth``, ``wanted``, ``drift``, ``cost``."""
    every: float
    """Seconds from one value to the next."""


def chart(
    title: str, said: str, lines: Sequence[Line], *, top: float, unit: str, seams: Sequence[float] = ()
) -> str:
    """A chart over time.

    Args:
        title: above it.
        said: what it shows, in words.
        lines: from 0 upwards; their names become the legend.
        top: value at the upper edge.
        unit: of the values.
        seams: seconds at which a window begins, as dashed lines.
    """
    length = max([len(line.values) * line.every for line in lines], default=0.0) or 1.0
    top = top or 1.0
    marks = "".join(_seam(at / length) for at in seams if 0 < at < length)
    paths = "".join(_path(line, length, top) for line in lines)
    ticks = "".join(_tick(second, second / length) for second in _seconds(length))
    levels = "".join(_level(value, value / top, unit) for value in (0.0, top / 2, top))
    legend = "".join(
        f'<span class="it-key it-line-{line.style}">{escape(line.name)}</span>' for line in lines if line.name
    )
    return (
        f'<figure class="it-chart"><figcaption><strong>{escape(title)}</strong> {legend}</figcaption>'
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(said)}">'
        f"{levels}{ticks}{marks}{paths}</svg></figure>"
    )


def bars(title: str, said: str, values: Sequence[float], *, unit: str, style: str, digits: int = 1) -> str:
    """A bar for each window, with its value as a tooltip."""
    top = max(values, default=0.0) or 1.0
    wide = (WIDTH - _LEFT - _RIGHT) / max(1, len(values))
    found = []
    for number, value in enumerate(values):
        y = _y(value / top)
        found.append(
            f'<rect class="it-bar-{style}" x="{_LEFT + number * wide + wide * 0.1:.1f}" y="{y:.1f}" '
            f'width="{wide * 0.8:.1f}" height="{HEIGHT - _BOTTOM - y:.1f}">'
            f"<title>{number + 1}: {value:.{digits}f} {escape(unit)}</title></rect>"
        )
    levels = "".join(_level(value, value / top, unit) for value in (0.0, top / 2, top))
    return (
        f'<figure class="it-chart"><figcaption><strong>{escape(title)}</strong></figcaption>'
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(said)}">'
        f"{levels}{''.join(found)}</svg></figure>"
    )


def thinned(values: Sequence[float], most: int = _POINTS) -> list[float]:
    """Means of equal parts, at most ``most``; the last part may be shorter."""
    size = max(1, -(-len(values) // most))
    parts = [values[at : at + size] for at in range(0, len(values), size)]
    return [sum(part) / len(part) for part in parts]


def _path(line: Line, length: float, top: float) -> str:
    values = thinned(line.values)
    if not values:
        return ""
    span = len(line.values) * line.every / length / len(values)
    points = " ".join(f"{_x((at + 0.5) * span):.1f},{_y(value / top):.1f}" for at, value in enumerate(values))
    return f'<polyline class="it-line-{line.style}" points="{points}"/>'


def _x(share: float) -> float:
    return _LEFT + (WIDTH - _LEFT - _RIGHT) * share


def _y(share: float) -> float:
    return HEIGHT - _BOTTOM - (HEIGHT - _TOP - _BOTTOM) * min(max(share, 0.0), 1.0)


def _seam(share: float) -> str:
    x = _x(share)
    return f'<line class="it-seam" x1="{x:.1f}" x2="{x:.1f}" y1="{_TOP}" y2="{HEIGHT - _BOTTOM}"/>'


def _tick(second: float, share: float) -> str:
    return f'<text x="{_x(share):.1f}" y="{HEIGHT - 6}" text-anchor="middle">{second:g} s</text>'


def _level(value: float, share: float, unit: str) -> str:
    y = _y(share)
    text = f"{value:.2g}" if value < 100 else f"{value:.0f}"
    return (
        f'<line class="it-grid" x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
        f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{text} {escape(unit)}</text>'
    )


def _seconds(length: float) -> list[float]:
    """Round times for the axis, at most eight."""
    for step in (0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1800, 3600):
        if length / step <= 8:
            return [
                step * number for number in range(1, int(length / step) + 1) if step * number < length * 0.98
            ]
    return []


__all__ = ["Line", "bars", "chart", "thinned"]
