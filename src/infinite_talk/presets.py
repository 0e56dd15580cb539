"""What each model wants when a request does not say: ``Defaults``, and ``resolve``, which fills a request with them."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, TypeVar

from infinite_talk.errors import CheckpointError, UsageError
from infinite_talk.plan.buckets import parse_size
from infinite_talk.plan.windows import check_lengths
from infinite_talk.request import Request
from infinite_talk.types import FPS

NEGATIVE_PROMPT = (
    "bright tones, overexposed, static, blurred details, subtitles, style, works, paintings, images, static, "
    "overall gray, worst quality, low quality, JPEG compression residue, ugly, incomplete, extra fingers, poorly "
    "drawn hands, poorly drawn faces, deformed, disfigured, misshapen limbs, fused fingers, still picture, messy "
    "background, three legs, many people in the background, walking backwards"
)
"""The negative prompt that the official models were tuned with, word for word."""

T = TypeVar("T")

MAX_STEPS = 1000
MAX_GUIDANCE = 100.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Defaults:
    """A model's own settings, kept beside its weights (``model.json``)."""

    size: str = "480"
    steps: int = 40
    shift: float = 7.0
    large_shift: float | None = None
    """``shift`` for size ``"720"``, where it differs: more pixels want more steps near the noise."""
    text_guidance: float = 5.0
    audio_guidance: float = 4.0
    window_frames: int = 81
    motion_frames: int = 9
    negative_prompt: str = NEGATIVE_PROMPT
    step_cache: tuple[float, ...] | None = None
    """TeaCache polynomial, highest power first; ``None``: not measured for this model."""
    large_step_cache: tuple[float, ...] | None = None
    """Likewise for size ``"720"``."""

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Defaults:
        """Read what ``to_json`` wrote; missing entries take the defaults above.

        Raises:
            CheckpointError: an entry is not known.
        """
        if unknown := sorted(set(values) - {field.name for field in fields(cls)}):
            raise CheckpointError(f"The model's defaults have unknown entries {unknown}; the file is from a newer version.")
        lists = {name: tuple(value) for name, value in values.items() if isinstance(value, list)}
        return cls(**(values | lists))

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    def step_cache_for(self, size: str | None) -> tuple[float, ...] | None:
        """TeaCache polynomial for a size."""
        return (self.large_step_cache if size == "720" else None) or self.step_cache


OFFICIAL = Defaults(
    large_shift=11.0,
    step_cache=(2.57151496e5, -3.54229917e4, 1.40286849e3, -1.35890334e1, 1.32517977e-1),
    large_step_cache=(8.10705460e3, 2.13393892e3, -3.72934672e2, 1.66203073e1, -4.17769401e-2),
)
"""Wan2.1-I2V-14B with the InfiniteTalk adapter, as its authors run it."""


def resolve(request: Request, defaults: Defaults) -> Request:
    """The request with every setting filled in from the model's ``defaults``, checked.

    Left open are only the settings for which ``None`` means something: media, trims, ``max_frames``, ``apg`` and
    ``step_cache``.

    Raises:
        UsageError: a setting is out of range; the message names the range.
    """
    size = request.size or defaults.size
    shift = (defaults.large_shift if size == "720" else None) or defaults.shift
    filled = replace(
        request,
        size=size,
        steps=_or(request.steps, defaults.steps),
        shift=_or(request.shift, shift),
        text_guidance=_or(request.text_guidance, defaults.text_guidance),
        audio_guidance=_or(request.audio_guidance, defaults.audio_guidance),
        window_frames=_or(request.window_frames, defaults.window_frames),
        motion_frames=_or(request.motion_frames, defaults.motion_frames),
        # Empty counts as not given, as in the official program: there is no useful empty negative prompt.
        negative_prompt=request.negative_prompt or defaults.negative_prompt,
    )
    _check(filled)
    return filled


def given(value: T | None) -> T:
    """A setting of a resolved request, for the type checker's sake."""
    assert value is not None, "resolve the request first"
    return value


def _or(value: T | None, default: T) -> T:
    return default if value is None else value


def _check(request: Request) -> None:
    """Refuse numbers that have no meaning, in the words of the person who set them."""
    if (request.image is None) == (request.video is None):
        raise UsageError("Give either an image or a video to speak, exactly one of them.")
    if not request.speakers:
        raise UsageError("Nobody speaks: give at least one audio file.")
    if request.fps != FPS:
        raise UsageError(f"The model makes {FPS} frames per second; {request.fps} was asked for.")
    parse_size(given(request.size))
    check_lengths(given(request.window_frames), given(request.motion_frames))
    _within("steps", given(request.steps), 1, MAX_STEPS)
    _within("shift", given(request.shift), 0.01, 1000)
    _within("text guidance", given(request.text_guidance), 0, MAX_GUIDANCE)
    _within("audio guidance", given(request.audio_guidance), 0, MAX_GUIDANCE)
    _within("colour strength", request.colour_strength, 0, 1)
    if request.max_frames is not None:
        _within("max frames", request.max_frames, 1, math.inf)
    if request.apg is not None:
        _within("APG momentum", request.apg.momentum, -1, 1)
        _within("APG norm threshold", request.apg.norm_threshold, 1e-6, math.inf)
    if request.step_cache is not None:
        _within("step cache threshold", request.step_cache.threshold, 0, math.inf)


def _within(name: str, value: float, low: float, high: float) -> None:
    if not (math.isfinite(value) and low <= value <= high):
        limit = f"from {low:g} to {high:g}" if math.isfinite(high) else f"at least {low:g}"
        raise UsageError(f"{name[0].upper()}{name[1:]} must be {limit}; came {value:g}.")
