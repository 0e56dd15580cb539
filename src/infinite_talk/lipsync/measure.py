"""Measures how the mouth of a finished video follows its sound: the work behind ``infinite-talk lipsync``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import soxr
import torch
from numpy.typing import ArrayLike, NDArray

from infinite_talk.errors import InputError
from infinite_talk.lipsync.activity import ActivityMeter, mouth_activity
from infinite_talk.lipsync.chart import draw_chart
from infinite_talk.lipsync.loudness import FLOOR_DB, envelope, loudness_db, silence
from infinite_talk.lipsync.reader import MouthReader, MouthTrack, load_reader, read_mouth
from infinite_talk.lipsync.scores import Score, closed_share, pearson, score
from infinite_talk.lipsync.voice import RATE, Listener, expected_opening
from infinite_talk.types import FPS

_TOGETHER = 32  # frames read at once
_TOO_SHORT = 10  # frames; a correlation over fewer says nothing


@dataclass(frozen=True, slots=True)
class LipsyncReport:
    """What was measured; tracks have one value per frame at 25 per second."""

    mouth: MouthTrack
    activity: NDArray[np.float32]  # reader-free measure, 0..1
    loudness: NDArray[np.float32]  # 0..1
    silent: NDArray[np.bool_]
    with_sound: Score | None  # opening against loudness; None without sound
    activity_with_sound: Score | None
    with_truth: Score | None  # opening against the supplied track
    agreement: float  # r of the reader's opening and the reader-free measure
    closed_in_silence: float | None  # share of silent frames with a closed mouth; None without silence
    seams: tuple[int, ...] = ()
    truth: NDArray[np.float32] | None = None
    with_speech: Score | None = None  # opening against what the sound says; None without sound or with truth
    speech: NDArray[np.float32] | None = None  # that opening, in picture heights
    notes: tuple[str, ...] = ()

    @property
    def frames(self) -> int:
        return len(self.mouth.opening)

    def summary(self) -> dict[str, Any]:
        """Plain numbers for JSON."""
        return {
            "frames": self.frames,
            "seconds": round(self.frames / FPS, 3),
            "opening_mean": round(float(self.mouth.opening.mean()), 5),
            "opening_deviation": round(float(self.mouth.opening.std()), 5),
            "loudness": _numbers(self.with_sound, amplitude=False),
            "activity_loudness": _numbers(self.activity_with_sound, amplitude=False),
            "truth": _numbers(self.with_truth, amplitude=True),
            "speech": _numbers(self.with_speech, amplitude=True),
            "agreement": round(self.agreement, 4),
            "closed_in_silence": None if self.closed_in_silence is None else round(self.closed_in_silence, 4),
            "silent_frames": int(self.silent.sum()),
            "seams": list(self.seams),
            "notes": list(self.notes),
        }

    def sentence(self) -> str:
        """The headline numbers in one line."""
        parts = []
        if self.with_truth:
            t = self.with_truth
            parts.append(f"r {t.r:.2f} with the expected mouth, lag {t.lag:+d}, amplitude {t.amplitude:.2f}")
        if self.with_speech:
            s = self.with_speech
            parts.append(f"r {s.r:.2f} against the speech, lag {s.lag:+d}, amplitude {s.amplitude:.2f}")
        if self.with_sound:
            parts.append(f"r {self.with_sound.r:.2f} with loudness, lag {self.with_sound.lag:+d} frames")
        if self.closed_in_silence is not None:
            parts.append(f"closed in {self.closed_in_silence:.0%} of the silence")
        return "; ".join(parts) or "no sound to compare with"


def _numbers(value: Score | None, *, amplitude: bool) -> dict[str, float | int] | None:
    if value is None:
        return None
    numbers = {name: round(number, 4) for name, number in asdict(value).items()}
    return numbers if amplitude else {name: n for name, n in numbers.items() if name != "amplitude"}


@dataclass(slots=True)
class _Reading:
    """Collects what the frames say, a few frames at a time, so that long videos need little memory."""

    reader: MouthReader
    meter: ActivityMeter = field(default_factory=ActivityMeter)
    waiting: list[NDArray[np.uint8]] = field(default_factory=list)
    tracks: list[MouthTrack] = field(default_factory=list)

    def add(self, picture: NDArray[np.uint8]) -> None:
        self.waiting.append(picture)
        if len(self.waiting) == _TOGETHER:
            self.flush()

    def flush(self) -> None:
        if self.waiting:
            frames = torch.from_numpy(np.stack(self.waiting))
            self.tracks.append(read_mouth(frames, self.reader))
            self.meter.add(frames)
            self.waiting.clear()

    def result(self) -> tuple[MouthTrack, NDArray[np.float32]]:
        self.flush()
        joined = (
            np.concatenate([getattr(track, name) for track in self.tracks] or [np.zeros(0, np.float32)])
            for name in ("opening", "width", "rounding")
        )
        return MouthTrack(*joined), mouth_activity(self.meter)


def measure(
    video: Path,
    *,
    truth: ArrayLike | None = None,
    seams: Sequence[int] = (),
    chart: Path | None = None,
    reader: MouthReader | None = None,
    listener: Listener | None = None,
) -> LipsyncReport:
    """Read the mouth of a drawn portrait in a video and compare it with the video's own sound.

    The sound counts twice: how loud it is, and, where no better track is given, which opening the speech in
    it asks for (see `voice.expected_opening`).

    Args:
        truth: (F,) expected opening at 25 per second, in any unit; the shorter of both decides.
        seams: first frames of windows after the first, for the chart.
        chart: where to write a PNG.
        reader, listener: to load them once for many videos.

    Raises:
        InputError: the file cannot be read (see `film.pictures`) or has fewer than 10 frames
            (``video_too_short``).
    """
    # Tracks and tensors are scored without a media library; only a file needs one.
    from infinite_talk.lipsync.film import pictures, sound

    reading = _Reading(reader or load_reader())
    for picture in pictures(video):
        reading.add(picture)
    mouth, activity = reading.result()
    frames = len(mouth.opening)
    if frames < _TOO_SHORT:
        raise InputError(
            f"{video.name!r} has {frames} frames; at least {_TOO_SHORT} are needed.", code="video_too_short"
        )
    heard = sound(video)
    level = loudness_db(*heard, frames) if heard else np.full(frames, FLOOR_DB, np.float32)
    speech = None
    if heard and truth is None and _audible(level):
        speech = expected_opening(_at_16_khz(*heard), frames, listener)
    report = compare(mouth, activity, level, heard=heard is not None, truth=truth, speech=speech, seams=seams)
    if chart is not None:
        draw_chart(
            chart,
            title=video.name,
            figures=report.sentence(),
            loudness=report.loudness,
            opening=report.mouth.opening,
            reference=report.speech if report.truth is None else report.truth,
            reference_name="expected from the speech" if report.truth is None else "expected",
            seams=report.seams,
        )
    return report


def _at_16_khz(samples: NDArray[np.float32], rate: int) -> NDArray[np.float32]:
    """A recording (S,) at the rate that the speech encoder hears."""
    return np.asarray(samples if rate == RATE else soxr.resample(samples, rate, RATE), np.float32)


def _audible(level_db: NDArray[np.float32]) -> bool:
    return bool((level_db > FLOOR_DB).any())


def compare(
    mouth: MouthTrack,
    activity: NDArray[np.float32],
    level_db: NDArray[np.float32],
    *,
    heard: bool = True,
    truth: ArrayLike | None = None,
    speech: NDArray[np.float32] | None = None,
    seams: Sequence[int] = (),
) -> LipsyncReport:
    """The report of tracks that were read already.

    Args:
        level_db: as `loudness.loudness_db` gives it.
        speech: as `voice.expected_opening` gives it, one value per frame.
    """
    loud, silent = envelope(level_db), silence(level_db)
    expected, notes = _fit(truth, len(mouth.opening))
    has_sound = heard and _audible(level_db)
    return LipsyncReport(
        mouth=mouth,
        activity=activity,
        loudness=loud,
        silent=silent,
        with_sound=score(mouth.opening, loud) if has_sound else None,
        activity_with_sound=score(activity, loud) if has_sound else None,
        with_truth=None if expected is None else score(mouth.opening[: len(expected)], expected),
        agreement=pearson(mouth.opening, activity),
        closed_in_silence=closed_share(mouth.opening, silent) if heard else None,
        seams=tuple(seam for seam in seams if 0 < seam < len(mouth.opening)),
        truth=expected,
        with_speech=None if speech is None else score(mouth.opening, speech),
        speech=speech,
        notes=notes if heard else (*notes, "the video has no sound"),
    )


def _fit(truth: ArrayLike | None, frames: int) -> tuple[NDArray[np.float32] | None, tuple[str, ...]]:
    if truth is None:
        return None, ()
    track = np.asarray(truth, np.float32).reshape(-1)
    if len(track) == frames:
        return track, ()
    common = min(len(track), frames)
    note = f"the expected track has {len(track)} frames, the video {frames}; the first {common} count"
    return track[:frames], (note,)


@dataclass(frozen=True, slots=True)
class Limits:
    """What a video has to reach: a frozen mouth, another recording's mouth and shifted sound do not."""

    r: float = 0.4  # with the expected opening
    lag: int = 1  # frames to either side
    amplitude: tuple[float, float] = (0.5, 1.6)
    # The estimate follows true mouths with r = 0.78 at least on held-out voices, and the mouths of other
    # recordings with 0.1: a mouth that reaches 0.7 says these words.
    speech_r: float = 0.7
    speech_lag: int = 1
    speech_amplitude: tuple[float, float] = (0.5, 1.5)
    # Loudness alone follows true mouths with r = 0.55 .. 0.8 at lag 0. One in fifteen mouths of other sounds
    # reaches 0.4 within two frames by chance.
    loudness_r: float = 0.4
    loudness_lag: tuple[int, int] = (-2, 2)
    deviation: float = 0.012  # of the opening: a mouth that moves at all
    agreement: float = 0.6
    closed: float = 0.7


