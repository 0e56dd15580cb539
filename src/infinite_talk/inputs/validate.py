"""Checks of a request's numbers and words, before any file is opened."""

from __future__ import annotations

from typing import Final

from infinite_talk.errors import InputError, UsageError
from infinite_talk.plan.buckets import parse_size
from infinite_talk.plan.windows import check_lengths
from infinite_talk.request import Box, Distilled, EasyCache, MagCache, Request, Speaker, StepCache, TeaCache
from infinite_talk.types import FPS

MAX_PROMPT = 32_000
"""Characters of the prompt and of the negative prompt."""
MAX_PEOPLE = 8
MAX_SECONDS = 1e6
MAX_FRAMES = 10_000_000
MAX_SEED = 2**63 - 1

_WHOLE: Final = {
    "seed": (0, MAX_SEED),
    "steps": (1, 1000),
    "window_frames": (5, 1025),
    "motion_frames": (1, 1021),
    "max_frames": (1, MAX_FRAMES),
}
_REAL: Final = {
    "shift": (0.01, 100.0),
    "text_guidance": (0.0, 30.0),
    "audio_guidance": (0.0, 30.0),
    "colour_strength": (0.0, 1.0),
    "audio_start": (0.0, MAX_SECONDS),
    "audio_end": (0.0, MAX_SECONDS),
}


def validate(request: Request) -> None:
    """Refuse a request that has no meaning, whatever its files hold.

    Raises:
        UsageError: a number out of its range (the message names it) or options that exclude each other.
        InputError: a prompt that cannot be used.
    """
    for name, (low, high) in _WHOLE.items():
        _check_number(name, getattr(request, name), low, high, whole=True)
    for name, (lowest, highest) in _REAL.items():
        _check_number(name, getattr(request, name), lowest, highest, whole=False)
    _check_number("fps", request.fps, 1, 1000, whole=True)
    if request.fps != FPS:
        raise UsageError(f"The model makes {FPS} frames per second; fps={request.fps} cannot be made.")
    _check_windows(request)
    if request.size is not None:
        parse_size(request.size)
    if request.audio_end is not None and request.audio_end <= request.audio_start:
        raise UsageError(
            f"audio_end={request.audio_end:g} s must lie after audio_start={request.audio_start:g} s."
        )
    if request.apg is not None:
        _check_number("apg.momentum", request.apg.momentum, -1.0, 1.0, whole=False)
        _check_number("apg.norm_threshold", request.apg.norm_threshold, 0.0, 1e6, whole=False)
    if request.step_cache is not None:
        _check_step_cache(request.step_cache)
    if request.distilled is not None and request.distilled not in set(Distilled):
        known = ", ".join(Distilled)
        raise UsageError(f"distilled={request.distilled!r} is not known; it must be one of {known}.")
    _check_sources(request)
    check_text(request.prompt, "prompt")
    if request.negative_prompt is not None:
        check_text(request.negative_prompt, "negative_prompt")


def check_text(text: str, name: str) -> None:
    """Refuse text that no tokenizer or file can hold; everything else is kept unchanged.

    Raises:
        InputError: ``prompt_too_long`` or ``prompt_invalid``.
    """
    if not isinstance(text, str):
        raise UsageError(f"{name} must be text; came {type(text).__name__}.")
    if len(text) > MAX_PROMPT:
        raise InputError(
            f"The {name} has {len(text)} characters; at most {MAX_PROMPT} are accepted.",
            code="prompt_too_long",
        )
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InputError(
            f"The {name} is no valid Unicode (character {error.start + 1} is half of a surrogate pair).",
            code="prompt_invalid",
        ) from error
    if "\0" in text:
        raise InputError(f"The {name} contains a NUL character; remove it.", code="prompt_invalid")


def prompts_of(text: str) -> tuple[str, ...]:
    """The prompts of successive windows in ``a | b | c``; the last one holds to the end. At least one."""
    return tuple(part.strip() for part in text.split("|"))


