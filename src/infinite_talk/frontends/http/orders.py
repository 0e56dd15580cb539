"""From what was sent to a job: files into its folder, fields into a request, both to the desk."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from infinite_talk import InfiniteTalkError, InputError, Request, Settings, Speaker
from infinite_talk.frontends.http.bodies import Parsed
from infinite_talk.frontends.http.context import Context, window_frames
from infinite_talk.frontends.http.envelope import Refusal, refusal_of
from infinite_talk.frontends.http.fields import (
    MEDIA,
    VideoFields,
    options_of,
    read_fields,
    request_of,
    settings_of,
)
from infinite_talk.frontends.http.references import Medium, medium_of
from infinite_talk.frontends.http.resource import REMIXED
from infinite_talk.frontends.presets import apply_preset
from infinite_talk.jobs import Job
from infinite_talk.jobs.desk import Draft
from infinite_talk.jobs.node_options import NodeOptions

_PIECE = 2**20
MAX_KEY = 255
"""Characters of an idempotency key."""
_PARAMS = (("audio", "audio"), ("image", "input_reference"), ("video", "input_reference"), ("mask", "mask"))
"""Beginning of an error's code, and the field that it is about."""
OPTION_ERRORS = ("options_exclude", "options_range")
"""Codes of errors that are about ``NodeOptions``."""


def order(context: Context, parsed: Parsed, key: str | None) -> Job:
    """Hand in a new video. Blocks.

    Raises:
        Refusal, InfiniteTalkError: nothing is kept then.
    """
    fields = read_fields({**parsed.fields, **parsed.files})
    for name in parsed.files:
        if name not in MEDIA:
            raise Refusal(400, f"{name[:60]} is no file.", code="invalid_field", param=name[:60])
    settings = context.settings(fields.model)
    with context.desk.draft() as draft:
        return _hand_in(context, draft, fields, _media(context, draft, parsed), settings, key)


def remix(context: Context, source: Job, given: Mapping[str, Any], key: str | None) -> Job:
    """Hand in an earlier order again, with some things said anew. Blocks.

    Raises:
        Refusal: 400, a field; files are those of the earlier order.
    """
    for name in given:
        if name in MEDIA:
            raise Refusal(
                400,
                f"{name}: a remix has the files of its source; for others order a new video.",
                code="invalid_field",
                param=name,
            )
    fields = read_fields(given)
    settings = source.order.settings if fields.model is None else context.settings(fields.model)
    with context.desk.draft() as draft:
        base = _copied(context, draft, source)
        return _hand_in(context, draft, fields, base, settings, key, source=source)


def key_of(header: str | None) -> str | None:
    """The Idempotency-Key of a request.

    Raises:
        Refusal: 400, too long or not printable.
    """
    if header is None:
        return None
    if not 1 <= len(header) <= MAX_KEY or not header.isascii() or not header.isprintable():
        raise Refusal(
            400,
            f"The Idempotency-Key has to be 1 to {MAX_KEY} printable ASCII characters.",
            code="bad_key",
            param="Idempotency-Key",
        )
    return header


def _hand_in(
    context: Context,
    draft: Draft,
    fields: VideoFields,
    base: Request,
    profile: Settings,
    key: str | None,
    *,
    source: Job | None = None,
) -> Job:
    settings = settings_of(fields, profile)
    request = request_of(fields, base, window_frames=window_frames(settings))
    options = options_of(fields, NodeOptions() if source is None else source.order.options)
    if fields.preset is not None:
        request, settings = apply_preset(fields.preset, request, settings, options)
    name = fields.model or (source.order.profile if source is not None else "")
    named = source is None and settings == profile
    extra: dict[str, Any] = {"model": name, "fields": fields.model_dump(mode="json", exclude_unset=True)}
    if source is not None:
        extra[REMIXED] = source.id
    title = fields.title or (source.order.title if source is not None else "")
    try:
        return context.desk.submit(
            draft,
            request,
            settings=name if named else settings,
            title=title,
            key=key,
            options=options,
            extra=extra,
        )
    except InfiniteTalkError as error:
        raise refusal_of(error, param=_param(error), retry_after=context.options.retry_after) from error


def _media(context: Context, draft: Draft, parsed: Parsed) -> Request:
    """The files of an order, put into the draft, as a request that says nothing else."""

    def keep(role: str, field: str) -> Path | None:
        medium = medium_of(parsed, field, context.fetch)
        return None if medium is None else _kept(draft, role, medium)

    picture = medium_of(parsed, "input_reference", context.fetch)
    if picture is None:
        raise _missing("input_reference", "the picture or the video of who speaks")
    image = _kept(draft, "image", picture) if picture.picture else None
    video = _kept(draft, "video", picture) if not picture.picture else None
    speakers = []
    for number, (audio, reference, mask) in enumerate(
        (("audio", "audio_reference", "mask"), ("audio_2", "audio_reference_2", "mask_2"))
    ):
        suffix = "" if number == 0 else str(number + 1)
        given = [
            name for name in (audio, reference) if name in parsed.files or parsed.fields.get(name) is not None
        ]
        if len(given) > 1:
            raise Refusal(
                400, f"Give {audio} or {reference}, not both.", code="invalid_field", param=reference
            )
        spoken = keep(f"audio{suffix}", given[0]) if given else None
        place = keep(f"mask{suffix}", mask)
        if spoken is not None:
            speakers.append(Speaker(audio=spoken, mask=place))
        elif place is not None:
            raise Refusal(400, f"{mask} is of a speaker without audio.", code="invalid_field", param=mask)
        elif number == 0:
            raise _missing("audio", "the speech, as a file or as audio_reference")
    return Request(image=image, video=video, speakers=tuple(speakers))


def _kept(draft: Draft, role: str, medium: Medium) -> Path:
    try:
        return Path(draft.add(role, medium.pieces, name=medium.name).path)
    except InfiniteTalkError as error:
        raise refusal_of(error, param=medium.field) from error


def _copied(context: Context, draft: Draft, source: Job) -> Request:
    """The request of an earlier job with copies of its files."""
    request = source.order.request

    def copy(role: str, path: Path | None) -> Path | None:
        if path is None:
            return None
        there = context.desk.path(source, str(path))
        names = {file.path: file.name for file in source.order.files}
        try:
            return Path(draft.add(role, _pieces(there), name=names.get(str(path), "")).path)
        except FileNotFoundError as error:
            raise Refusal(410, "The files of this video are not kept any longer.", code="expired") from error

    speakers = tuple(
        dataclasses.replace(
            speaker,
            audio=copy(f"audio{number or ''}", speaker.audio),
            mask=copy(f"mask{number or ''}", speaker.mask),
        )
        for number, speaker in zip((0, *range(2, 9)), request.speakers, strict=False)
    )
    return dataclasses.replace(
        request, image=copy("image", request.image), video=copy("video", request.video), speakers=speakers
    )


def _pieces(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while piece := file.read(_PIECE):
            yield piece


def _param(error: InfiniteTalkError) -> str | None:
    if error.code in OPTION_ERRORS:
        return "extra_params"
    if not isinstance(error, InputError):
        return None
    return next((field for start, field in _PARAMS if error.code.startswith(start)), None)


def _missing(field: str, what: str) -> Refusal:
    return Refusal(400, f"{field} is missing: send {what}.", code="missing_field", param=field)
