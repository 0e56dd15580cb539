"""``Recipe``: everything a video was made from and with, as JSON inside the file, enough to make it again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import av
from pydantic import TypeAdapter, ValidationError

from infinite_talk.errors import InputError
from infinite_talk.media.durable import sha256_of
from infinite_talk.request import Request
from infinite_talk.types import FPS, Plan, Size
from infinite_talk.version import __version__

Json = Any  # null, bool, number, string, list or object; mypy has no recursive alias that stays readable

SCHEMA = 1
"""Grows when the JSON changes in a way that older programs would misread."""
MARK = "AI-generated video: the picture and its speech movements were made by a computer model."
SOURCE_TYPE = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
"""IPTC's name for pictures that a trained model has made."""
_HASH = "sha256:"
_PARTS = ("request", "picture", "plan", "machine", "model", "versions", "options")


@dataclass(frozen=True, slots=True)
class Machine:
    """How the models ran, as far as sums depend on it, and the quality of the file."""

    device: str  # "cpu" or "cuda"
    precision: str
    threads: int | None
    crf: int  # H.264 quality, 0..51
    quantization: str = "disabled"  # what ran, as all of these; recipes of older versions lack them
    attention: str = "sdpa"
    decoder: str = "exact"  # or "tiled", "tiny"
    products: str = ""  # what is not torch's own choice: "tf32, fused qkv"


@dataclass(frozen=True, slots=True)
class InputFile:
    """A media file of the request. The name is for people; the hash decides."""

    name: str  # without its folder
    sha256: str


