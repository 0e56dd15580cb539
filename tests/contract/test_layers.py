"""Imports go one way: frontends, engine, generate, the rooms, models, ops, nouns."""

from __future__ import annotations

import pytest

from tests.contract.source import Module, modules

NOUNS = {"types", "request", "sampling", "settings", "errors", "progress", "version"}
ROOMS = {"inputs", "conditioning", "plan", "denoise", "media", "lipsync"}
MAY_USE: dict[str, set[str]] = {
    **dict.fromkeys(NOUNS, NOUNS),
    "ops": {"errors", "settings", "types"},
    "models": {"ops"} | NOUNS,
    "plan": NOUNS,
    "presets": {"plan"} | NOUNS,
    "device": NOUNS,
    "inputs": {"plan"} | NOUNS,
    "media": {""} | NOUNS,  # the version goes into the recipe
    # It listens with the speech encoder that ships, and loads it itself: a consumer, as the engine is.
    "lipsync": {"media", "models", "weights"} | NOUNS,
    "rooms": {"models", "presets"} | NOUNS,
    "conditioning": {"models", "ops", "rooms", "plan", "inputs", "presets"} | NOUNS,
    "denoise": {"models", "ops", "presets", "plan"} | NOUNS,
    "memory": {"models", "ops"} | NOUNS,
    "weights": {"models", "ops", "presets", "rooms", "device", "memory"} | NOUNS,
    "generate": {"rooms", "presets", "models", "ops"} | ROOMS | NOUNS,
    "effective": {"device", "ops", "weights"} | NOUNS,
    "runtime": {"effective", "device", "memory", "models", "ops", "presets", "rooms", "weights"}
    | ROOMS
    | NOUNS,
    "engine": {"generate", "presets", "runtime", "weights", "bundled"} | ROOMS | NOUNS,
    "forecast": {"effective", "engine", "device", "memory", "models", "presets", "weights"} | ROOMS | NOUNS,
    "quality": {"engine", "lipsync", "media"} | NOUNS,
    # It measures everything but the front ends; nothing knows it but they.
    "benchmarks": {"device", "effective", "engine", "generate", "memory", "models", "ops", "presets", "rooms"}
    | {"runtime", "weights"}
    | ROOMS
    | NOUNS,
    # A front end in spirit: each node parses, calls the rooms, presents.
    "nodes": {
        "conditioning",
        "denoise",
        "device",
        "effective",
        "generate",
        "memory",
        "models",
        "ops",
        "presets",
    }
    | {"rooms", "runtime", "weights"}
    | ROOMS
    | NOUNS,
    "pipeline": {"nodes", "denoise", "inputs", "media"} | NOUNS,
    # Its worker is a consumer of the engine; its store knows nouns only.
    "jobs": {
        "denoise",
        "device",
        "engine",
        "forecast",
        "inputs",
        "lipsync",
        "media",
        "ops",
        "pipeline",
        "plan",
    }
    | {"presets", "quality", "runtime", "weights"}
    | NOUNS,
    "bundled": set(),
    "frontends": {"", "lipsync", "benchmarks", "frontends", "jobs", "nodes"},
    "__main__": {"frontends"},
}
"""What each room may import besides itself. ``weights`` knows modules; no room that makes a video knows ``weights``."""


@pytest.mark.parametrize("module", modules(), ids=lambda module: module.name)
def test_a_room_uses_only_rooms_below_it(module: Module):
    if not module.room:
        return  # the package itself re-exports the public names
    assert module.room in MAY_USE, (
        f"{module.room} is new: give it a place in MAY_USE and in docs/structure.md"
    )
    allowed = MAY_USE[module.room] | {module.room}
    wrong = [
        f"{module.path}:{line} imports {used or 'infinite_talk'}"
        for line, used in module.rooms_used()
        if used not in allowed
    ]
    assert not wrong, "\n".join(wrong)


def test_the_table_has_no_way_back():
    """No room can be reached from itself through others."""
    for start, used in MAY_USE.items():
        if start in NOUNS:
            continue
        seen: set[str] = set()
        ahead = [room for room in used if room not in (start, "")]
        while ahead:
            room = ahead.pop()
            if room not in seen:
                seen.add(room)
                ahead += MAY_USE.get(room, set())
        assert start not in seen, start


def test_the_reader_of_imports_sees_all_forms(tmp_path, monkeypatch):
    """The test of the test: absolute, relative, inside a function; not for type checkers only."""
    monkeypatch.setattr("tests.contract.source.PACKAGE", tmp_path)
    (tmp_path / "denoise").mkdir()
    (tmp_path / "lipsync").mkdir()
    file = tmp_path / "denoise" / "loop.py"
    file.write_text(
        "from typing import TYPE_CHECKING\n"
        "import infinite_talk.engine\n"
        "from ..media import colour\n"
        "from .noise import noise_for\n"
        "from infinite_talk import lipsync\n"
        "if TYPE_CHECKING:\n    import infinite_talk.frontends\n"
        "def f():\n    from infinite_talk.weights import build\n"
    )
    assert [room for _, room in Module(file).rooms_used()] == [
        "engine",
        "media",
        "denoise",
        "lipsync",
        "weights",
    ]
