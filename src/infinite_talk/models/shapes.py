"""What the names and shapes of a checkpoint tell: counts of layers, shapes of packed weights."""

from __future__ import annotations

from collections.abc import Mapping

from infinite_talk.errors import CheckpointError

Shapes = Mapping[str, tuple[int, ...]]
"""Shape of every tensor of a checkpoint by its stored name."""

_DATA = "._data"
"""Ending of a quantised weight's numbers in optimum-quanto; they have the shape of the weight."""


def whole_shapes(shapes: Shapes) -> dict[str, tuple[int, ...]]:
    """The shapes of the weights themselves, under their plain names, where a file stores them in parts."""
    return {name.removesuffix(_DATA): tuple(shape) for name, shape in shapes.items()}


def count_layers(shapes: Shapes, prefix: str) -> int:
    """How many layers ``<prefix>0.``, ``<prefix>1.``, ... there are: one more than the largest number."""
    numbers = (name.removeprefix(prefix).partition(".")[0] for name in shapes if name.startswith(prefix))
    return max((int(number) + 1 for number in numbers if number.isdecimal()), default=0)


def matrix(shapes: Shapes, name: str, dims: int = 2) -> tuple[int, ...]:
    """The shape of a tensor that must be there with so many axes.

    Raises:
        CheckpointError: it is missing, or has another number of axes.
    """
    found = shapes.get(name)
    if found is None or len(found) != dims:
        what = "is missing" if found is None else f"has the shape {found}, expected {dims} axes"
        raise CheckpointError(
            f"The tensor {name} {what}: the file is incomplete or belongs to another model. Download it again, "
            "or choose another.",
            code="checkpoint_mismatch",
        )
    return found
