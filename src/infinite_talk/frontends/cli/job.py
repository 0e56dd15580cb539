"""Job files of the official InfiniteTalk program (JSON) as a ``Request``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from infinite_talk.errors import InputError, UsageError
from infinite_talk.request import AudioLayout, Box, Request, Speaker

_KNOWN = {"prompt", "cond_video", "cond_image", "cond_audio", "audio_type", "bbox", "video_audio"}
_VIDEO = {".mp4", ".avi", ".mov", ".mkv", ".flv", ".wmv", ".webm", ".mpeg", ".mpg"}
"""File name endings that the official program takes for a video; everything else is an image to it."""
_LAYOUTS = {"para": AudioLayout.TOGETHER, "add": AudioLayout.IN_TURN}
_LARGEST = 1_000_000  # bytes; a job is a page of text


def read_job(path: Path) -> Request:
    """Read a job file: ``prompt``, ``cond_video``, ``cond_audio``, ``audio_type`` and ``bbox``.

    File names are taken relative to the job file, and where nothing is there, to the current folder (as the
    official program does). ``video_audio``, which that program adds to its own copies, is ignored.

    Raises:
        InputError: the file cannot be read as such a job; names the key.
    """
    job = _load(path)
    unknown = sorted(set(job) - _KNOWN)
    if "tts_audio" in unknown:
        raise InputError(
            f"{path}: tts_audio asks for synthetic speech; give recordings in cond_audio.", code="bad_job"
        )
    if unknown:
        raise InputError(
            f"{path}: unknown key {unknown[0]!r}; known are {', '.join(sorted(_KNOWN))}.", code="bad_job"
        )
    picture = _path(path, "cond_video", job.get("cond_video", job.get("cond_image")))
    is_video = picture.suffix.lower() in _VIDEO
    return Request(
        image=None if is_video else picture,
        video=picture if is_video else None,
        speakers=_speakers(path, job),
        audio_layout=_layout(path, job.get("audio_type")),
        prompt=_text(path, "prompt", job.get("prompt", "")),
    )


def _load(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > _LARGEST:
            raise InputError(f"{path} is larger than a job file can be ({_LARGEST} bytes).", code="bad_job")
        job = json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise UsageError(f"--job {path} cannot be read: {error.strerror}.") from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is not valid JSON: {error}.", code="bad_job") from None
    if not isinstance(job, dict):
        raise InputError(f"{path}: a job is a JSON object, found {type(job).__name__}.", code="bad_job")
    return job


def _speakers(path: Path, job: dict[str, Any]) -> tuple[Speaker, ...]:
    audio = _object(path, "cond_audio", job.get("cond_audio"))
    boxes = _object(path, "bbox", job.get("bbox") or {})
    if stray := sorted(set(boxes) - set(audio)):
        raise InputError(f"{path}: bbox names {stray[0]!r}, who is not in cond_audio.", code="bad_job")
    return tuple(
        Speaker(
            audio=None
            if audio[person] in (None, "", "None")
            else _path(path, f"cond_audio.{person}", audio[person]),
            box=_box(path, person, boxes[person]) if person in boxes else None,
        )
        for person in sorted(audio, key=_person_number)
    )


def _person_number(person: str) -> tuple[int, str]:
    digits = person.removeprefix("person")
    return (int(digits) if digits.isdecimal() else 0, person)


def _box(path: Path, person: str, numbers: object) -> Box:
    """The four numbers of the official form are top, left, bottom, right: it slices ``mask[a:c, b:d]``."""
    if not (
        isinstance(numbers, list) and len(numbers) == 4 and all(isinstance(n, int | float) for n in numbers)
    ):
        raise InputError(f"{path}: bbox.{person} must be four numbers, found {numbers!r}.", code="bad_job")
    top, left, bottom, right = numbers
    return Box(left=left, top=top, right=right, bottom=bottom)


def _layout(path: Path, word: object) -> AudioLayout:
    if word is None:
        return AudioLayout.TOGETHER
    if word not in _LAYOUTS:
        raise InputError(f"{path}: audio_type must be para or add, found {word!r}.", code="bad_job")
    return _LAYOUTS[str(word)]


def _path(job: Path, key: str, value: object) -> Path:
    if not isinstance(value, str) or not value or "\0" in value:
        raise InputError(f"{job}: {key} must be the name of a file, found {value!r}.", code="bad_job")
    beside = job.parent / value
    return beside if beside.exists() else Path(value)


def _object(path: Path, key: str, value: object) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise InputError(f"{path}: {key} must be an object, one entry for each person.", code="bad_job")
    return value


def _text(path: Path, key: str, value: object) -> str:
    if not isinstance(value, str):
        raise InputError(f"{path}: {key} must be text, found {value!r}.", code="bad_job")
    return value
