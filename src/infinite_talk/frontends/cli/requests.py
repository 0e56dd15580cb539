"""From what was typed to the nouns of a run: ``Request`` (what is wanted), ``Settings`` (this machine)."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from infinite_talk import (
    APG,
    Box,
    Compile,
    EasyCache,
    InputError,
    LoRA,
    MagCache,
    Memory,
    ModelFiles,
    Request,
    Settings,
    Speaker,
    TeaCache,
    UsageError,
)

from .config import Options, StepCacheName

SILENT = {"none", "-"}
"""Words that stand for "no recording" or "no box" in the list of a silent or unmarked person."""

_RENAMED = {"layout": "audio_layout"}
_NUMBERS = {"cache_threshold": "threshold", "cache_longest": "longest", "cache_retention": "retention"}
"""Option -> field of a step cache."""
_CACHES = {
    StepCacheName.TEACACHE: TeaCache,
    StepCacheName.MAGCACHE: MagCache,
    StepCacheName.EASYCACHE: EasyCache,
}
_COMPOSED = {"apg", "apg_momentum", "apg_norm", "teacache", "step_cache", *_NUMBERS}


@dataclass(frozen=True, slots=True)
class Files:
    """The media named on the command line; lists are per speaker, in order."""

    image: Path | None = None
    video: Path | None = None
    audios: tuple[str, ...] = ()
    boxes: tuple[str, ...] = ()
    masks: tuple[str, ...] = ()


def build_request(files: Files, options: Options, base: Request | None = None) -> Request:
    """The request of this run; what is not said is taken from ``base`` (a job file or an earlier recipe).

    Raises:
        UsageError: a combination that has no meaning.
        InputError: a file that is not there.
    """
    base = base or Request()
    fields = _fields(options, Request) | _composed(options, base)
    if files.image and files.video:
        raise UsageError("Give --image or --video, not both.")
    if files.image or files.video:
        fields |= {"image": files.image, "video": files.video}
    if files.audios or files.boxes or files.masks:
        fields["speakers"] = _speakers(files, base)
    request = dataclasses.replace(base, **fields)
    _check(request)
    return request


def planned(files: Files, options: Options) -> Request:
    """The request of a plan: as for a run, but picture and sound may be missing."""
    if (files.image or files.video) and files.audios:
        return build_request(files, options)
    if files.image and files.video:
        raise UsageError("Give --image or --video, not both.")
    speakers = tuple(Speaker(audio=None) for _ in files.audios)
    fields = _fields(options, Request) | _composed(options, Request())
    return dataclasses.replace(Request(), speakers=speakers, **fields)


def build_settings(options: Options, base: Settings | None = None) -> Settings:
    """How this machine runs it."""
    base = base or Settings()
    given = options.given()
    memory = {name: given[name] for name in _names(Memory) & given.keys()}
    files = {field: given[option] for option, field in _FILES.items() if option in given}
    fields = _fields(options, Settings) | {
        "memory": dataclasses.replace(base.memory, **memory),
        "files": dataclasses.replace(base.files, **files),
    }
    if "compile" in given:
        fields["compile"] = (base.compile or Compile()) if given["compile"] else None
    if "models_dir" in given:
        fields["models_dirs"] = given["models_dir"]
    if "lora" in given:
        merge = given.get("merge_loras", True)
        fields["loras"] = tuple(parse_lora(text, merge=merge) for text in given["lora"])
    return dataclasses.replace(base, **fields)


_FILES = {
    "transformer": "transformer",
    "adapter": "adapter",
    "vae": "vae",
    "tiny_vae": "tiny_vae",
    "text_encoder": "text",
    "tokenizer": "tokenizer",
    "image_encoder": "vision",
    "speech_encoder": "speech",
}
"""Option -> field of ``ModelFiles``."""


def parse_lora(text: str, *, merge: bool = True) -> LoRA:
    """``"a.safetensors"``, ``"a.safetensors:0.8"``, or a strength for each step: ``"a.safetensors:1,1,0.5"``."""
    found = _STRENGTHS.search(text)
    if not found:  # a colon may also be part of a file's name
        return LoRA(path=Path(text).expanduser(), merge=merge)
    path = Path(text[: found.start()]).expanduser()
    numbers = tuple(float(number) for number in found[1].split(","))
    if len(numbers) > 1:
        return LoRA(path=path, strength=numbers, merge=False)
    return LoRA(path=path, strength=numbers[0], merge=merge)


_NUMBER = r"[+-]?(?:\d+\.?\d*|\.\d+)"
_STRENGTHS = re.compile(rf":({_NUMBER}(?:,{_NUMBER})*)$")


def parse_box(text: str) -> Box | None:
    """``"left,top,right,bottom"`` in pixels of the source, or ``none``."""
    if text.strip().lower() in SILENT:
        return None
    try:
        left, top, right, bottom = (float(part) for part in text.split(","))
    except ValueError:
        raise UsageError(
            f"--box wants left,top,right,bottom in pixels, got {text!r}; for example 40,60,320,400."
        ) from None
    return Box(left, top, right, bottom)


def _fields(options: Options, target: type[Request] | type[Settings]) -> dict[str, Any]:
    """The given options that are fields of ``target``, under the field's name."""
    names = _names(target)
    given = {_RENAMED.get(n, n): v for n, v in options.given().items() if n not in _COMPOSED}
    return {name: value for name, value in given.items() if name in names}


