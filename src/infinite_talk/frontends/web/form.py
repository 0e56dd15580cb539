"""``Form``: what stands in the fields of the tab Create, and the request that it means."""

from __future__ import annotations

import math
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from infinite_talk import (
    AudioLayout,
    Box,
    Distilled,
    EasyCache,
    MagCache,
    Request,
    Speaker,
    TeaCache,
    UsageError,
)
from infinite_talk.frontends.presets import Preset
from infinite_talk.frontends.web.samplers import SCHEDULERS

CACHES = {"teacache": TeaCache, "magcache": MagCache, "easycache": EasyCache}


FILES = ("picture", "voice", "voice2", "mask_first", "mask_second")
"""Fields that hold a file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """Values of the fields, in their order on the page. 0 and ``""`` leave a choice to the preset or the model."""

    picture: Path | None = None
    """An image or a film."""
    voice: Path | None = None
    voice2: Path | None = None
    layout: str = AudioLayout.TOGETHER.value
    box_first: str = ""
    box_second: str = ""
    mask_first: Path | None = None
    mask_second: Path | None = None
    trim_start: float = 0.0
    trim_end: float = 0.0
    prompt: str = ""
    negative_prompt: str = ""
    preset: str = Preset.BALANCED.value
    profile: str = ""
    title: str = ""
    size: str = ""
    seed: float = 42
    steps: float = 0
    scheduler: str = ""
    shift: float = 0.0
    text_guidance: float = 0.0
    audio_guidance: float = 0.0
    window_frames: float = 0
    motion_frames: float = 0
    max_frames: float = 0
    colour_strength: float = 1.0
    step_cache: str = ""
    distilled: str = ""
    scene_cuts: bool = False

    @classmethod
    def names(cls) -> tuple[str, ...]:
        """All fields in order."""
        return tuple(field.name for field in fields(cls))

    @classmethod
    def of(cls, values: tuple[Any, ...]) -> Form:
        """From the fields' values in order; an emptied field counts as not filled in."""
        given: dict[str, Any] = {
            field.name: field.default if value is None else value
            for field, value in zip(fields(cls), values, strict=True)
        }
        return cls(**given)


class FormError(UsageError):
    """Something in the form that can be said without looking at the files; ``code`` is a key of the catalogue."""

    def __init__(self, key: str, **values: str) -> None:
        super().__init__(f"{key}: {values}", code=key)
        self.values = values


def request_of(form: Form, *, film: bool) -> Request:
    """The request that a form means; what it leaves open is ``None``.

    Args:
        form: filled in by somebody who may have sent anything.
        film: whether its picture is a film.

    Raises:
        FormError: what is missing or cannot be read.
    """
    if form.picture is None:
        raise FormError("missing_picture")
    if form.voice is None:
        raise FormError("missing_voice")
    return Request(
        image=None if film else form.picture,
        video=form.picture if film else None,
        speakers=_speakers(form),
        audio_layout=AudioLayout(form.layout),
        audio_start=float(form.trim_start),
        audio_end=float(form.trim_end) or None,
        prompt=form.prompt,
        negative_prompt=form.negative_prompt or None,
        size=form.size.strip() or None,
        seed=secrets.randbelow(2**32) if form.seed < 0 else _whole("seed", form.seed),
        steps=_whole("steps", form.steps) or None,
        shift=float(form.shift) or None,
        scheduler=form.scheduler or None,
        text_guidance=float(form.text_guidance) or None,
        audio_guidance=float(form.audio_guidance) or None,
        step_cache=CACHES[form.step_cache]() if form.step_cache else None,
        distilled=Distilled(form.distilled) if form.distilled else None,
        window_frames=_whole("window_frames", form.window_frames) or None,
        motion_frames=_whole("motion_frames", form.motion_frames) or None,
        max_frames=_whole("max_frames", form.max_frames) or None,
        colour_strength=float(form.colour_strength),
        scene_cuts=form.scene_cuts and film,
    )


def _whole(name: str, value: float) -> int:
    if not math.isfinite(value) or value != int(value):
        raise UsageError(f"{name} must be a whole number; came {value}.")
    return int(value)


