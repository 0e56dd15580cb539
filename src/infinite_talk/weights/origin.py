"""Where in a file a tensor's bytes are, for whoever copies them elsewhere without looking at them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

_NAME = "infinite_talk_origin"


@dataclass(frozen=True, slots=True)
class Origin:
    """The tensor is the bytes of ``path`` from ``start`` on, contiguous."""

    path: Path
    start: int


def with_origin(tensor: Tensor, origin: Origin) -> Tensor:
    """Note the origin on a tensor that was mapped from a file; what is computed from it has none."""
    setattr(tensor, _NAME, origin)
    return tensor


def origin_of(tensor: Tensor) -> Origin | None:
    """The origin of a tensor, if it is known and the tensor is all of it."""
    found = getattr(tensor, _NAME, None)
    return found if isinstance(found, Origin) else None
