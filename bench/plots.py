"""Small line plots as SVG text, the same bytes for the same numbers."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 640, 380
LEFT, RIGHT, TOP, BOTTOM = 56, 16, 34, 46
COLOURS = ("#2563eb", "#dc2626", "#059669", "#9333ea", "#d97706", "#0891b2", "#be185d", "#4b5563")


@dataclass(frozen=True, slots=True)
class Line:
    """One series."""

    name: str
    at: Sequence[tuple[float, float]]
    points: bool = False
    """Dots instead of a line."""
    joined: bool = False
    """Dots on a line."""


def plot(title: str, across: str, up: str, lines: Sequence[Line]) -> str:
    """The whole picture; both axes begin at zero."""
    most = [max((one[axis] for line in lines for one in line.at), default=1.0) for axis in (0, 1)]
    ticks = [_ticks(value) for value in most]
    ends = [one[-1] for one in ticks]

    def place(at: tuple[float, float]) -> tuple[float, float]:
        x = LEFT + at[0] / ends[0] * (WIDTH - LEFT - RIGHT)
        y = HEIGHT - BOTTOM - at[1] / ends[1] * (HEIGHT - TOP - BOTTOM)
        return round(x, 1), round(y, 1)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" '
        'font-size="12">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>',
        _text(LEFT, 20, title, size=14),
    ]
    for value in ticks[0]:
        x, y = place((value, 0))
        parts += [_rule(x, TOP, x, y), _text(x, y + 16, f"{value:g}", anchor="middle")]
    for value in ticks[1]:
        x, y = place((0, value))
        parts += [_rule(x, y, WIDTH - RIGHT, y), _text(x - 6, y + 4, f"{value:g}", anchor="end")]
    parts.append(_text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 10, across, anchor="middle"))
    middle = (TOP + HEIGHT - BOTTOM) / 2
    parts.append(f'<g transform="rotate(-90 14 {middle:g})">{_text(14, middle, up, anchor="middle")}</g>')
    for number, line in enumerate(lines):
        parts += _series(line, COLOURS[number % len(COLOURS)], [place(one) for one in line.at], number)
    return "\n".join([*parts, "</svg>"]) + "\n"


def _series(line: Line, colour: str, at: Sequence[tuple[float, float]], number: int) -> Iterator[str]:
    if not line.points:
        said = " ".join(f"{x:g},{y:g}" for x, y in at)
        yield f'<polyline points="{said}" fill="none" stroke="{colour}" stroke-width="1.6"/>'
    if line.points or line.joined:
        for x, y in at:
            yield f'<circle cx="{x:g}" cy="{y:g}" r="3.5" fill="{colour}"/>'
    y = TOP + 14 + 16 * number
    yield f'<rect x="{LEFT + 10}" y="{y - 8}" width="10" height="10" fill="{colour}"/>'
    yield _text(LEFT + 26, y + 1, line.name)


def _ticks(most: float) -> list[float]:
    """Round numbers from 0 to ``most`` or a little beyond, four to eight of them."""
    power = 10.0 ** math.floor(math.log10(most / 5)) if most > 0 else 1.0
    step = next(power * unit for unit in (1, 2, 5, 10) if power * unit * 7 >= most)
    return [round(step * i, 10) for i in range(math.ceil(most / step - 1e-9) + 1)]


def _rule(x1: float, y1: float, x2: float, y2: float) -> str:
    return f'<line x1="{x1:g}" y1="{y1:g}" x2="{x2:g}" y2="{y2:g}" stroke="#e5e7eb"/>'


def _text(x: float, y: float, says: str, *, anchor: str = "start", size: int = 12) -> str:
    return f'<text x="{x:g}" y="{y:g}" text-anchor="{anchor}" font-size="{size}">{escape(says)}</text>'
