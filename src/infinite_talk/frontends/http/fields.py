"""The fields of an order, as clients send them, and what they mean in our words (``Request``, ``Settings``)."""

from __future__ import annotations

import dataclasses
import difflib
import json
from collections.abc import Iterable, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, TypeAdapter, ValidationError

from infinite_talk import Box, LoRA, Request, Settings
from infinite_talk.frontends.http.bodies import json_value
from infinite_talk.frontends.http.envelope import Refusal
from infinite_talk.frontends.presets import Preset
from infinite_talk.jobs.node_options import NodeOptions

MEDIA = ("input_reference", "audio", "audio_2", "mask", "mask_2", "audio_reference", "audio_reference_2")
"""Fields that carry files: as parts of a form, or as data URLs."""
MAX_LORAS = 8
FPS = 25  # of every video; see types.FPS
_REQUEST_ONLY = (
    "audio_layout",
    "audio_start",
    "audio_end",
    "scheduler",
    "apg",
    "step_cache",
    "distilled",
    "max_frames",
    "colour_strength",
    "scene_cuts",
    "compat",
)
"""Fields of ``Request`` that are said in ``extra_params`` under their own names."""
_NODE_OPTIONS = tuple(field.name for field in dataclasses.fields(NodeOptions))
"""Likewise those of ``NodeOptions``."""
_EXTRA = (*_REQUEST_ONLY, *_NODE_OPTIONS)


ELSEWHERE = {
    "steps": "num_inference_steps",
    "guidance": "guidance_scale",
    "cfg": "guidance_scale",
    "audio_cfg": "audio_guidance_scale",
    "audio_guidance": "audio_guidance_scale",
    "shift": "flow_shift",
    "image": "input_reference",
    "video": "input_reference",
    "image_reference": "input_reference",
    "video_reference": "input_reference",
    "speech": "audio",
    "width": "size",
    "height": "size",
    "num_frames": "seconds",
    "duration": "seconds",
}
"""What other programs call our fields."""


class Mode(StrEnum):
    """How long the video may be."""

    CLIP = "clip"
    """One window."""
    STREAMING = "streaming"
    """As long as the speech."""


def _embedded(value: object) -> object:
    """A form has text only: lists and objects in it are JSON."""
    return json_value(value) if isinstance(value, str) and value.lstrip()[:1] in ("[", "{") else value


def _corners(value: object) -> object:
    value = _embedded(value)
    return [part.strip() for part in value.split(",")] if isinstance(value, str) else value


def _several(value: object) -> object:
    value = _embedded(value)
    return [value] if isinstance(value, (str, dict)) else value