def _speakers(form: Form) -> tuple[Speaker, ...]:
    first, second = parse_box(form.box_first), parse_box(form.box_second)
    placed = [
        box is not None or mask is not None
        for box, mask in ((first, form.mask_first), (second, form.mask_second))
    ]
    if form.voice2 is None:
        if any(placed):
            raise FormError("box_needs_second")
        return (Speaker(audio=form.voice),)
    if any(placed) and not all(placed):
        raise FormError("one_box")
    return (
        Speaker(audio=form.voice, box=first, mask=form.mask_first),
        Speaker(audio=form.voice2, box=second, mask=form.mask_second),
    )


def parse_box(text: str) -> Box | None:
    """``"left,top,right,bottom"``, also with spaces or Chinese commas; empty is none.

    Raises:
        FormError: it is something else.
    """
    if not text.strip():
        return None
    parts = text.replace("，", ",").replace("、", ",").split(",")
    try:
        left, top, right, bottom = (float(part) for part in parts)
    except ValueError:
        raise FormError("bad_box", text=text[:60]) from None
    return Box(left, top, right, bottom)


def fields_of(request: Mapping[str, Any], extra: Mapping[str, Any]) -> dict[str, Any]:
    """The fields that bring a request back: of JSON as a recipe or a stored order has it, without its files.

    What is not known, or is of another kind than expected, gets its usual value: the file may be anybody's.
    """
    empty = Form()
    found: dict[str, Any] = {name: getattr(empty, name) for name, _, _ in _BACK}
    for name, field, kinds in _BACK:
        value = request.get(field)
        if isinstance(value, kinds) and (not isinstance(value, bool) or kinds is bool):
            found[name] = value
    for name, kind in (("step_cache", "kind"), ("distilled", "")):
        value = request.get(name)
        value = value.get(kind) if kind and isinstance(value, Mapping) else value
        known = CACHES if kind else {str(choice) for choice in Distilled}
        found[name] = value if isinstance(value, str) and value in known else ""
    given = request.get("speakers")
    speakers = [*given, None, None] if isinstance(given, list) else [None, None]
    for name, speaker in zip(("box_first", "box_second"), speakers, strict=False):
        box = speaker.get("box") if isinstance(speaker, Mapping) else None
        found[name] = _box_text(box) if isinstance(box, Mapping) else ""
    if found["scheduler"] not in SCHEDULERS:
        found["scheduler"] = ""
    if found["layout"] not in {layout.value for layout in AudioLayout}:
        found["layout"] = empty.layout
    preset = extra.get("preset")
    # A recipe says everything itself; its own numbers would be changed by any other preset.
    known_preset = isinstance(preset, str) and preset in {p.value for p in Preset}
    found["preset"] = preset if known_preset else Preset.BALANCED.value
    return found


_NUMBER = (int, float)
_BACK: tuple[tuple[str, str, Any], ...] = (
    ("layout", "audio_layout", str),
    ("trim_start", "audio_start", _NUMBER),
    ("trim_end", "audio_end", _NUMBER),
    ("prompt", "prompt", str),
    ("negative_prompt", "negative_prompt", str),
    ("size", "size", str),
    ("seed", "seed", int),
    ("steps", "steps", int),
    ("scheduler", "scheduler", str),
    ("shift", "shift", _NUMBER),
    ("text_guidance", "text_guidance", _NUMBER),
    ("audio_guidance", "audio_guidance", _NUMBER),
    ("window_frames", "window_frames", int),
    ("motion_frames", "motion_frames", int),
    ("max_frames", "max_frames", int),
    ("colour_strength", "colour_strength", _NUMBER),
    ("scene_cuts", "scene_cuts", bool),
)
"""Field of the form, field of a request, kinds."""


def _box_text(box: Mapping[str, Any]) -> str:
    numbers = [box.get(name) for name in ("left", "top", "right", "bottom")]
    return ",".join(f"{n:g}" for n in numbers) if all(isinstance(n, _NUMBER) for n in numbers) else ""