def shortcomings(report: LipsyncReport, limits: Limits | None = None) -> list[str]:
    """Why a video does not pass, one sentence each; empty when it does."""
    limits = limits or Limits()
    found: list[str] = []

    def require(passed: bool, words: str) -> None:
        if not passed:
            found.append(words)

    deviation = float(report.mouth.opening.std())
    require(deviation >= limits.deviation, f"the mouth hardly moves: deviation {deviation:.4f}")
    if report.with_truth:
        t = report.with_truth
        low, high = limits.amplitude
        require(t.r >= limits.r, f"r {t.r:.2f} with the expected mouth is under {limits.r}")
        require(abs(t.lag) <= limits.lag, f"the mouth is {t.lag:+d} frames off the expected one")
        require(low <= t.amplitude <= high, f"the amplitude is {t.amplitude:.2f} of the expected one")
    if report.with_speech:
        v = report.with_speech
        low, high = limits.speech_amplitude
        require(v.r >= limits.speech_r, f"r {v.r:.2f} against the speech is under {limits.speech_r}")
        require(abs(v.lag) <= limits.speech_lag, f"the mouth is {v.lag:+d} frames off the speech")
        require(low <= v.amplitude <= high, f"the amplitude is {v.amplitude:.2f} of what the speech asks for")
    if report.with_sound:
        s = report.with_sound
        first, last = limits.loudness_lag
        require(
            s.r_at_lag >= limits.loudness_r, f"r {s.r_at_lag:.2f} with loudness is under {limits.loudness_r}"
        )
        require(first <= s.lag <= last, f"the mouth is {s.lag:+d} frames off the loudness")
    require(report.agreement >= limits.agreement, f"the two measures disagree: r {report.agreement:.2f}")
    if report.closed_in_silence is not None and int(report.silent.sum()) >= 5:
        share = report.closed_in_silence
        require(share >= limits.closed, f"the mouth is closed in only {share:.0%} of the silence")
    return found


__all__ = ["Limits", "LipsyncReport", "compare", "measure", "shortcomings"]
