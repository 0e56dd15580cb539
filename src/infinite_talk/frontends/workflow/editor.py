"""The editor's form of a workflow: what stands on the canvas, with wires by number and values without names.

Reading takes away what only the canvas has: notes, reroutes, named wires (SetNode, GetNode), values in boxes of
their own (PrimitiveNode), muted and bypassed nodes. What is left are nodes and the links between them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from infinite_talk import InputError

from .declared import Classes, declaration, fits
from .graph import Graph, Link, Node, Value
from .widgets import named_values

NOTES: Final = frozenset(
    {
        *("Note", "MarkdownNote", "Label (rgthree)", "Bookmark (rgthree)"),
        *("Fast Groups Muter (rgthree)", "Fast Groups Bypasser (rgthree)"),
        *("Fast Muter (rgthree)", "Fast Bypasser (rgthree)"),
    }
)
"""What stands on the canvas for people only; the modes that the switches among them have set are in the nodes."""
WIRES: Final = frozenset({"SetNode", "GetNode", "Reroute", "PrimitiveNode"})
MUTED, BYPASSED = 2, 4
"""Modes of a node: it does not run; it hands on what it was given."""
_MAX_HOPS: Final = 1000

Box = Mapping[str, Any]
"""A node as the file has it."""


@dataclass(frozen=True, slots=True)
class Nowhere:
    """Where a wire ends that leads to nothing, and why."""

    why: str


def read_editor(data: Mapping[str, Any], classes: Classes) -> Graph:
    """Read a canvas.

    Raises:
        InputError: ``workflow_subgraph``, ``workflow_unsupported``.
    """
    canvas = _Canvas(data, classes)
    nodes = {}
    for key, box in canvas.boxes.items():
        if box["type"] in NOTES | WIRES or box.get("mode", 0) in (MUTED, BYPASSED):
            continue
        nodes[key] = canvas.node(key, box)
    return Graph(nodes, "editor", data)


class _Canvas:
    """Boxes and wires of one file."""

    def __init__(self, data: Mapping[str, Any], classes: Classes) -> None:
        self.boxes: dict[str, Box] = {}
        for box in data["nodes"]:
            if not isinstance(box, Mapping) or "id" not in box or not isinstance(box.get("type"), str):
                raise _unreadable("a node without id or type")
            self.boxes[str(box["id"])] = box
        self._wires = dict(map(_wire, data.get("links") or ()))
        self._classes = classes
        self._refuse_subgraphs(data)
        self._named = {_first_value(box): key for key, box in self.boxes.items() if box["type"] == "SetNode"}

    def _refuse_subgraphs(self, data: Mapping[str, Any]) -> None:
        subgraphs = (data.get("definitions") or {}).get("subgraphs") or ()
        names = {
            str(one.get("id")): str(one.get("name", "")) for one in subgraphs if isinstance(one, Mapping)
        }
        groups = (data.get("extra") or {}).get("groupNodes") or {}
        names |= {f"workflow/{name}": name for name in groups} | {f"workflow>{name}": name for name in groups}
        for key, box in self.boxes.items():
            if box["type"] in names:
                raise InputError(
                    f'Node {key} is the subgraph "{names[box["type"]]}", which is only read in the API form: '
                    "export the workflow with ComfyUI's Export (API), or unpack the subgraph and save again.",
                    code="workflow_subgraph",
                )

    def node(self, key: str, box: Box) -> Node:
        """One box as a node: its values by name, its wires as links."""
        title = str(box.get("title") or "")
        known = self._classes.get(box["type"])
        inputs: dict[str, Link | Value] = {}
        surplus: list[Value] = []
        if known is not None:
            recorded = [one["widget"].get("name", one["name"]) for one in _inputs(box) if one.get("widget")]
            inputs, surplus = named_values(box.get("widgets_values"), declaration(known), recorded)
        unreachable = {}
        for one in _inputs(box):
            if one.get("link") is None:
                continue
            found = self.origin(one["link"])
            if isinstance(found, Nowhere):
                unreachable[one["name"]] = found.why
            else:
                inputs[one["name"]] = found
        return Node(key, box["type"], title, inputs, tuple(surplus), unreachable)

    def origin(self, wire: int) -> Link | Value | Nowhere:
        """Where the value of a wire comes from, through everything that only hands it on."""
        for _ in range(_MAX_HOPS):
            if wire not in self._wires:
                return Nowhere(f"wire {wire} is not in the file")
            key, slot = self._wires[wire]
            box = self.boxes.get(key)
            if box is None:
                return Nowhere(f"node {key} is not in the file")
            if box["type"] == "PrimitiveNode":
                return _first_value(box)
            onward = self._onward(key, box, slot)
            if isinstance(onward, Link | Nowhere):
                return onward
            wire = onward
        raise _unreadable(f"wires that go in a circle at node {key}")

    def _onward(self, key: str, box: Box, slot: int) -> Link | Nowhere | int:
        """The next wire on the way, or the end of it."""
        label = f"node {key} ({box['type']})"
        if box["type"] == "GetNode":
            source = self._named.get(_first_value(box))
            if source is None:
                return Nowhere(f'nothing is stored as "{_first_value(box)}" for {label}')
            key, box = source, self.boxes[source]
            label = f"node {key} ({box['type']})"
        if box["type"] in ("SetNode", "Reroute"):
            wire = next((one["link"] for one in _inputs(box) if one.get("link") is not None), None)
            return Nowhere(f"{label} has nothing to hand on") if wire is None else int(wire)
        if box.get("mode", 0) == MUTED:
            return Nowhere(f"{label} is muted")
        if box.get("mode", 0) == BYPASSED:
            return self._around(box, slot, label)
        return Link(key, slot)

    def _around(self, box: Box, slot: int, label: str) -> Nowhere | int:
        """A bypassed node hands on the input at its output's place if the types agree, else the first that does."""
        outputs = box.get("outputs") or ()
        wanted = outputs[slot].get("type", "*") if slot < len(outputs) else "*"
        inputs = _inputs(box)
        ordered = inputs[slot : slot + 1] + inputs
        for one in ordered:
            if one.get("link") is not None and fits(str(one.get("type", "*")), str(wanted)):
                return int(one["link"])
        return Nowhere(f"{label} is bypassed and has no linked input of type {wanted} to hand on")


def _inputs(box: Box) -> list[Mapping[str, Any]]:
    return [one for one in box.get("inputs") or () if isinstance(one, Mapping) and "name" in one]


def _first_value(box: Box) -> Value:
    values = box.get("widgets_values")
    if isinstance(values, Mapping):
        values = list(values.values())
    return values[0] if isinstance(values, list) and values else None


def _wire(told: Any) -> tuple[int, tuple[str, int]]:  # noqa: ANN401 - JSON
    """``[wire, node, slot, to, to_slot, type]`` or the same as a table: the wire's number and where it begins."""
    try:
        if isinstance(told, Mapping):
            return int(told["id"]), (str(told["origin_id"]), int(told["origin_slot"]))
        return int(told[0]), (str(told[1]), int(told[2]))
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise _unreadable(f"the wire {told!r}") from error


def _unreadable(what: str) -> InputError:
    return InputError(
        f"The workflow holds {what} and cannot be read; open and save it again.", code="workflow_unsupported"
    )


def ignored(data: Mapping[str, Any]) -> Iterable[str]:
    """Ids of nodes that are muted or bypassed."""
    for box in data.get("nodes") or ():
        if box.get("mode", 0) in (MUTED, BYPASSED):
            yield str(box["id"])