@dataclass(frozen=True, slots=True)
class Recipe:
    """The effective settings of one video. Files are named by their hash, so folders do not matter."""

    request: Mapping[str, Json]  # the resolved request; paths replaced by "sha256:..."
    inputs: tuple[InputFile, ...]
    picture: Mapping[str, int | float]  # height, width, fps, frames
    plan: Mapping[str, Json]  # number of windows, and a hash over all of their fields
    machine: Machine
    model: Mapping[str, str]
    versions: Mapping[str, str]
    paths: Mapping[str, str] = field(default_factory=dict, compare=False)  # hash: where the file was
    options: Mapping[str, Json] = field(
        default_factory=dict
    )  # what a request has no field for; see NodeOptions

    @classmethod
    def of(
        cls,
        request: Request,
        *,
        size: Size,
        plan: Plan,
        machine: Machine,
        model: Mapping[str, str],
        rate: float = FPS,
        options: Mapping[str, Json] | None = None,
    ) -> Recipe:
        """Record a resolved request. Reads every input file once, for its hash.

        Args:
            request: with all defaults filled in.
            size: of the generated picture.
            plan: its windows.
            machine: what was chosen, not "auto".
            model: name and hash of the weights.
            rate: frames per second of the file.
            options: of the nodes, where they make the video.

        Raises:
            InputError: an input file cannot be read.
        """
        files = {path: _hash_input(path) for path in sorted(_paths(asdict(request)))}
        written = TypeAdapter(Request).dump_python(request, mode="json")
        named = {str(path): _HASH + digest for path, digest in files.items()}
        inputs = {digest: InputFile(path.name, digest) for path, digest in files.items()}
        return cls(
            request=_replace_paths(written, asdict(request), named),
            inputs=tuple(inputs.values()),
            picture={"height": size.height, "width": size.width, "fps": rate, "frames": plan.length},
            plan={"windows": len(plan.windows), "sha256": plan_hash(plan)},
            machine=machine,
            model=dict(model),
            versions={"infinite_talk": __version__, "torch": _version("torch"), "av": _version("av")},
            paths={digest: str(path.absolute()) for path, digest in files.items()},
            options=dict(options or {}),
        )

    @classmethod
    def from_file(cls, path: Path) -> Recipe:
        """Read the recipe of a video that this program has made, or of the JSON file beside it.

        Where the input files were is known to the JSON file only; for a video it is consulted if it is there.

        Raises:
            InputError: there is no recipe in it, or a newer program's.
        """
        if path.suffix.lower() == ".json":
            return cls.from_json(_parse(path, _text(path)).get("recipe"), path)
        recipe = cls.from_json(_parse(path, _comment(path)), path)
        beside = sidecar_of(path)
        if beside.is_file():
            told = cls.from_json(_parse(beside, _text(beside)).get("recipe"), beside)
            if told.digest == recipe.digest:
                return told
        return recipe

    @classmethod
    def from_json(cls, data: Json, origin: Path) -> Recipe:
        """The inverse of :meth:`to_json`; ``origin`` is for the error message."""
        if not isinstance(data, dict) or "infinite_talk_recipe" not in data:
            raise _no_recipe(origin)
        form = data["infinite_talk_recipe"]
        if form != SCHEMA:
            raise InputError(
                f"{origin} holds a recipe of form {form}, expected {SCHEMA}. Update infinite-talk.",
                code="recipe_version",
            )
        try:
            return TypeAdapter(cls).validate_python({k: v for k, v in data.items() if k in cls.__slots__})
        except ValidationError as error:
            raise _no_recipe(origin) from error

    def to_json(self, *, paths: bool = False) -> dict[str, Json]:
        """Plain JSON; the folders of the input files only when asked for, as they tell about their owner."""
        data = {"infinite_talk_recipe": SCHEMA, "ai_generated": True, "digital_source_type": SOURCE_TYPE}
        data |= json.loads(json.dumps(asdict(self)))
        if not paths:
            del data["paths"]
        if not self.options:
            del data["options"]
        return data

    @property
    def digest(self) -> str:
        """SHA-256 over all that affects pixels. Names of files do not."""
        data = self.to_json()
        return _digest({part: data[part] for part in _PARTS if part in data})

    def differences(self, other: Recipe) -> list[str]:
        """What affects pixels and is not the same, as ``"steps: 10 here, 8 there"``; ``other`` is there."""
        ours, theirs = (dict(_flat({p: r.to_json().get(p, {}) for p in _PARTS})) for r in (self, other))
        changed = sorted(key for key in ours.keys() | theirs.keys() if ours.get(key) != theirs.get(key))
        return [_difference(key, ours.get(key), theirs.get(key)) for key in changed]

    def to_request(self, folders: Iterable[Path] = ()) -> Request:
        """The request, its input files found again and their contents verified.

        Args:
            folders: where to look for the files by name, besides the places where they were.

        Raises:
            InputError: a file is not found, or another one has its name; or the video was made by nodes with options
                that a request does not have (``recipe_options``).
        """
        if self.options:
            raise InputError(
                f"The video was made with options that only the nodes have ({', '.join(sorted(self.options))}). Order "
                "it again from the service or its page.",
                code="recipe_options",
            )
        looked = list(folders)
        found = {_HASH + file.sha256: str(self._find(file, looked)) for file in self.inputs}
        try:
            return TypeAdapter(Request).validate_python(_fill_paths(self.request, found))
        except ValidationError as error:
            raise InputError(f"The recipe's request is damaged: {error.error_count()} fields.") from error

    def _find(self, file: InputFile, folders: list[Path]) -> Path:
        places = [Path(self.paths[file.sha256])] if file.sha256 in self.paths else []
        places += [folder / file.name for folder in folders]
        there = [place for place in places if place.is_file()]
        for place in there:
            if _hash_input(place) == file.sha256:
                return place
        state = "is not the same file any more" if there else "was not found"
        looked = ", ".join(str(place) for place in places) or "no folder"
        raise InputError(
            f"The input file {file.name} {state} (looked at {looked}). Put the original file there.",
            code="recipe_input",
        )

    def tags(self, title: str) -> dict[str, str]:
        """Metadata for the mp4 file. The same for every run of the recipe: no times, no places."""
        comment = json.dumps(self.to_json(), sort_keys=True, separators=(",", ":"))
        return {"title": title, "description": MARK, "comment": comment}