class LoraField(BaseModel):
    """A LoRA from the server's own folders of models."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(
        min_length=1, max_length=200, description="File below one of the server's models folders."
    )
    strength: float = Field(default=1.0, ge=-10, le=10)


def _lora(value: object) -> object:
    return {"name": value} if isinstance(value, str) else value


Corner = Annotated[float, Field(ge=-1e6, le=1e6)]
BoxField = Annotated[tuple[Corner, Corner, Corner, Corner], BeforeValidator(_corners)]
Loras = Annotated[
    tuple[Annotated[LoraField, BeforeValidator(_lora)], ...],
    BeforeValidator(_several),
    Field(max_length=MAX_LORAS),
]
Extra = Annotated[dict[str, Any], BeforeValidator(_embedded)]


class VideoFields(BaseModel):
    """Everything of an order that is no file. What is left out has the default of the model or the profile."""

    model_config = ConfigDict(extra="forbid")

    model: str | None = Field(default=None, max_length=200, description="An id of /v1/models.")
    prompt: str | None = Field(default=None, max_length=32_000)
    negative_prompt: str | None = Field(default=None, max_length=32_000)
    seconds: float | None = Field(
        default=None,
        gt=0,
        le=1e6,
        description="The video is cut after this; without it, it is as long as the sound.",
    )
    size: str | None = Field(
        default=None,
        max_length=20,
        description='"480", "720", "WxH" (nearest that fits) or "WxH!" (exactly).',
    )
    fps: int | None = Field(default=None, description="25: the model makes no other.")
    seed: int | None = Field(default=None, ge=0, le=2**63 - 1)
    num_inference_steps: int | None = Field(default=None, ge=1, le=1000)
    guidance_scale: float | None = Field(
        default=None, ge=0, le=30, description="How strictly the prompt is followed."
    )
    audio_guidance_scale: float | None = Field(default=None, ge=0, le=30, description="Likewise the speech.")
    flow_shift: float | None = Field(default=None, ge=0.01, le=100)
    window_frames: int | None = Field(default=None, ge=5, le=1025, description="Frames per window, 4n + 1.")
    motion_frames: int | None = Field(default=None, ge=1, le=1021, description="Frames carried over, 4n + 1.")
    mode: Mode = Mode.STREAMING
    preset: Preset | None = Field(
        default=None, description="Fills in what is left open: how good and how fast."
    )
    bbox: BoxField | None = Field(
        default=None, description="Where the first speaker is: left, top, right, bottom."
    )
    bbox_2: BoxField | None = None
    lora: Loras = ()
    title: str | None = Field(default=None, max_length=200)
    extra_params: Extra = Field(
        default_factory=dict, description=f"More of the request: {', '.join(_EXTRA)}."
    )


@dataclasses.dataclass(frozen=True, slots=True)
class Media:
    """Files of an order, by their paths in the job's folder. ``None`` is left out."""

    image: Path | None = None
    video: Path | None = None
    audio: tuple[Path | None, ...] = ()
    masks: tuple[Path | None, ...] = ()


def read_fields(given: Mapping[str, Any]) -> VideoFields:
    """Check what was sent.

    Raises:
        Refusal: 400 naming the field.
    """
    known = [*VideoFields.model_fields, *MEDIA]
    for name in given:
        if name not in known:
            near = ELSEWHERE.get(name) or next(iter(difflib.get_close_matches(name, known, n=1)), None)
            hint = f" Did you mean {near}?" if near else f" Known: {', '.join(sorted(known))}."
            raise Refusal(400, f"Unknown field {name[:60]!r}.{hint}", code="unknown_field", param=name[:60])
    said = {name: value for name, value in given.items() if name not in MEDIA and value is not None}
    try:
        return VideoFields.model_validate(said)
    except ValidationError as error:
        raise refusal_of_fields(error) from None


def refusal_of_fields(error: ValidationError) -> Refusal:
    """400 for the first wrong field, with its name, what was expected and what came."""
    first = error.errors(include_url=False)[0]
    name = ".".join(str(part) for part in first["loc"])[:60] or "body"
    came = repr(first["input"])
    came = came if len(came) <= 60 else f"{came[:57]}..."
    return Refusal(400, f"{name}: {first['msg']}; got {came}.", code="invalid_field", param=name)


def request_of(fields: VideoFields, base: Request, *, window_frames: int) -> Request:
    """What is wanted: ``base`` with all that was said.

    Args:
        base: has the media; for a remix all of the earlier request.
        window_frames: of the model, for ``mode=clip``.

    Raises:
        Refusal: 400 naming the field.
    """
    said: dict[str, Any] = {
        "prompt": fields.prompt,
        "negative_prompt": fields.negative_prompt,
        "size": fields.size,
        "fps": fields.fps,
        "seed": fields.seed,
        "steps": fields.num_inference_steps,
        "text_guidance": fields.guidance_scale,
        "audio_guidance": fields.audio_guidance_scale,
        "shift": fields.flow_shift,
        "window_frames": fields.window_frames,
        "motion_frames": fields.motion_frames,
    }
    said = {name: value for name, value in said.items() if value is not None}
    request = dataclasses.replace(base, **said, **_extra(fields.extra_params, Request, _REQUEST_ONLY))
    caps = [request.max_frames] if request.max_frames is not None else []
    if fields.seconds is not None:
        caps.append(max(1, round(fields.seconds * FPS)))
    if fields.mode is Mode.CLIP:
        caps.append(request.window_frames or window_frames)
    request = dataclasses.replace(request, max_frames=min(caps, default=None))
    boxes = [box and Box(*box) for box in (fields.bbox, fields.bbox_2)]
    return _placed(request, boxes)


