"""``Case``: one measurement that is asked for, and the files that list several."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

from infinite_talk.errors import UsageError
from infinite_talk.settings import Attention, Device, Precision, Quantization
from infinite_talk.types import Size


class What(StrEnum):
    """What is measured."""

    DIT = "dit"
    """A forward pass of the transformer, and a step of the loop."""
    VAE = "vae"
    """Decoding and encoding."""
    WINDOW = "window"
    """Whole windows, from the media to the mp4 on disk."""
    ATTENTION = "attention"
    """The attention kernel at the model's shapes."""
    LINEAR = "linear"
    """Products of the model's shapes in the chosen format."""
    LOAD = "load"
    """From the start of a process to the first step."""


class Rival(StrEnum):
    """Other programs that run in the same process."""

    DIFFUSERS = "diffusers"


FULL = "14b"
"""The published sizes, with random weights."""
EMBEDDED = "embedded"
SIZES = {"480p": Size(480, 832), "720p": Size(720, 1280), "640": Size(640, 640)}
"""Sizes by name, as the published tables call them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One measurement; ``None`` leaves the model's or the machine's own choice."""

    what: What = What.DIT
    name: str = ""
    model: str | None = None
    """``14b`` (default on a GPU), ``embedded`` (on a CPU), or a folder."""
    models_dir: Path | None = None
    """Where ``load`` looks for a model that is a name."""
    size: Size | None = None
    frames: int | None = None
    """Of a window, 4n+1."""
    windows: int = 1
    precision: Precision = Precision.AUTO
    quantization: Quantization = Quantization.DISABLED
    attention: Attention = Attention.AUTO
    steps: int | None = None
    branches: int = 1
    people: int = 1
    layers: int | None = None
    """Fewer layers than the model has; times of a whole model are then estimates."""
    repeats: int = 5
    warm_up: float | None = None
    """Seconds of work before the first measured one; default 2 on a GPU, 0 on a CPU."""
    ceiling: float | None = None
    """Seconds of load for each ceiling; default 2 on a GPU, 0.05 on a CPU."""
    device: Device = Device.AUTO
    profile: bool = False
    against: Rival | None = None
    compile: bool = False
    """The rival also compiled."""
    seed: int = 1

    def __post_init__(self) -> None:
        _between("branches", self.branches, 1, 3)
        _between("people", self.people, 1, 2)
        _between("repeats", self.repeats, 1, 1000)
        _between("windows", self.windows, 1, 1000)
        _between("steps", self.steps, 1, 1000)
        _between("layers", self.layers, 1, 1000)
        if self.frames is not None and (self.frames < 5 or (self.frames - 1) % 4):
            raise UsageError(f"A window of {self.frames} frames was asked for; expected 4n+1, such as 81.")
        for name in ("warm_up", "ceiling"):
            seconds = getattr(self, name)
            if seconds is not None and not 0 <= seconds <= 600:
                raise UsageError(f"{name} is {seconds:g} s; expected 0 to 600.")
        if self.against is not None and self.what is not What.DIT:
            raise UsageError(f"--against compares the transformer; it was asked with --what {self.what}.")

    @property
    def title(self) -> str:
        """Its name, or what it is."""
        return self.name or str(self.what)


def parse_size(text: str) -> Size:
    """``480p``, ``720p``, ``640`` or ``WxH`` in multiples of 16.

    Raises:
        UsageError: none of these.
    """
    if text in SIZES:
        return SIZES[text]
    found = re.fullmatch(r"(\d{1,5})x(\d{1,5})!?", text)
    if found is None or any(not int(side) or int(side) % 16 for side in found.groups()):
        raise UsageError(
            f"The size {text!r} is not known; expected {', '.join(SIZES)} or WxH in multiples of 16, such as 832x480."
        )
    return Size(int(found[2]), int(found[1]))


def read_cases(path: Path, base: Case) -> tuple[Case, ...]:
    """The cases of a TOML file: tables ``[[case]]`` whose keys are those of ``Case``, over ``[defaults]``.

    Args:
        base: what the file does not say.

    Raises:
        UsageError: the file cannot be read, or a key or value has no meaning.
    """
    try:
        found = tomllib.loads(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UsageError(f"The cases in {path} cannot be read: {error}. Give a TOML file.") from error
    rows = found.get("case", [])
    if unknown := sorted(set(found) - {"case", "defaults"}):
        raise UsageError(f"{path} has {unknown[0]!r}; expected [defaults] and [[case]].")
    if not isinstance(rows, list) or not rows:
        raise UsageError(f"{path} has no [[case]].")
    return tuple(case_of({**found.get("defaults", {}), **row}, base) for row in rows)


def case_of(values: Mapping[str, Any], base: Case) -> Case:
    """A case from plain values.

    Raises:
        UsageError: a name or value has no meaning.
    """
    known = {field.name for field in fields(Case)}
    if unknown := sorted(set(values) - known):
        raise UsageError(f"A case has {unknown[0]!r}; expected some of {', '.join(sorted(known))}.")
    return replace(base, **{name: _value(name, value) for name, value in values.items()})


_KINDS: Mapping[str, type[StrEnum]] = {
    "what": What,
    "precision": Precision,
    "quantization": Quantization,
    "attention": Attention,
    "device": Device,
    "against": Rival,
}


_PLAIN: Mapping[str, tuple[type, ...]] = {
    **dict.fromkeys(
        ("frames", "windows", "steps", "branches", "people", "layers", "repeats", "seed"), (int,)
    ),
    **dict.fromkeys(("warm_up", "ceiling"), (int, float)),
    **dict.fromkeys(("profile", "compile"), (bool,)),
    **dict.fromkeys(("name", "model", "models_dir", "size"), (str, Path)),
}


def _value(name: str, value: Any) -> Any:  # noqa: ANN401 - whatever TOML holds
    if name in _KINDS:
        return member(_KINDS[name], name, value)
    kinds = _PLAIN[name]
    if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
        raise UsageError(f"{name} is {value!r}; expected {' or '.join(kind.__name__ for kind in kinds)}.")
    if name == "size":
        return parse_size(str(value))
    return Path(str(value)) if name == "models_dir" else value


def member(kind: type[StrEnum], name: str, value: object) -> StrEnum:
    """The member of a choice.

    Raises:
        UsageError: there is none of that name.
    """
    try:
        return kind(str(value))
    except ValueError:
        raise UsageError(f"There is no {name} {value!r}. Choose one of: {', '.join(kind)}.") from None


def named(cases: Iterable[Case]) -> tuple[Case, ...]:
    """Cases with names that differ: numbered where two are alike."""
    found: list[Case] = []
    for case in cases:
        alike = sum(other.title == case.title or other.title.startswith(f"{case.title} (") for other in found)
        found.append(replace(case, name=f"{case.title} ({alike + 1})" if alike else case.title))
    return tuple(found)


def _between(name: str, value: int | None, low: int, high: int) -> None:
    if value is not None and not low <= value <= high:
        raise UsageError(f"{name} is {value}; expected {low} to {high}.")