def read_recipe(path: Path) -> Request:
    """The request that made a video: everything needed to make it again.

    The input files are looked for where they were, and beside the video.

    Args:
        path: an mp4 file made by this program, or the JSON file beside it.

    Raises:
        InputError: there is no recipe in it, or an input file is gone or another one now.
    """
    return Recipe.from_file(path).to_request([path.parent])


def sidecar_of(video: Path) -> Path:
    """The JSON file beside a video."""
    return video.with_name(video.name + ".json")


def plan_hash(plan: Plan) -> str:
    """SHA-256 over all fields of all windows."""
    return _digest(asdict(plan))


def _hash_input(path: Path) -> str:
    try:
        return sha256_of(path)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}.", code="unreadable") from error


def _digest(data: Json) -> str:
    return hashlib.sha256(json.dumps(data, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


@lru_cache
def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "unknown"


def _paths(value: object) -> set[Path]:
    """All paths in a nest of dictionaries and sequences."""
    if isinstance(value, Path):
        return {value}
    inner: Iterable[object] = ()
    if isinstance(value, Mapping):
        inner = value.values()
    elif isinstance(value, (list, tuple)):
        inner = value
    return set().union(*map(_paths, inner))


def _replace_paths(written: Json, original: object, names: Mapping[str, str]) -> Json:
    """``written`` (JSON) with a name wherever ``original`` has a path."""
    if isinstance(original, Path):
        return names[str(original)]
    if isinstance(original, Mapping):
        return {key: _replace_paths(written[key], value, names) for key, value in original.items()}
    if isinstance(original, (list, tuple)):
        return [_replace_paths(one, other, names) for one, other in zip(written, original, strict=True)]
    return written


_PATH_FIELDS = {"image", "video", "audio", "mask"}


def _fill_paths(written: Json, places: Mapping[str, str], key: str = "") -> Json:
    """The inverse; only fields that hold paths are looked at, a prompt may say what it likes."""
    if isinstance(written, Mapping):
        return {name: _fill_paths(value, places, name) for name, value in written.items()}
    if isinstance(written, (list, tuple)):
        return [_fill_paths(value, places) for value in written]
    return places.get(written, written) if key in _PATH_FIELDS and isinstance(written, str) else written


def _flat(data: Json, prefix: str = "") -> Iterator[tuple[str, Json]]:
    """Leaves with dotted names."""
    if isinstance(data, Mapping):
        for key, value in data.items():
            yield from _flat(value, f"{prefix}{key}.")
    elif isinstance(data, (list, tuple)) and data:
        for number, value in enumerate(data):
            yield from _flat(value, f"{prefix}{number + 1}.")
    else:
        yield prefix.rstrip("."), data


def _difference(key: str, ours: Json, theirs: Json) -> str:
    name = key.removeprefix("request.")
    if any(isinstance(value, str) and value.startswith(_HASH) for value in (ours, theirs)):
        return f"{name}: another file"
    if name.endswith("sha256"):
        return f"{name.removesuffix('sha256').rstrip('.')}: another one"
    return f"{name}: {ours!r} here, {theirs!r} there"


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise _no_recipe(path) from error


def _comment(path: Path) -> str:
    """The comment tag of an mp4 file. The format is given, so that nothing but mp4 is ever parsed."""
    try:
        with path.open("rb") as file, av.open(file, format="mp4") as container:
            return str(container.metadata.get("comment", ""))
    except (OSError, ValueError, av.FFmpegError) as error:
        raise _no_recipe(path) from error


def _parse(path: Path, text: str) -> dict[str, Json]:
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _no_recipe(path) from error
    if not isinstance(data, dict):
        raise _no_recipe(path)
    return data


def _no_recipe(path: Path) -> InputError:
    return InputError(
        f"{path} holds no recipe: expected an mp4 file made by infinite-talk, or the .json file beside it.",
        code="no_recipe",
    )
