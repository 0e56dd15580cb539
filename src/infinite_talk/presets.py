"""What a model wants when a request does not say: ``Defaults``; ``resolve`` fills a request with them."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields, replace
from typing import Any, TypeVar

from infinite_talk.errors import CheckpointError
from infinite_talk.request import Request

NEGATIVE_PROMPT = (
    "bright tones, overexposed, static, blurred details, subtitles, style, works, paintings, images, static, "
    "overall gray, worst quality, low quality, JPEG compression residue, ugly, incomplete, extra fingers, "
    "poorly drawn hands, poorly drawn faces, deformed, disfigured, misshapen limbs, fused fingers, still "
    "picture, messy background, three legs, many people in the background, walking backwards"
)
"""The negative prompt that the official models were tuned with, word for word."""

T = TypeVar("T")


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
            raise CheckpointError(
                f"The model's defaults have unknown entries {unknown}; the file is from a newer version."
            )
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
    """The request with every setting filled in from the model's ``defaults``.

    Left open are only the settings for which ``None`` means something: media, trims, ``max_frames``, ``apg``
    and ``step_cache``.
    """
    size = request.size or defaults.size
    shift = (defaults.large_shift if size == "720" else None) or defaults.shift
    return replace(
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


def given(value: T | None) -> T:
    """A setting of a resolved request, for the type checker's sake."""
    assert value is not None, "resolve the request first"
    return value


def _or(value: T | None, default: T) -> T:
    return default if value is None else value
