"""What any file is, for people: part, dialect, precision, and what is missing to use it. Headers only."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from infinite_talk.errors import CheckpointError
from infinite_talk.models.dit.keys import is_speech_key
from infinite_talk.models.keymap import KeyMap, choose
from infinite_talk.weights.builder import listed
from infinite_talk.weights.packing import Unpacked
from infinite_talk.weights.parts import Config, Part, config_of, dialects, part_of, refusal
from infinite_talk.weights.quanto import check_kinds, read_kinds
from infinite_talk.weights.sources import Tensors, open_tensors

_WORDS = {
    "F32": "fp32",
    "F16": "fp16",
    "BF16": "bf16",
    "F64": "fp64",
    "F8_E4M3": "fp8_e4m3fn",
    "F8_E5M2": "fp8_e5m2",
    "I8": "int8",
}
"""What people call the dtypes of weights; GGUF's types have their own names."""


@dataclass(frozen=True, slots=True)
class Share:
    """How much of a file is in one dtype."""

    dtype: str
    """``bf16``, ``fp8_e4m3fn``, ``Q4_K``, ..."""
    tensors: int
    nbytes: int


@dataclass(frozen=True, slots=True)
class Identified:
    """What a file is. ``part`` is ``None`` for what is of no use here; ``reason`` then says why."""

    files: tuple[Path, ...]
    part: Part | None = None
    dialect: str = ""
    """Whose names and packing: ``official``, ``kijai``, ``comfy``, ``diffusers``, ``lightx2v``, ``quanto``, ..."""
    precision: str = ""
    """Of most of its bytes, e.g. ``fp8_e4m3fn scaled``."""
    census: tuple[Share, ...] = ()
    """All dtypes, that of most bytes first."""
    config: Config | None = None
    """Sizes, of the part's own class; ``None`` for a LoRA."""
    has_speech: bool = False
    """Whether InfiniteTalk's or MultiTalk's speech branch is in it."""
    missing: str | None = None
    """What is missing to use it."""
    reason: str | None = None
    """Why it cannot be used."""
    code: str | None = None
    """Of the error that opening it would raise: ``checkpoint_corrupt``, ``checkpoint_mismatch``, ..."""
    notes: tuple[str, ...] = ()

    @property
    def tensors(self) -> int:
        """How many tensors the files hold."""
        return sum(share.tensors for share in self.census)

    @property
    def nbytes(self) -> int:
        """How many bytes they take."""
        return sum(share.nbytes for share in self.census)


def identify(*paths: Path, allow_pickle: bool = False) -> Identified:
    """What a file is, or several that belong together; a damaged or unknown one has a ``reason``."""
    found = Identified(files=tuple(paths))
    try:
        source = open_tensors(*paths, allow_pickle=allow_pickle)
        found = Identified(files=source.paths, census=census_of(source))
        return _identified(source, open_weights(source))
    except CheckpointError as error:
        return Identified(found.files, census=found.census, reason=error.message, code=error.code)


def open_weights(source: Tensors) -> Unpacked:
    """The weights of open files, packed ones put together and compared with the map beside them.

    Raises:
        CheckpointError: parts of weights are missing or of no known kind, or the map says otherwise.
    """
    title = title_of(source.paths)
    weights = Unpacked(source, title)
    maps = [kinds for path in source.paths if weights.quanto and (kinds := read_kinds(path)) is not None]
    if maps:
        check_kinds(weights.quanto, {name: kind for kinds in maps for name, kind in kinds.items()}, title)
    return weights


def _identified(source: Tensors, weights: Unpacked) -> Identified:
    part = part_of(weights.shapes)
    census = census_of(source)
    if (why := refusal(weights.shapes)) or part is None:
        reason = f"{title_of(source.paths)}: {why or 'no model that is known here'}."
        code = "checkpoint_mismatch" if why else "checkpoint_unknown"
        return Identified(source.paths, census=census, reason=reason, code=code)
    precision = precision_of(source, weights)
    if part is Part.LORA:
        return Identified(source.paths, part, "lora", precision, census, missing=_MISSING[part])
    config = config_of(part, weights.shapes, source.paths, config_beside(source))
    mapping = choose(dialects(part, config, weights), weights)
    has_speech = part in (Part.TRANSFORMER, Part.ADAPTER) and any(map(is_speech_key, mapping.entries))
    return Identified(
        files=source.paths,
        part=part,
        dialect=dialect_of(source, weights, mapping.dialect),
        precision=precision,
        census=census,
        config=config,
        has_speech=has_speech,
        missing=_missing(part, has_speech, mapping, weights),
        notes=notes_on(source, weights, mapping),
    )


