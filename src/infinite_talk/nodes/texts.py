"""What every node and input does, in English and Chinese, and what differs from the pack whose names they have."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from typing import Any


@dataclass(frozen=True, slots=True)
class Text:
    """The same in two languages."""

    en: str
    zh: str


def tooltip(node: str, name: str) -> Text | None:
    """What an input does: as said for this node, else for all inputs of this name."""
    texts, key = _texts(), _general(name)
    own = texts["nodes"].get(node, {}).get("inputs", {})
    found = own.get(name) or texts["inputs"].get(key)
    return Text(*found) if found else None


def description(node: str) -> Text | None:
    """What a node does."""
    found = _texts()["descriptions"].get(node)
    return Text(*found) if found else None


def differences(node: str) -> Mapping[str, str]:
    """What differs from the other pack, by input; ``node`` is the node as a whole. English."""
    found: Mapping[str, str] = _differences().get(node, {})
    return found


def all_differences() -> Mapping[str, Mapping[str, str]]:
    """The whole table by node."""
    return _differences()


def _general(name: str) -> str:
    """The switches of a LoRA's blocks have one text."""
    return "blocks.*" if name.startswith("blocks.") else name


@lru_cache
def _texts() -> dict[str, Any]:
    return _read("texts.toml")


@lru_cache
def _differences() -> dict[str, Any]:
    return _read("differences.toml")


def _read(name: str) -> dict[str, Any]:
    return tomllib.loads(files("infinite_talk.nodes").joinpath(name).read_text("utf-8"))
