"""What others have measured of Wan models for TeaCache and MagCache (``measured.json`` names the sources)."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any


@dataclass(frozen=True, slots=True)
class MeasuredSet:
    """Numbers of one model."""

    e: tuple[float, ...]
    """TeaCache polynomial of the time embedding, highest power first."""
    e0: tuple[float, ...]
    """TeaCache polynomial of the modulation."""
    ratios: tuple[float, ...]
    """MagCache ratios of the passes with the prompt, by step."""
    other_ratios: tuple[float, ...]
    """MagCache ratios of the passes without it."""
    shift: float
    """Of the schedule on which the ratios were measured."""


@cache
def measured_sets() -> dict[str, MeasuredSet]:
    """All sets by name."""
    read = json.loads((files("infinite_talk.denoise.caches") / "measured.json").read_text("utf-8"))
    return {name: _measured(values) for name, values in read["sets"].items()}


def _measured(values: dict[str, Any]) -> MeasuredSet:
    numbers: dict[str, Any] = {
        key: tuple(one) if isinstance(one, list) else one for key, one in values.items()
    }
    return MeasuredSet(**numbers)


def set_for(title: str, width: int) -> str | None:
    """The set for an image-to-video model; ``None``: nobody has measured a model of this size.

    Architecture first, then the size and version that its file name tells. A name that tells nothing is the 480p model.
    (The node pack takes the numbers of the text-to-video model then, which are wrong for every renamed file.)

    Args:
        title: name of the model's file.
        width: of its stream of tokens.
    """
    lower = title.lower()
    if width == _SMALL:
        return "1_3B"
    if width != _LARGE:
        return None
    if "high" in lower or "low" in lower:  # the two experts of Wan2.2
        return "i2v_14B_2.2"
    return "i2v_720" if "720" in lower else "i2v_480"


_SMALL, _LARGE = 1536, 5120
