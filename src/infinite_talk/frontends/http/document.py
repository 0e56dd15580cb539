"""The parts of the OpenAPI document that do not follow from the code of the routes, and what to leave out."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from infinite_talk.frontends.http.envelope import Answers
from infinite_talk.frontends.http.fields import VideoFields
from infinite_talk.frontends.http.resource import VideoDeleted

_FILE = {"type": "string", "format": "binary"}
_MEDIA = {
    "input_reference": "Picture or video of who speaks.",
    "audio": "Speech of the first speaker.",
    "audio_2": "Speech of the second speaker.",
    "mask": "Picture of the same size, bright where the first speaker is.",
    "mask_2": "Likewise for the second.",
}
_ADDRESSES = {"input_reference": "image_url", "mask": "image_url", "mask_2": "image_url"}


def _reference(field: str) -> dict[str, Any]:
    """A data URL, or an object with one."""
    address = _ADDRESSES.get(field, "audio_url")
    return {
        "anyOf": [
            {"type": "string", "description": "data:...;base64,..."},
            {
                "type": "object",
                "properties": {address: {"type": "string"}},
                "required": [address],
                "additionalProperties": False,
            },
        ]
    }


def _schema(*, form: bool) -> dict[str, Any]:
    """Fields of an order, as a form or as JSON."""
    fields = VideoFields.model_json_schema(ref_template="#/components/schemas/{model}")
    media = {
        name: {**(_FILE if form else _reference(name)), "description": words}
        for name, words in _MEDIA.items()
    }
    for name in ("audio_reference", "audio_reference_2"):
        media[name] = {
            **_reference(name),
            "description": "Instead of the file: an object with audio_url, a data URL.",
        }
    return {
        "type": "object",
        "properties": {**media, **fields["properties"]},
        "required": ["input_reference"],
        "additionalProperties": False,
    }


def _remix_schema() -> dict[str, Any]:
    fields = VideoFields.model_json_schema(ref_template="#/components/schemas/{model}")
    return {"type": "object", "properties": fields["properties"], "additionalProperties": False}


CREATE_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {"schema": _schema(form=True)},
            "application/json": {"schema": _schema(form=False)},
        },
    }
}
REMIX_BODY: dict[str, Any] = {
    "requestBody": {"required": True, "content": {"application/json": {"schema": _remix_schema()}}}
}
FILE_ANSWERS: Answers = {
    200: {
        "description": "The file",
        "content": {kind: {"schema": _FILE} for kind in ("video/mp4", "image/webp", "image/jpeg")},
    },
    206: {"description": "A part of it", "content": {"video/mp4": {"schema": _FILE}}},
    304: {"description": "What the client has is the same"},
}
PIECE_ANSWER: Answers = {200: {"description": "mp4 fragments", "content": {"video/mp4": {"schema": _FILE}}}}
PLAYLIST_ANSWER: Answers = {
    200: {
        "description": "A playlist (RFC 8216)",
        "content": {"application/vnd.apple.mpegurl": {"schema": {"type": "string"}}},
    }
}
METRICS_ANSWER: Answers = {
    200: {"description": "Numbers", "content": {"text/plain": {"schema": {"type": "string"}}}}
}
_EVENT = {
    "type": "object",
    "properties": {
        "id": {"type": "string", "description": "For Last-Event-ID."},
        "event": {"enum": ["progress", "completed", "failed", "cancelled", "deleted"]},
        "data": {"type": "string", "description": "The video, JSON."},
        "retry": {"type": "integer"},
    },
}
DELETION_ANSWER: Answers = {202: {"model": VideoDeleted, "description": "It goes when it has stopped"}}
EVENTS_ANSWER: Answers = {
    200: {"description": "Events", "content": {"text/event-stream": {"schema": _EVENT}}},
    204: {"description": "Nothing will come any more"},
}


def document(app: FastAPI, *, keyed: bool) -> dict[str, Any]:
    """The OpenAPI document of ``app``, true to what it does: wrong fields are 400, never 422."""
    told = get_openapi(
        title=app.title,
        version=app.version,
        description=app.description,
        routes=app.routes,
        tags=app.openapi_tags,
    )
    schemas = told.setdefault("components", {}).setdefault("schemas", {})
    definitions = VideoFields.model_json_schema(ref_template="#/components/schemas/{model}").get("$defs", {})
    schemas.update(definitions)
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    for path in told["paths"].values():
        for operation in path.values():
            operation["responses"].pop("422", None)
            if not keyed:
                operation["responses"].pop("401", None)
    if keyed:
        told["components"]["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
        told["security"] = [{"key": []}]
    return told
