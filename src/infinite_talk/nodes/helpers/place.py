"""``Place``: where a workflow that runs without ComfyUI finds its files and leaves its results."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from infinite_talk.errors import InputError, UsageError

PLACE: Final = "INFINITE_TALK_PLACE"
"""Type of the hidden input through which a helper node is given its place."""
HIDDEN: Final = {"place": PLACE, "unique_id": "UNIQUE_ID"}


def _silent(_: str) -> None:
    """Tells nobody."""


@dataclass(frozen=True, slots=True)
class Place:
    """The files that nodes may read and write."""

    folders: tuple[Path, ...] = ()
    """Where the names of media in a workflow are looked for; nothing outside them is opened."""
    given: frozenset[Path] = frozenset()
    """Files named by the person who runs it, wherever they are."""
    outputs: Mapping[str, Path] = field(default_factory=dict)
    """Files to write by the id of the node that does."""
    tell: Callable[[str], None] = _silent
    """Takes lines for the person who runs it."""
    tags: Mapping[str, str] = field(default_factory=dict)
    """Metadata of videos."""
    follow_sound: bool = False
    """Cut videos that are longer than their sound: a talking video ends with the speech."""
    max_pixels: int = 40_000_000
    """Largest picture."""
    max_seconds: float = 6 * 3600.0
    """Longest recording."""
    max_bytes: int = 16 << 30
    """Most memory that the pictures of one film may take."""

    def find(self, name: str, what: str) -> Path:
        """The file that a workflow calls ``name``.

        Args:
            name: as it stands in the workflow, with folders or without; ``[input]`` at the end is left away.
            what: ``"image"``, ``"video"`` or ``"audio"``.

        Raises:
            InputError: ``<what>_not_found``; the message says where it was looked for.
            UsageError: the name leads out of the folders.
        """
        for ending in (" [input]", " [output]", " [temp]"):
            name = name.removesuffix(ending)
        path = Path(name.replace("\\", "/"))
        if path in self.given:
            return path
        if path.is_absolute() or ".." in path.parts or (len(name) > 1 and name[1] == ":"):
            raise UsageError(
                f"The workflow names the {what} file {name!r} outside its folders; give it with --{what} FILE "
                "if it is meant.",
                code="outside",
            )
        for folder in self.folders:
            # A name without its folder is looked for too: workflows travel, folders do not.
            for found in (folder / path, folder / path.name):
                if found.is_file():
                    return found
        places = ", ".join(map(str, self.folders)) or "nowhere, no folder is given"
        raise InputError(
            f"The {what} file {name!r} is not there (looked in {places}); put it there, or give --{what} FILE.",
            code=f"{what}_not_found",
        )

    def output(self, node: str | None, ending: str) -> Path | None:
        """The file that a node writes, with this ending; ``None`` if it is to write nothing."""
        path = self.outputs.get(node or "")
        return None if path is None else path.with_suffix(ending)


def placed(place: Any) -> Place:  # noqa: ANN401 - what stands in a hidden input
    """The place that a node was given; for a call without one, the current folder to read from."""
    return place if isinstance(place, Place) else Place(folders=(Path(),))
