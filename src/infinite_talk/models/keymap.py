"""Immutable maps between the names in a published checkpoint and those of our modules, both ways."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar, cast

import torch
from torch import Tensor

from infinite_talk.errors import CheckpointError
from infinite_talk.ops.linear import Packed

V = TypeVar("V", bound=Tensor | Packed)
"""Plain tensors, or plain and packed ones."""


@dataclass(frozen=True, slots=True)
class Entry:
    """Where one of our tensors is stored."""

    stored: str
    part: int = 0  # which of the equal ``parts`` of the stored tensor along its first axis
    parts: int = 1
    dropped: int = 0  # leading axes of size 1 that ours lacks

    def take(self, stored: V) -> V:
        """Our tensor out of the stored one; a view, except that a packed one is unpacked to be cut."""
        if self.parts == 1 and not self.dropped:
            return stored
        tensor = stored.unpack() if isinstance(stored, Packed) else cast(Tensor, stored)
        for _ in range(self.dropped):
            tensor = tensor.squeeze(0)
        return cast(V, tensor.chunk(self.parts)[self.part] if self.parts > 1 else tensor)

    def shape(self, stored: tuple[int, ...]) -> tuple[int, ...]:
        """Shape of our tensor; ``()`` when the stored one cannot hold it."""
        shape = stored[self.dropped :]
        if any(size != 1 for size in stored[: self.dropped]):
            return ()
        if self.parts == 1:
            return shape
        return (shape[0] // self.parts, *shape[1:]) if shape and shape[0] % self.parts == 0 else ()


@dataclass(frozen=True, slots=True)
class KeyMap:
    """One dialect of checkpoints: our name -> where it is stored, and what is stored but not needed."""

    dialect: str
    entries: Mapping[str, Entry]
    ignored: tuple[str, ...] = ()  # beginnings of stored names
    part: str = ""  # what the entries make up, for messages, e.g. "transformer"

    @property
    def stored(self) -> frozenset[str]:
        """All stored names that are read."""
        return frozenset(entry.stored for entry in self.entries.values())

    def differences(self, names: Iterable[str]) -> tuple[list[str], list[str]]:
        """``(missing, unexpected)`` of the names in a file, sorted."""
        wanted, there = self.stored, set(names)
        unexpected = (name for name in there - wanted if not name.startswith(self.ignored))
        return sorted(wanted - there), sorted(unexpected)

    def read(self, tensors: Mapping[str, V], source: str = "The checkpoint") -> Mapping[str, V]:
        """The tensors of a checkpoint under our names, taken when asked for.

        Args:
            source: what to call the checkpoint in an error message.

        Raises:
            CheckpointError: a stored name is missing, or one is there that is neither needed nor ignored.
        """
        missing, unexpected = self.differences(tensors)
        if missing or unexpected:
            kind = f"{self.part} in the {self.dialect} dialect" if self.part else self.dialect
            raise CheckpointError(
                f"{source} is not a complete {kind}: {_some('missing', missing)}; "
                f"{_some('unexpected', unexpected)}. Check that it belongs to this model and configuration.",
                code="checkpoint_mismatch",
            )
        return _Mapped(tensors, self.entries)

    def write(self, ours: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The inverse of ``read``: our tensors under the stored names; what was ignored is not there."""
        pieces: dict[str, dict[int, Tensor]] = {}
        dropped: dict[str, int] = {}
        for name, entry in self.entries.items():
            pieces.setdefault(entry.stored, {})[entry.part] = ours[name]
            dropped[entry.stored] = entry.dropped
        whole = {
            name: torch.cat([parts[i] for i in sorted(parts)]) if len(parts) > 1 else parts[0]
            for name, parts in pieces.items()
        }
        return {name: tensor[(None,) * dropped[name]] for name, tensor in whole.items()}


def unchanged(mapping: KeyMap) -> KeyMap:
    """The dialect of our own modules, as their ``state_dict`` is saved."""
    return KeyMap("own", {name: Entry(name) for name in mapping.entries}, part=mapping.part)


def choose(maps: Iterable[KeyMap], stored: Iterable[str]) -> KeyMap:
    """The dialect with fewest names missing or unexpected; if none fits, it says best what is wrong."""
    names = frozenset(stored)

    def distance(candidate: KeyMap) -> int:
        missing, unexpected = candidate.differences(names)
        return len(missing) + len(unexpected)

    return min(maps, key=distance)


def _some(heading: str, names: list[str]) -> str:
    some = f" ({', '.join(names[:5])}{', ...' if len(names) > 5 else ''})" if names else ""
    return f"{len(names)} {heading}{some}"


class _Mapped(Mapping[str, V], Generic[V]):
    """A checkpoint seen through a map."""

    def __init__(self, tensors: Mapping[str, V], entries: Mapping[str, Entry]) -> None:
        self._tensors, self._entries = tensors, entries

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shapes without reading tensors, when the checkpoint knows its own."""
        known = getattr(self._tensors, "shapes", None)
        if not isinstance(known, dict):
            known = {name: tuple(tensor.shape) for name, tensor in self._tensors.items()}
        return {name: entry.shape(known[entry.stored]) for name, entry in self._entries.items()}

    @property
    def packed_sizes(self) -> dict[str, int]:
        """Bytes of the weights that come packed, when the checkpoint knows them."""
        known: Mapping[str, int] = getattr(self._tensors, "packed_sizes", {})
        return {n: known[e.stored] // e.parts for n, e in self._entries.items() if e.stored in known}

    def __getitem__(self, name: str) -> V:
        entry = self._entries[name]
        return entry.take(self._tensors[entry.stored])

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)
