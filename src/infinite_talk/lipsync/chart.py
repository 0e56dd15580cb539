"""A chart of one video: loudness above, mouth opening below, the seams between windows across both."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image, ImageDraw, ImageFont

from infinite_talk.types import FPS

_INK, _FAINT, _GRID, _PAPER = "#22262e", "#7a828f", "#e3e6eb", "#ffffff"
_SOUND, _SOUND_FILL = "#3d6fb6", "#cfdef2"
_MOUTH, _MOUTH_FILL = "#cf4a4a", "#f6d9d6"
_TRUTH, _SEAM = "#2b2f38", "#9aa1ad"
_FINE = 2  # drawn this much larger, then reduced: smooth lines without a plotting library
_WIDTH, _HEIGHT = 1200, 520
_LEFT, _RIGHT = 76, 28


@dataclass(frozen=True, slots=True)
class _Panel:
    """A plotting area in pixels of the enlarged canvas, for values 0 .. ``top`` over ``frames`` frames."""

    left: int
    right: int
    upper: int
    lower: int
    frames: int
    top: float

    def x(self, frame: float) -> float:
        return self.left + (self.right - self.left) * frame / max(1, self.frames - 1)

    def y(self, value: float) -> float:
        return self.lower - (self.lower - self.upper) * min(max(value / self.top, 0.0), 1.0)

    def points(self, track: NDArray[np.float64]) -> list[tuple[float, float]]:
        """The track as a line; long tracks are averaged to about one point per two pixels."""
        size = max(1, len(track) * 2 // (self.right - self.left))
        count = len(track) // size
        means = track[: count * size].reshape(count, size).mean(1)
        return [(self.x(i * size + (size - 1) / 2), self.y(float(v))) for i, v in enumerate(means)]


def _font(size: int) -> ImageFont.ImageFont | ImageFont.FreeTypeFont:
    return ImageFont.load_default(size * _FINE)


def _text(
    draw: ImageDraw.ImageDraw, x: float, y: float, words: str, size: int, ink: str, anchor: str
) -> None:
    draw.text((x, y), words, fill=ink, font=_font(size), anchor=anchor)


def _curve(draw: ImageDraw.ImageDraw, panel: _Panel, track: NDArray[np.float64], ink: str, fill: str) -> None:
    line = panel.points(track)
    if len(line) > 1:
        draw.polygon([(line[0][0], panel.lower), *line, (line[-1][0], panel.lower)], fill=fill)
        draw.line(line, fill=ink, width=2 * _FINE, joint="curve")


def _tick_seconds(seconds: float) -> float:
    """A round spacing that gives at most a dozen ticks."""
    for step in (0.2, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600):
        if seconds / step <= 12:
            return step
    return 1800.0


def _frame_panel(
    draw: ImageDraw.ImageDraw, panel: _Panel, name: str, marks: Sequence[tuple[float, str]]
) -> None:
    for value, label in marks:
        y = panel.y(value)
        draw.line([(panel.left, y), (panel.right, y)], fill=_GRID, width=_FINE)
        _text(draw, panel.left - 8 * _FINE, y, label, 12, _FAINT, "rm")
    _text(draw, panel.left, panel.upper - 8 * _FINE, name, 14, _INK, "lb")


def _time_axis(draw: ImageDraw.ImageDraw, panel: _Panel) -> None:
    seconds = panel.frames / FPS
    step = _tick_seconds(seconds)
    for i in range(int(seconds / step) + 1):
        x = panel.x(i * step * FPS)
        if x > panel.right:
            break
        draw.line([(x, panel.lower), (x, panel.lower + 5 * _FINE)], fill=_FAINT, width=_FINE)
        last = x > panel.right - 40 * _FINE
        _text(draw, x, panel.lower + 9 * _FINE, f"{i * step:g} s", 12, _FAINT, "rt" if last else "mt")


def _seams(draw: ImageDraw.ImageDraw, panels: Sequence[_Panel], seams: Sequence[int]) -> None:
    for seam in seams:
        for panel in panels:
            x = panel.x(seam - 0.5)
            for y in range(panel.upper, panel.lower, 8 * _FINE):
                draw.line([(x, y), (x, min(y + 4 * _FINE, panel.lower))], fill=_SEAM, width=_FINE)


def _legend(draw: ImageDraw.ImageDraw, y: int, right: int, entries: Sequence[tuple[str, str]]) -> None:
    x = float(right)
    for name, ink in reversed(entries):
        width = draw.textlength(name, font=_font(12))
        _text(draw, x, y, name, 12, _FAINT, "rm")
        draw.line([(x - width - 26 * _FINE, y), (x - width - 8 * _FINE, y)], fill=ink, width=3 * _FINE)
        x -= width + 44 * _FINE


def draw_chart(
    path: Path,
    *,
    title: str,
    figures: str,
    loudness: ArrayLike,
    opening: ArrayLike,
    reference: ArrayLike | None = None,
    reference_name: str = "expected",
    seams: Sequence[int] = (),
) -> None:
    """Write a PNG of 1200 x 520 pixels.

    Args:
        title: first line, usually the file's name.
        figures: second line, the numbers in words.
        loudness: (F,) as `loudness.envelope` gives it, at 25 per second.
        opening: (F,) mouth opening in picture heights.
        reference: (F,) what the opening should be, scaled here to the opening's mean and deviation.
        reference_name: of that line in the legend.
        seams: first frames of windows after the first.
    """
    sound, mouth = np.asarray(loudness, np.float64), np.asarray(opening, np.float64)
    top = max(0.10, float(mouth.max(initial=0.0)) * 1.1)
    left, right = _LEFT * _FINE, (_WIDTH - _RIGHT) * _FINE
    upper = _Panel(left, right, 118 * _FINE, 250 * _FINE, len(sound), 1.15)
    lower = _Panel(left, right, 292 * _FINE, 470 * _FINE, len(mouth), top)
    picture = Image.new("RGB", (_WIDTH * _FINE, _HEIGHT * _FINE), _PAPER)
    draw = ImageDraw.Draw(picture)
    _text(draw, left, 22 * _FINE, title, 20, _INK, "lt")
    _text(draw, left, 52 * _FINE, figures, 14, _FAINT, "lt")
    _frame_panel(draw, upper, "Loudness", [(0.0, "quiet"), (0.5, "-20 dB"), (1.0, "0 dB")])
    marks = [(0.05 * i, f"{5 * i} %") for i in range(int(top / 0.05) + 1)]
    _frame_panel(draw, lower, "Mouth opening, share of the picture's height", marks)
    _curve(draw, upper, sound, _SOUND, _SOUND_FILL)
    _curve(draw, lower, mouth, _MOUTH, _MOUTH_FILL)
    entries = [("loudness", _SOUND), ("mouth", _MOUTH)]
    if reference is not None:
        draw.line(lower.points(_matched(reference, mouth)), fill=_TRUTH, width=_FINE, joint="curve")
        entries.append((reference_name, _TRUTH))
    _seams(draw, (upper, lower), seams)
    if seams:
        entries.append(("window seam", _SEAM))
    _legend(draw, 96 * _FINE, right, entries)
    for panel in (upper, lower):
        draw.line([(left, panel.lower), (right, panel.lower)], fill=_FAINT, width=_FINE)
    _time_axis(draw, lower)
    picture.resize((_WIDTH, _HEIGHT), Image.Resampling.LANCZOS).save(path, format="PNG", optimize=True)


def _matched(reference: ArrayLike, mouth: NDArray[np.float64]) -> NDArray[np.float64]:
    """The reference brought to the mouth's mean and deviation, so that shapes can be compared by eye."""
    values = np.asarray(reference, np.float64)
    if values.std() < 1e-9:
        return np.full_like(values, float(mouth.mean()))
    scaled = (values - values.mean()) / values.std() * mouth.std() + mouth.mean()
    return np.asarray(np.clip(scaled, 0.0, None), np.float64)


__all__ = ["draw_chart"]
