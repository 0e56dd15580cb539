"""The API form of a workflow: nodes by id, inputs by name, a link is ``[id, slot]``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from infinite_talk import InputError

from .graph import Graph, Link, Node

IGNORED = frozenset({"Note", "MarkdownNote"})


def read_api(data: Mapping[str, Any]) -> Graph:
    """Read the nodes; bypassed and muted ones are not in this form."""
    nodes = {}
    for key, told in data.items():
        if told["class_type"] in IGNORED:
            continue
        inputs = told.get("inputs", {})
        if not isinstance(inputs, Mapping):
            raise InputError(
                f"Node {key} ({told['class_type']}) has no inputs by name; save the workflow again.",
                code="workflow_unsupported",
            )
        title = (told.get("_meta") or {}).get("title", "")
        nodes[key] = Node(
            key, str(told["class_type"]), str(title), {name: _value(one) for name, one in inputs.items()}
        )
    return Graph(nodes, "api", data)


def _value(told: Any) -> Any:  # noqa: ANN401 - JSON
    """A list of an id and a number is a link; a value that is a list stands in ``{"__value__": [...]}``."""
    if isinstance(told, Mapping) and set(told) == {"__value__"}:
        return told["__value__"]
    if (
        isinstance(told, list)
        and len(told) == 2
        and isinstance(told[1], int)
        and not isinstance(told[0], float)
    ):
        return Link(str(told[0]), told[1])
    return told
