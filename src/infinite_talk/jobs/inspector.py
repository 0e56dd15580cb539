"""The child process of ``checking``: limits itself, reads one question, opens the media, writes one answer.

    echo '{"question": "sound", ...}' | python -m infinite_talk.jobs.inspector

Nothing is opened before the limits hold.
"""

from __future__ import annotations

import json
import math
import os
import signal
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import TypeAdapter, ValidationError

from infinite_talk.errors import InfiniteTalkError, InputError
from infinite_talk.inputs import read_sound, read_source
from infinite_talk.inputs.audio import open_recordings, read_track
from infinite_talk.inputs.files import open_container, open_file, shown
from infinite_talk.inputs.image import FORMATS, read_image
from infinite_talk.inputs.loudness import TARGET
from infinite_talk.inputs.video import film_rate, open_film, stored_pictures
from infinite_talk.jobs.facts import Crop, PictureFacts, RecipeFacts, SoundFacts, SoundtrackFacts
from infinite_talk.jobs.node_options import NodeOptions
from infinite_talk.jobs.types import Checked
from infinite_talk.plan.buckets import choose_size, parse_size
from infinite_talk.request import Request
from infinite_talk.settings import Settings
from infinite_talk.types import FPS, Size

OUTLINE = 400
"""Parts of a recording's outline."""
PREVIEW_SIDE = 768
"""Pixels of a preview's longer side at most."""
GRACE = 5
"""Seconds after the parent's patience until the child ends by itself, should the parent be gone."""


def main() -> int:
    """Read the question from the standard input, write the answer to the standard output."""
    order = json.load(sys.stdin)
    limit(order["limits"])
    try:
        told: dict[str, Any] = {"facts": asdict(answer(order))}
    except InfiniteTalkError as error:
        told = {"error": type(error).__name__, "message": error.message, "code": error.code}
    except MemoryError:
        told = {
            "error": "InputError",
            "code": "media_limit",
            "message": "The file takes more memory than one may.",
        }
    json.dump(told, sys.stdout, allow_nan=False)
    return 0


def limit(limits: Mapping[str, Any]) -> None:
    """Hold this process to ``checking.Limits``, as far as the system knows them."""
    if sys.platform == "win32":
        return
    import resource

    for kind, most in (
        (resource.RLIMIT_AS, limits["memory"]),
        (resource.RLIMIT_CPU, limits["cpu_seconds"]),
        (resource.RLIMIT_FSIZE, limits["file_bytes"]),
        (resource.RLIMIT_NOFILE, limits["open_files"]),
        (resource.RLIMIT_CORE, 0),
    ):
        _, hard = resource.getrlimit(kind)
        allowed = most if hard == resource.RLIM_INFINITY else min(most, hard)
        with suppress(ValueError, OSError):  # some systems refuse limits of address space
            resource.setrlimit(kind, (allowed, allowed))
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # a full file is an error of the write, not the end
    signal.alarm(math.ceil(limits["wall_seconds"]) + GRACE)


def answer(order: Mapping[str, Any]) -> PictureFacts | SoundFacts | SoundtrackFacts | RecipeFacts | Checked:
    """The facts that an order asks for.

    Raises:
        UsageError, InputError: what is wrong.
    """
    settings = Settings(max_pixels=order["max_pixels"], max_audio_seconds=order["max_audio_seconds"])
    given, default_size = order["given"], order["default_size"]
    match order["question"]:
        case "picture":
            preview = Path(given["preview"]) if given["preview"] else None
            return look(Path(given["path"]), settings, given["size"] or default_size, preview)
        case "sound":
            return listen(Path(given["path"]), settings, given["start"], given["end"])
        case "soundtrack":
            return write_soundtrack(given["request"], settings, given["frames"], Path(given["path"]))
        case "recipe":
            return made_with(Path(given["path"]))
        case _:
            return read(given["request"], Path(given["folder"]), settings, default_size)


def look(path: Path, settings: Settings, size: str, preview: Path | None) -> PictureFacts:
    """Facts of an image, or of a film if it is none."""
    rule = parse_size(size)
    facts: dict[str, Any]
    try:
        image, notes = read_image(path, max_pixels=settings.max_pixels)
    except InputError as error:
        if error.code != "image_unsupported":
            raise
        picture, facts, notes = _film(path, settings, error)
    else:
        picture, facts = image.picture, {"format": _image_format(path), "moving": False}
    height, width = picture.shape[:2]
    output = choose_size(rule, height, width)
    crop = crop_of(height, width, output)
    if preview is not None:
        write_preview(picture, crop, preview)
    return PictureFacts(
        **facts,
        bytes=path.stat().st_size,
        width=width,
        height=height,
        output_width=output.width,
        output_height=output.height,
        crop=crop,
        notes=tuple(notes),
    )


