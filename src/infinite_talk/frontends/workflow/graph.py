"""The graph of a workflow: nodes, what flows between them, and in which order they run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from infinite_talk import InputError

Value: TypeAlias = Any
"""A value of JSON that stands in a node: number, text, true or false."""


@dataclass(frozen=True, slots=True)
class Link:
    """What an input takes: output ``slot`` of ``node``."""

    node: str
    slot: int


@dataclass(frozen=True, slots=True)
class Node:
    """One node that does something; notes, reroutes and named wires are gone after reading."""

    id: str
    type: str
    title: str
    inputs: Mapping[str, Link | Value] = field(default_factory=dict)
    """Only what the workflow says; the rest is up to the node's declaration."""
    surplus: tuple[Value, ...] = ()
    """Values for which the node has no input."""
    unreachable: Mapping[str, str] = field(default_factory=dict)
    """Inputs whose wire leads nowhere, and why."""

    @property
    def name(self) -> str:
        """For messages: id, title where it has one, and type."""
        titled = f' "{self.title}"' if self.title and self.title != self.type else ""
        return f"node {self.id}{titled} ({self.type})"

    @property
    def links(self) -> dict[str, Link]:
        """The inputs that come from other nodes."""
        return {name: value for name, value in self.inputs.items() if isinstance(value, Link)}


@dataclass(frozen=True, slots=True)
class Graph:
    """All nodes of a workflow by id, in the order of the file, and the file's own JSON for the video's metadata."""

    nodes: Mapping[str, Node]
    form: str
    """``"editor"`` or ``"api"``."""
    source: Mapping[str, Value] = field(default_factory=dict)

    def as_prompt(self) -> dict[str, Any]:
        """The API form, which ComfyUI calls the prompt."""
        return {
            node.id: {
                "class_type": node.type,
                "inputs": {
                    name: [value.node, value.slot] if isinstance(value, Link) else value
                    for name, value in node.inputs.items()
                },
                "_meta": {"title": node.title},
            }
            for node in self.nodes.values()
        }

    def order(self, wanted: Iterable[str]) -> tuple[Node, ...]:
        """The nodes that ``wanted`` ones need, and they themselves, each after all that it takes something from.

        Raises:
            InputError: nodes that need each other in a circle, or a link to a node that is not there.
        """
        done: dict[str, Node] = {}
        for start in wanted:
            self._visit(start, done)
        return tuple(done.values())

    def _visit(self, start: str, done: dict[str, Node]) -> None:
        """Depth first, with a stack of its own: a long chain is no reason to fail."""
        path: list[str] = []
        stack = [(start, False)]
        while stack:
            current, leaving = stack.pop()
            if leaving:
                path.pop()
                done.setdefault(current, self.nodes[current])
                continue
            if current in done:
                continue
            if current in path:
                circle = " -> ".join([*path[path.index(current) :], current])
                raise InputError(
                    f"The workflow goes in a circle: nodes {circle}. Remove one of these links.",
                    code="workflow_circle",
                )
            node = self.nodes.get(current)
            if node is None:
                by = self.nodes[path[-1]].name if path else "the workflow"
                raise InputError(
                    f"{by} takes something from node {current}, which is not there. Save the workflow again.",
                    code="workflow_link",
                )
            path.append(current)
            stack.append((current, True))
            stack += [(link.node, False) for link in reversed(node.links.values())]