_MISSING = {
    Part.LORA: "the model that it changes: give it with --lora",
    Part.ADAPTER: "a Wan2.1 image-to-video transformer of 14B; this is its speech branch: give it with --adapter",
    Part.TRANSFORMER: "the speech branch: add infinitetalk.safetensors (or MultiTalk) with --adapter",
}


def _missing(part: Part, has_speech: bool, mapping: KeyMap, weights: Unpacked) -> str | None:
    missing, unexpected = mapping.differences(weights)
    if missing or unexpected:
        parts = [
            listed(what, names) for what, names in (("missing", missing), ("unexpected", unexpected)) if names
        ]
        return f"it is not complete: {'; '.join(parts)}"
    if part is Part.ADAPTER or (part is Part.TRANSFORMER and not has_speech):
        return _MISSING[part]
    return None


def census_of(source: Tensors) -> tuple[Share, ...]:
    """How many tensors and bytes there are of each dtype."""
    count: dict[str, int] = {}
    nbytes: dict[str, int] = {}
    for name, dtype in source.dtypes.items():
        word = _WORDS.get(dtype, dtype)
        count[word] = count.get(word, 0) + 1
        nbytes[word] = nbytes.get(word, 0) + source.sizes[name]
    shares = [Share(word, count[word], nbytes[word]) for word in count]
    return tuple(sorted(shares, key=lambda share: -share.nbytes))


def precision_of(source: Tensors, weights: Unpacked) -> str:
    """The dtype of most bytes, e.g. ``bf16``, ``fp8_e4m3fn scaled``, ``nvfp4``, ``gguf Q4_K``."""
    most = next(iter(census_of(source)), Share("", 0, 0)).dtype
    if "gguf" in source.kinds:
        return f"gguf {most}"
    if most == "U8" and "nvfp4" in weights.dialects:
        return "nvfp4"
    return f"{most} scaled" if most.startswith("fp8") and weights.packed else most


def dialect_of(source: Tensors, weights: Unpacked, names: str) -> str:
    """Whose file it is: the container or the packing where these are somebody's own, else the names say it."""
    if "gguf" in source.kinds:
        return "gguf"
    packing = weights.dialects
    return {"scaled": "comfy", "nvfp4": "comfy"}.get(packing[0], packing[0]) if packing else names


def notes_on(source: Tensors, weights: Unpacked, mapping: KeyMap) -> tuple[str, ...]:
    """What a person may want to know about how the file is read."""
    notes = []
    kinds = [name.rpartition(".")[2] for name in weights.passed_over]
    kinds += [start for name in weights for start in mapping.ignored if name.startswith(start)]
    if kinds:
        notes.append(f"{len(kinds)} unused tensors passed over: {', '.join(sorted(set(kinds))[:5])}")
    if "pickle" in source.kinds:
        notes.append("a PyTorch pickle, read with torch's reader for tensors only; safetensors are safer")
    return tuple(notes)


def config_beside(source: Tensors) -> Mapping[str, Any] | None:
    """The ``config`` in the file's own metadata, or the ``config.json`` in its folder."""
    text = source.metadata.get("config")
    beside = source.paths[0].parent / "config.json"
    if text is None and beside.is_file():
        text = beside.read_text(encoding="utf-8", errors="replace")
    try:
        values = json.loads(text) if text else None
    except ValueError:
        return None
    return values if isinstance(values, dict) else None


def title_of(paths: tuple[Path, ...]) -> str:
    """The file's name, or that of the folder of several."""
    if not paths:
        return "nothing"
    return paths[0].name if len(paths) == 1 else f"{paths[0].parent.name} ({len(paths)} files)"