def listen(path: Path, settings: Settings, start: float, end: float | None) -> SoundFacts:
    """Facts of a recording, from all of it."""
    longest = settings.max_audio_seconds
    (recording,) = open_recordings([path], start=start, end=end, max_seconds=longest)
    assert recording is not None
    track, notes = read_track(recording, max_seconds=longest)
    with open_container(path, "audio", stamp=recording.stamp) as container:
        name = container.format.name
    return SoundFacts(
        format=name,
        bytes=path.stat().st_size,
        seconds=float(track.seconds),
        rate=recording.rate,
        channels=recording.channels,
        loudness=None if track.gain is None else TARGET - 20 * math.log10(track.gain),
        peak=min(track.peak, 1000.0),
        outline=outline(track.speech),
        notes=tuple(notes),
    )


def read(written: Mapping[str, Any], folder: Path, settings: Settings, default_size: str) -> Checked:
    """Facts of a whole request, whose paths are relative to ``folder``."""
    os.chdir(folder)
    request = TypeAdapter(Request).validate_python(written)
    source = read_source(request, settings, default_size=default_size)
    return Checked(
        width=source.size.width,
        height=source.size.height,
        frames=source.frames,
        seconds=source.frames / FPS,
        notes=source.notes,
    )


def write_soundtrack(
    written: Mapping[str, Any], settings: Settings, frames: int, path: Path
) -> SoundtrackFacts:
    """Write what the video will sound like, for those who watch it before it is finished."""
    from infinite_talk.media.growing import write_preview_sound  # as in made_with

    request = TypeAdapter(Request).validate_python(written)
    sound, _ = read_sound(request, settings)
    write_preview_sound(path, sound.soundtrack, frames)
    return SoundtrackFacts(
        rate=sound.soundtrack.rate, channels=sound.soundtrack.channels, seconds=frames / FPS
    )


def made_with(path: Path) -> RecipeFacts:
    """Facts of the recipe in a video."""
    from infinite_talk.media.recipe import Recipe  # every other question starts faster without

    recipe = Recipe.from_file(path)
    try:
        options = TypeAdapter(NodeOptions).validate_python(recipe.options)
    except ValidationError as error:
        raise InputError(f"The recipe's options are damaged: {error.error_count()} fields.") from error
    return RecipeFacts(
        request=recipe.request, options=options, inputs=tuple(file.name for file in recipe.inputs)
    )


def crop_of(height: int, width: int, size: Size) -> Crop:
    """What ``inputs.resize.resize_picture`` keeps of a picture: the middle, in the shape of ``size``."""
    scale = max(size.height / height, size.width / width)
    top = round((math.ceil(scale * height) - size.height) / 2) / scale
    left = round((math.ceil(scale * width) - size.width) / 2) / scale
    return Crop(
        left, top, min(float(width), left + size.width / scale), min(float(height), top + size.height / scale)
    )


def outline(speech: NDArray[np.float32]) -> tuple[float, ...]:
    """Peaks of ``OUTLINE`` equal parts of ``(samples,)``, the highest 1; fewer for less samples."""
    peaks = np.array([np.abs(part).max() for part in np.array_split(speech, min(OUTLINE, speech.size))])
    highest = float(peaks.max())
    return tuple(round(float(peak), 4) for peak in (peaks / highest if highest else peaks))


def write_preview(picture: NDArray[np.uint8], crop: Crop, path: Path) -> None:
    """Write a small JPEG of ``(H, W, 3)`` in which all but the crop is darkened."""
    dark = picture // 3
    kept = (
        slice(math.floor(crop.top), math.ceil(crop.bottom)),
        slice(math.floor(crop.left), math.ceil(crop.right)),
    )
    dark[kept] = picture[kept]
    image = Image.fromarray(np.ascontiguousarray(dark))
    image.thumbnail((PREVIEW_SIDE, PREVIEW_SIDE))
    image.save(path, "JPEG", quality=85)


def _film(
    path: Path, settings: Settings, no_image: InputError
) -> tuple[NDArray[np.uint8], dict[str, Any], list[str]]:
    """First picture, facts and notes of a film.

    Raises:
        InputError: of the film; for content that is neither, one that names both kinds.
    """
    try:
        film, notes = open_film(path, max_pixels=settings.max_pixels)
    except InputError as error:
        if error.code not in {"video_unsupported", "no_video_stream"}:
            raise
        raise InputError(
            f"{shown(path)} is neither an image nor a film; use PNG, JPEG, WebP, BMP, GIF, MP4, MOV or MKV.",
            code="picture_unsupported",
        ) from no_image
    with open_container(path, "video", stamp=film.stamp) as container:
        facts = {
            "format": container.format.name,
            "moving": True,
            "seconds": container.duration / 1e6 if container.duration else None,
            "rate": float(film_rate(film)),
            "sound": bool(container.streams.audio),
        }
    return next(stored_pictures(film)), facts, notes


def _image_format(path: Path) -> str:

    with open_file(path, "image") as file:
        return str(Image.open(file, formats=FORMATS).format)


if __name__ == "__main__":
    sys.exit(main())