def options_of(fields: VideoFields, base: NodeOptions) -> NodeOptions:
    """What is asked of the nodes: ``base`` with what ``extra_params`` say.

    Raises:
        Refusal: 400 naming the field.
    """
    return dataclasses.replace(base, **_extra(fields.extra_params, NodeOptions, _NODE_OPTIONS))


def settings_of(fields: VideoFields, settings: Settings) -> Settings:
    """How it is made: the profile's settings, with the LoRAs that were named.

    Raises:
        Refusal: 400, a LoRA is not in the server's folders.
    """
    if not fields.lora:
        return settings
    added = tuple(
        LoRA(path=_find(one.name, settings.models_dirs), strength=one.strength) for one in fields.lora
    )
    return dataclasses.replace(settings, loras=(*settings.loras, *added))


def _find(name: str, folders: Iterable[Path]) -> Path:
    """A file below a folder of models, by a relative name that stays in it."""
    parts = Path(name).parts
    if "\0" not in name and parts and not Path(name).is_absolute() and ".." not in parts:
        for folder in folders:
            found = (folder / name).resolve()
            if found.is_file() and found.suffix == ".safetensors" and found.is_relative_to(folder.resolve()):
                return found
    raise Refusal(
        400,
        f"There is no LoRA {name[:60]!r} on this server: expected the name of a .safetensors file below one of its "
        "models folders.",
        code="lora_not_found",
        param="lora",
    )


def _extra(given: Mapping[str, Any], kind: type[Any], names: Iterable[str]) -> dict[str, Any]:
    """Checked values of those of ``extra_params`` that are fields of ``kind`` with these names."""
    kinds: TypeAdapter[Any] = TypeAdapter(kind)
    for name in given:
        if name not in _EXTRA:
            raise Refusal(
                400,
                f"Unknown field {name[:60]!r} in extra_params; known: {', '.join(_EXTRA)}.",
                code="unknown_field",
                param=f"extra_params.{name[:60]}",
            )
    try:
        given = {name: value for name, value in given.items() if name in names}
        made = kinds.validate_python(given)
    except ValidationError as error:
        refusal = refusal_of_fields(error)
        refusal.param = f"extra_params.{refusal.param}"
        raise refusal from None
    understood = json.loads(kinds.dump_json(made))
    for name, value in given.items():
        _check_names(value, understood[name], f"extra_params.{name}")
    return {name: getattr(made, name) for name in given}


def _check_names(given: object, understood: object, place: str) -> None:
    """Refuse names inside of an object that nothing has read."""
    if isinstance(given, Mapping) and isinstance(understood, Mapping):
        for name, value in given.items():
            if name not in understood:
                raise Refusal(
                    400,
                    f"Unknown field {place}.{name[:60]}.",
                    code="unknown_field",
                    param=f"{place}.{name[:60]}",
                )
            _check_names(value, understood[name], f"{place}.{name}")


def _placed(request: Request, boxes: list[Box | None]) -> Request:
    """The boxes put to their speakers."""
    speakers = list(request.speakers)
    for number, box in enumerate(boxes):
        if box is None:
            continue
        name = "bbox" if number == 0 else f"bbox_{number + 1}"
        if number >= len(speakers):
            raise Refusal(400, f"{name} is of a speaker without audio.", code="invalid_field", param=name)
        if speakers[number].mask is not None:
            raise Refusal(
                400, f"Give {name} or a mask for this speaker, not both.", code="invalid_field", param=name
            )
        speakers[number] = dataclasses.replace(speakers[number], box=box)
    return dataclasses.replace(request, speakers=tuple(speakers))
