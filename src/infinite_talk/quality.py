"""``Quality``: how one finished video turned out: mouth and sound, seams, colours, time and memory of its windows."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from infinite_talk.engine import window_seams
from infinite_talk.lipsync import measure, shortcomings
from infinite_talk.lipsync.film import pictures
from infinite_talk.media.colour import lab_of_rgb
from infinite_talk.media.recipe import sidecar_of

EVERY: Final = 5
"""Frames from one look at the colours to the next: five looks a second."""
_SIDE = 128
"""Pixels of the longer side of a picture whose colours are measured; a mean needs no more."""
AGREEMENT: Final = 0.6
"""Below this the mouth reader, which was taught on drawn faces, is not to be believed (``lipsync.Limits``)."""


@dataclass(frozen=True, slots=True)
class WindowCost:
    """What making one window took."""

    start: int | None  # its first frame in the video; None: not told
    seconds: float
    memory: int | None  # bytes at the worst moment


@dataclass(frozen=True, slots=True)
class Quality:
    """Tracks have one value for each frame at 25 per second."""

    frames: int
    loudness: tuple[float, ...]  # 0..1
    opening: tuple[float, ...]  # of the mouth, in picture heights
    expected: tuple[float, ...]  # opening that the speech asks for; empty without sound
    r: float | None  # of opening and loudness, at the best lag; None without sound
    lag: int | None  # frames that the mouth comes after the sound
    speech_r: float | None  # of opening and what the speech asks for
    speech_lag: int | None
    agreement: float  # of two ways to see the mouth
    seams: tuple[int, ...]  # first frames of the windows after the first
    colours: tuple[tuple[float, float, float], ...]  # Lab mean, every ``EVERY`` frames
    windows: tuple[WindowCost, ...]  # empty where nothing tells
    sentence: str
    shortcomings: tuple[str, ...]

    @property
    def believable(self) -> bool:
        """Whether the mouth could be read in this kind of picture."""
        return self.agreement >= AGREEMENT

    @property
    def drift(self) -> tuple[float, ...]:
        """Distance of the mean colour from that of the first picture, CIE 1976 delta E, every ``EVERY`` frames."""
        if not self.colours:
            return ()
        first = self.colours[0]
        return tuple(float(np.linalg.norm(np.subtract(one, first))) for one in self.colours)


def measure_quality(video: Path) -> Quality:
    """Measure a finished video; takes about as long as it lasts.

    Raises:
        InputError: it cannot be read, or is shorter than 10 frames.
    """
    told = _told(video)
    seams = window_seams(video) or _starts(told)
    report = measure(video, seams=seams)
    sound, speech = report.with_sound, report.with_speech
    return Quality(
        frames=report.frames,
        loudness=_track(report.loudness),
        opening=_track(report.mouth.opening),
        expected=() if report.speech is None else _track(report.speech),
        r=None if sound is None else round(sound.r_at_lag, 4),
        lag=None if sound is None else sound.lag,
        speech_r=None if speech is None else round(speech.r_at_lag, 4),
        speech_lag=None if speech is None else speech.lag,
        agreement=round(report.agreement, 4),
        seams=report.seams,
        colours=mean_colours(video),
        windows=_windows(told),
        sentence=report.sentence(),
        shortcomings=tuple(shortcomings(report)),
    )


def mean_colours(video: Path) -> tuple[tuple[float, float, float], ...]:
    """Mean of CIE Lab (D65) of every ``EVERY``-th picture: lightness 0..100, then green to red, blue to yellow."""
    found = []
    for number, picture in enumerate(pictures(video)):
        if number % EVERY == 0:
            step = max(1, max(picture.shape[:2]) // _SIDE)
            pixels = torch.from_numpy(picture[::step, ::step].copy()).permute(2, 0, 1).float() / 255
            lightness, red, yellow = lab_of_rgb(pixels).mean(dim=(1, 2)).tolist()
            found.append((round(lightness, 3), round(red, 3), round(yellow, 3)))
    return tuple(found)


def _track(values: NDArray[np.float32]) -> tuple[float, ...]:
    return tuple(np.round(values.astype(np.float64), 4).tolist())


def _told(video: Path) -> Sequence[Mapping[str, Any]]:
    """Windows in the JSON file beside the video; none where there is no such file, or it is somebody else's."""
    try:
        told = json.loads(sidecar_of(video).read_bytes())["windows"]
    except (OSError, ValueError, LookupError, TypeError):
        return ()
    return [one for one in told if isinstance(one, dict)] if isinstance(told, list) else ()


def _starts(told: Sequence[Mapping[str, Any]]) -> tuple[int, ...]:
    starts = [one.get("start") for one in told]
    return tuple(start for start in starts if isinstance(start, int) and start > 0)


def _windows(told: Sequence[Mapping[str, Any]]) -> tuple[WindowCost, ...]:
    found = []
    for one in told:
        start, seconds, memory = (one.get(name) for name in ("start", "seconds", "memory"))
        if isinstance(seconds, (int, float)):
            place = start if isinstance(start, int) else None
            found.append(WindowCost(place, float(seconds), memory if isinstance(memory, int) else None))
    return tuple(found)


__all__ = ["Quality", "WindowCost", "measure_quality"]
