"""Job files of the official InfiniteTalk program (JSON) become requests."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

from infinite_talk.errors import InputError, UsageError
from infinite_talk.inputs.files import open_file, shown
from infinite_talk.plan.people import official_box
from infinite_talk.request import AudioLayout, Request, Speaker

MAX_BYTES = 1_000_000
VIDEO_NAMES: Final = {".mp4", ".avi", ".mov", ".mkv", ".flv", ".wmv", ".webm", ".mpeg", ".mpg"}
"""Endings by which the official program tells a video from an image."""
_KNOWN: Final = {"prompt", "cond_video", "cond_audio", "audio_type", "bbox", "video_audio"}
"""``video_audio`` is written by the official program itself and not read."""


def read_job_file(path: Path) -> Request:
    """Read an official job file; everything it does not say stays at its default.

    Fields: ``prompt``, ``cond_video`` (image or video), ``cond_audio`` with ``person1``, ``person2``, ...
    (``"None"`` is a silent person), ``audio_type`` (``para`` or ``add``), ``bbox`` per person. The numbers of
    a ``bbox`` are ``[top, left, bottom, right]``, although the official program calls them x and y: it uses
    them as rows first. Paths are looked up in the current folder, then beside the job file.

    Raises:
        InputError: ``job_not_found``, ``job_empty``, ``job_invalid``.
        UsageError: a field has a meaning that is not supported.
    """
    job = _load(path)
    unknown = sorted(set(job) - _KNOWN)
    if unknown:
        raise _invalid(path, f"unknown field {unknown[0]!r}; known are {', '.join(sorted(_KNOWN))}")
    recordings = _people(path, job, "cond_audio", required=True)
    boxes = _people(path, job, "bbox", required=False)
    if boxes and boxes.keys() != recordings.keys():
        raise _invalid(path, "bbox and cond_audio must name the same people")
    source = _find(path, _text(path, job, "cond_video"))
    is_video = source.suffix.lower() in VIDEO_NAMES
    speakers = [
        Speaker(
            audio=_recording(path, person, recordings[person]),
            box=official_box(_numbers(path, person, boxes[person])) if boxes else None,
        )
        for person in _names(len(recordings))
    ]
    return Request(
        image=None if is_video else source,
        video=source if is_video else None,
        speakers=tuple(speakers),
        audio_layout=_layout(path, job.get("audio_type", "para")),
        prompt=_text(path, job, "prompt") if "prompt" in job else "",
    )


def _load(path: Path) -> dict[str, Any]:
    with open_file(path, "job") as file:
        data = file.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise _invalid(path, f"it is larger than {MAX_BYTES} bytes")
    try:
        job = json.loads(data, object_pairs_hook=_no_duplicates, parse_constant=_no_constants)
    except (ValueError, RecursionError) as error:
        raise _invalid(path, f"it is no JSON ({str(error)[:100]})") from error
    if not isinstance(job, dict):
        raise _invalid(path, f"it must hold one object, not {type(job).__name__}")
    return job


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) < len(pairs):
        raise ValueError("a field is given twice")
    return fields


def _no_constants(name: str) -> float:
    raise ValueError(f"{name} is no JSON number")


def _people(path: Path, job: dict[str, Any], field: str, *, required: bool) -> dict[str, Any]:
    people = job.get(field)
    if people is None and not required:
        return {}
    if not isinstance(people, dict) or not people:
        raise _invalid(path, f"{field} must be an object with person1, person2, ...")
    expected = _names(len(people))
    if set(people) != set(expected):
        raise _invalid(path, f"{field} must have the fields {', '.join(expected)[:60]}")
    return people


def _names(people: int) -> list[str]:
    return [f"person{number}" for number in range(1, people + 1)]


def _recording(path: Path, person: str, name: object) -> Path | None:
    text = _text(path, {person: name}, person)
    return None if text == "None" else _find(path, text)


def _text(path: Path, fields: dict[str, Any], field: str) -> str:
    value = fields.get(field)
    if not isinstance(value, str):
        raise _invalid(path, f"{field} must be text, not {type(value).__name__}")
    return value


def _numbers(path: Path, person: str, value: object) -> list[float]:
    numbers = value if isinstance(value, list) else []
    if len(numbers) != 4 or not all(_is_coordinate(number) for number in numbers):
        raise _invalid(path, f"bbox.{person} must be a list of four numbers")
    return [float(number) for number in numbers]


def _is_coordinate(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e6


def _layout(path: Path, name: object) -> AudioLayout:
    layouts = {"para": AudioLayout.TOGETHER, "add": AudioLayout.IN_TURN}
    if not isinstance(name, str) or name not in layouts:
        raise UsageError(f'audio_type in {shown(path)} must be "para" or "add"; came {str(name)[:40]!r}.')
    return layouts[name]


def _find(job: Path, name: str) -> Path:
    """The file a job names: as seen from the current folder, else from the job file's."""
    path = Path(name)
    beside = job.parent / path
    try:
        return path if path.exists() or not beside.exists() else beside
    except (OSError, ValueError):
        return path


def _invalid(path: Path, reason: str) -> InputError:
    return InputError(f"The job file {shown(path)} cannot be used: {reason}.", code="job_invalid")
