"""Values of a node in the editor's form: a list in the order of the declaration, or a table by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .declared import CONTROLS, Declaration, Input

_OWN = frozenset({"videopreview", "preview", "audioUI", "upload", "control_after_generate"})
"""Names under which nodes keep what only the editor shows."""


def named_values(
    told: Any,  # noqa: ANN401 - JSON
    declared: Declaration,
    recorded: Sequence[str] = (),
) -> tuple[dict[str, Any], list[Any]]:
    """Give the values of one node their names.

    Args:
        told: ``widgets_values``.
        declared: of the node's class.
        recorded: names of the fields that the file itself lists, in its order; newer editors list all of them.

    Returns:
        values by name, and those that no input takes.
    """
    if isinstance(told, Mapping):
        known = {name: value for name, value in told.items() if _takes(declared, name)}
        surplus = [
            f"{name}={value!r}" for name, value in told.items() if name not in known and not _is_own(name)
        ]
        return known, surplus
    values = list(told or ())
    inputs = _inputs_in_order(declared, recorded, values)
    return _in_order(values, inputs)


def _takes(declared: Declaration, name: str) -> bool:
    return (name in declared.inputs and declared.inputs[name].widget) or name in declared.extra


def _is_own(name: str) -> bool:
    return name in _OWN or name.startswith("choose ")


def _inputs_in_order(declared: Declaration, recorded: Sequence[str], values: Sequence[Any]) -> list[Input]:
    """The file's own list where it names every value, which an older or newer declaration may not; else ours."""
    ours = list(declared.widgets)
    theirs = [declared.inputs[name] for name in recorded if name in declared.inputs]
    complete = len(theirs) == len(recorded) and _places(theirs) >= len(values) > 0
    return theirs if complete else ours


def _places(inputs: Sequence[Input]) -> int:
    return sum(1 + one.followers + one.seeded for one in inputs)


def _in_order(values: list[Any], inputs: Sequence[Input]) -> tuple[dict[str, Any], list[Any]]:
    named: dict[str, Any] = {}
    place = 0
    for one in inputs:
        if place >= len(values):
            break
        if values[place] is not None:
            named[one.name] = values[place]
        place += 1
        if one.seeded and place < len(values) and values[place] in CONTROLS:
            place += 1
        place += one.followers
    return named, [value for value in values[place:] if value is not None and value != ""]
