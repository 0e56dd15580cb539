"""``Request``: what a person wants. Nothing in it depends on the machine; see ``settings.py`` for that.

Fields left at ``None`` take the default of the chosen model (``presets.py``); ``presets.resolve`` fills them
in before the run, and the resolved request is what the result's metadata records.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Literal


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
    """TeaCache (Liu et al., arXiv 2411.19108): skip while the time embedding has hardly moved. Approximate."""

    threshold: float = 0.2
    """Skip while the expected relative change of the answer, added up since the last computed step, is below;
    0 skips nothing. The first five steps are always computed."""
    coefficients: tuple[float, ...] | None = None
    """Polynomial from a move of the embedding to a change of the answer, highest power first; ``None``: the model's."""
    embedding: Literal["e", "e0"] = "e0"
    """Which embedding of the time ``coefficients`` are for: itself, or the modulation of the blocks made from it."""
    first: int | None = None
    """First step that may be skipped, from 0; ``None``: after the first five."""
    last: int | None = None
    """Last step that may be skipped; ``None``: the last."""
    kind: Literal["teacache"] = "teacache"
    """Tells the caches apart in JSON, as in the others."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MagCache:
    """MagCache (Ma et al., arXiv 2506.09045): skip while what the blocks do keeps its size. Approximate."""

    threshold: float = 0.12
    """Skip while the error that is expected from the ratios, added up, is below; 0 skips nothing."""
    longest: int = 2
    """Most steps skipped in a row (K in the paper)."""
    retention: float = 0.2
    """Share of the steps, from the first on, that are always computed."""
    ratios: tuple[float, ...] | None = None
    """Size of what the blocks do at a step over that at the step before, beginning with 1; ``None``: the model's."""
    shift: float | None = None
    """Shift of the schedule on which ``ratios`` were measured; ``None``: the model's, or the request's."""
    other_ratios: tuple[float, ...] | None = None
    """Ratios of the passes without the prompt; a step is skipped when both allow it. ``None``: as ``ratios``."""
    first: int | None = None
    """First step that may be skipped, from 0, instead of ``retention``."""
    last: int | None = None
    """Last step that may be skipped; ``None``: the last."""
    kind: Literal["magcache"] = "magcache"


@dataclass(frozen=True, slots=True, kw_only=True)
class EasyCache:
    """EasyCache (Zhou et al., arXiv 2507.02860): skip while the answer is expected to hold. Approximate."""

    threshold: float = 0.05
    """Skip while the expected relative change of the answer, added up, is below; 0 skips nothing."""
    retention: float = 0.2
    """Share of the steps, from the first on, that are always computed."""
    first: int | None = None
    """First step that may be skipped, from 0, instead of ``retention``."""
    last: int | None = None
    """Last step that may be skipped; ``None``: the last."""
    kind: Literal["easycache"] = "easycache"


StepCache = TeaCache | MagCache | EasyCache
"""What may leave out steps of the model. All are approximate, and off unless asked for."""


class Distilled(StrEnum):
    """Settings of LoRAs that were distilled to few steps; numbers and files are in ``presets.DISTILLED``."""

    LIGHTX2V_4STEP = "lightx2v-4step"
    LIGHTX2V_8STEP = "lightx2v-8step"
    FUSIONX_8STEP = "fusionx-8step"


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
    step_cache: StepCache | None = None
    """Leaves out steps: faster, and not the same numbers."""
    distilled: Distilled | None = None
    """Steps, shift and guidance of a LoRA for few steps, where the request does not say them itself. The LoRA has to
    be among the model's files (``with_distilled`` finds it)."""
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