def _names(target: type[Request] | type[Settings] | type[Memory] | type[ModelFiles]) -> set[str]:
    return {field.name for field in dataclasses.fields(target)}


def _composed(options: Options, base: Request) -> dict[str, Any]:
    """Options that together make one value of the request."""
    fields: dict[str, Any] = {}
    if options.apg is False:
        fields["apg"] = None
    elif options.apg or options.apg_momentum is not None or options.apg_norm is not None:
        apg = base.apg or APG()
        if options.apg_momentum is not None:
            apg = dataclasses.replace(apg, momentum=options.apg_momentum)
        if options.apg_norm is not None:
            apg = dataclasses.replace(apg, norm_threshold=options.apg_norm)
        fields["apg"] = apg
    return fields | _step_cache(options, base)


def _step_cache(options: Options, base: Request) -> dict[str, Any]:
    """The step cache, where any option is about it; numbers that are not said stay those of ``base``."""
    name, given = options.step_cache, options.given()
    numbers = {option: given[option] for option in _NUMBERS if option in given}
    if options.teacache is not None:
        if name is not None or numbers:
            raise UsageError("Give --teacache or --step-cache with its numbers, not both.")
        return {"step_cache": TeaCache(threshold=options.teacache) if options.teacache > 0 else None}
    if name is StepCacheName.NONE:
        return {"step_cache": None}
    if name is None and not numbers:
        return {}
    cache = base.step_cache
    if name is not None and not isinstance(cache, _CACHES[name]):
        cache = _CACHES[name]()
    if cache is None:
        known = ", ".join(_CACHES)
        raise UsageError(
            f"{_flag(next(iter(numbers)))} is for a step cache: choose {known} with --step-cache."
        )
    for option in numbers:
        if not hasattr(cache, _NUMBERS[option]):
            raise UsageError(
                f"{_flag(option)} has no meaning for {type(cache).__name__.lower()}; leave it out."
            )
    return {"step_cache": dataclasses.replace(cache, **{_NUMBERS[o]: value for o, value in numbers.items()})}


def _flag(option: str) -> str:
    return f"--{option.replace('_', '-')}"


def _speakers(files: Files, base: Request) -> tuple[Speaker, ...]:
    audios: Sequence[Path | None] = [None if a.lower() in SILENT else Path(a) for a in files.audios]
    audios = audios or [speaker.audio for speaker in base.speakers]
    boxes = [parse_box(text) for text in files.boxes]
    masks = [None if m.lower() in SILENT else Path(m) for m in files.masks]
    for name, given in (("--box", boxes), ("--mask", masks)):
        if given and len(given) != len(audios):
            raise UsageError(
                f"{len(given)} {name} for {len(audios)} --audio: give one for each speaker, in the same "
                f"order; the word none leaves one out."
            )
    return tuple(
        Speaker(audio=audio, box=boxes[i] if boxes else None, mask=masks[i] if masks else None)
        for i, audio in enumerate(audios)
    )


def _check(request: Request) -> None:
    """What is missing, in the words of the command line; the engine checks everything else."""
    if not (request.image or request.video):
        raise UsageError(
            "Nothing to animate: give --image portrait.png (or --video take.mp4 to dub a video)."
        )
    if not request.speakers:
        raise UsageError("Nothing to say: give --audio speech.wav (once for each speaker).")
    for flag, path in _paths(request):
        if not path.is_file():
            what = "this is not a regular file" if path.exists() else "there is no such file"
            raise InputError(f"{flag} {path}: {what}.", code="file_not_found")


def _paths(request: Request) -> list[tuple[str, Path]]:
    found = [("--image", request.image), ("--video", request.video)]
    for speaker in request.speakers:
        found += [("--audio", speaker.audio), ("--mask", speaker.mask)]
    return [(flag, path) for flag, path in found if path is not None]