def _check_number(name: str, value: object, low: float, high: float, *, whole: bool) -> None:
    if value is None:
        return
    kinds = (int,) if whole else (int, float)
    kind = "a whole number" if whole else "a number"
    if not isinstance(value, kinds) or isinstance(value, bool):
        raise UsageError(f"{name} must be {kind} from {low} to {high}; came {type(value).__name__}.")
    if not low <= value <= high:
        raise UsageError(f"{name}={_short(value)} is out of range; it must be {kind} from {low} to {high}.")


def _check_step_cache(cache: StepCache) -> None:
    if not isinstance(cache, TeaCache | MagCache | EasyCache):
        raise UsageError(
            f"step_cache must be a TeaCache, a MagCache or an EasyCache; came {type(cache).__name__}."
        )
    _check_number("step_cache.threshold", cache.threshold, 0.0, 1e9, whole=False)
    _check_number("step_cache.first", cache.first, 0, 10**6, whole=True)
    _check_number("step_cache.last", cache.last, 0, 10**6, whole=True)
    if isinstance(cache, TeaCache):
        if cache.embedding not in ("e", "e0"):
            raise UsageError(f"step_cache.embedding must be e or e0; came {cache.embedding!r}.")
        _check_list("step_cache.coefficients", cache.coefficients, -1e12, 1e12, most=20)
        return
    _check_number("step_cache.retention", cache.retention, 0.0, 1.0, whole=False)
    if isinstance(cache, MagCache):
        _check_number("step_cache.longest", cache.longest, 0, 1000, whole=True)
        _check_number("step_cache.shift", cache.shift, *_REAL["shift"], whole=False)
        _check_list("step_cache.ratios", cache.ratios, 1e-6, 1e6, most=1000)
        _check_list("step_cache.other_ratios", cache.other_ratios, 1e-6, 1e6, most=1000)


def _check_list(name: str, values: object, low: float, high: float, *, most: int) -> None:
    if values is None:
        return
    if not isinstance(values, tuple) or not 1 <= len(values) <= most:
        raise UsageError(f"{name} must be a tuple of 1 to {most} numbers; came {_kind(values)}.")
    for number, value in enumerate(values, 1):
        _check_number(f"{name}, number {number},", value, low, high, whole=False)


def _kind(values: object) -> str:
    return f"{len(values)} of them" if isinstance(values, tuple) else type(values).__name__


def _short(value: float) -> str:
    """A number for a message, even a whole one with thousands of digits."""
    return f"{value}" if abs(value) < 10**30 or isinstance(value, float) else "(a huge number)"


def _check_windows(request: Request) -> None:
    frames, motion = request.window_frames, request.motion_frames
    if frames is not None or motion is not None:
        # Each alone is compared with a partner that always fits.
        check_lengths(frames if frames is not None else 1029, motion if motion is not None else 1)


def _check_sources(request: Request) -> None:
    if (request.image is None) == (request.video is None):
        given = "neither was" if request.image is None else "both were"
        raise UsageError(f"Give either an image or a video; {given} given.")
    if request.scene_cuts and request.video is None:
        raise UsageError("scene_cuts is for videos; an image has no scenes.")
    if not any(speaker.audio is not None for speaker in request.speakers):
        raise UsageError("Nobody speaks: give at least one recording.")
    if len(request.speakers) > MAX_PEOPLE:
        raise UsageError(f"{len(request.speakers)} people were given; at most {MAX_PEOPLE} can speak.")
    for number, speaker in enumerate(request.speakers, 1):
        _check_place(number, speaker)


def _check_place(number: int, speaker: Speaker) -> None:
    if speaker.box is None:
        return
    if speaker.mask is not None:
        raise UsageError(f"Person {number} has a box and a mask; give one of them.")
    box: Box = speaker.box
    for name in ("left", "top", "right", "bottom"):
        _check_number(f"box.{name} of person {number}", getattr(box, name), -1e6, 1e6, whole=False)
    if box.left >= box.right or box.top >= box.bottom:
        raise UsageError(
            f"The box of person {number} is empty: left={box.left:g} must be less than right={box.right:g}, "
            f"and top={box.top:g} less than bottom={box.bottom:g}."
        )
