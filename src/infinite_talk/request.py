"""``Request``: what a person wants. Nothing in it depends on the machine; see ``settings.py`` for that.

Fields left at ``None`` take the default of the chosen model (``presets.py``); ``presets.resolve`` fills them
in before the run, and the resolved request is what the result's metadata records.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path


class AudioLayout(StrEnum):
    """How the recordings of several speakers lie on the time line."""

    TOGETHER = "together"
    """All recordings start at 0 (the reference calls it ``para``)."""
    IN_TURN = "in_turn"
    """Each recording starts when the one before has ended (``add``)."""


class Compat(StrEnum):
    """Which behaviour to follow where the official program has a known flaw."""

    FIXED = "fixed"
    OFFICIAL = "official"


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle in pixels of the source image, ``left <= x < right``, ``top <= y < bottom``."""

    left: float
    top: float
    right: float
    bottom: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Speaker:
    """One person who talks: a recording and, with several people, where the person is."""

    audio: Path | None
    """Any audio or video file; ``None`` is a silent person."""
    box: Box | None = None
    mask: Path | None = None
    """Image of the source's size; bright pixels belong to this person. Excludes ``box``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class APG:
    """Adaptive projected guidance (Sadat et al., 2024): momentum (-1..1), norm that clips differences."""

    momentum: float = -0.75
    norm_threshold: float = 55.0


@dataclass(frozen=True, slots=True, kw_only=True)
class TeaCache:
    """TeaCache (Liu et al., 2024), approximate. Coefficients: highest power first, ``None`` = the model's."""

    threshold: float = 0.2
    coefficients: tuple[float, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One talking video to make.

    Exactly one of ``image`` and ``video`` is given. ``video`` is dubbed: its picture drives every window.
    """

    image: Path | None = None
    video: Path | None = None
    speakers: tuple[Speaker, ...] = ()
    audio_layout: AudioLayout = AudioLayout.TOGETHER
    audio_start: float = 0.0
    """Seconds cut from the start of every recording."""
    audio_end: float | None = None
    """Seconds at which every recording is cut; ``None`` is its end."""
    prompt: str = ""
    """Prompts of successive windows are separated by ``|``; the last one holds to the end."""
    negative_prompt: str | None = None
    size: str | None = None
    """``"480"`` or ``"720"`` (official buckets), ``"WxH"`` (nearest multiples of 16 of that area and the
    source's shape), ``"WxH!"`` (exactly this)."""
    seed: int = 42
    steps: int | None = None
    shift: float | None = None
    text_guidance: float | None = None
    audio_guidance: float | None = None
    apg: APG | None = None
    step_cache: TeaCache | None = None
    window_frames: int | None = None
    """Frames per window, 4n+1."""
    motion_frames: int | None = None
    """Frames carried over from the window before, 4n+1."""
    max_frames: int | None = None
    colour_strength: float = 1.0
    """0 leaves the colours of the model, 1 moves the Lab statistics of each frame to the first frame's."""
    fps: int = 25
    scene_cuts: bool = False
    """Video only: start afresh where the source has a cut."""
    compat: Compat = Compat.FIXED
