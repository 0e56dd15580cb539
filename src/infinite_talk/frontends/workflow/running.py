"""Running a checked workflow: each node once, after all that it needs; results go when nobody needs them any more."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from infinite_talk import Cancelled, InfiniteTalkError

from .checking import Checked, Step
from .declared import Classes
from .graph import Link, Node

Listener = Callable[[int, int, Node, Mapping[str, Any]], None]
"""Told before each node: its place from 0, how many there are, the node, and what it is given."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of the nodes that others do not take from."""

    node: Node
    values: tuple[Any, ...]
    ui: Mapping[str, Any]
    """What the node says to its viewer."""


def run_graph(
    checked: Checked,
    classes: Classes,
    *,
    hidden: Mapping[str, Any] | None = None,
    listener: Listener | None = None,
) -> tuple[Outcome, ...]:
    """Run all steps.

    Args:
        checked: without problems, see ``Checked.require``.
        classes: node classes by type.
        hidden: values of hidden inputs by their type, such as ``PROMPT``; ``UNIQUE_ID`` is filled in.
        listener: hears of each node before it runs; what it raises stops the run.

    Returns:
        what the output nodes gave, in the order in which they ran.

    Raises:
        InfiniteTalkError: a node failed; the message begins with its id, title and type, the class is the node's own
            error's where it is one of ours.
    """
    waiting = Counter(link.node for step in checked.steps for link in _links(step))
    results: dict[str, tuple[Any, ...]] = {}
    outcomes = []
    for place, step in enumerate(checked.steps):
        arguments = {name: _given(value, results, step) for name, value in step.arguments.items()}
        for name, kind in step.declared.hidden.items():
            known = {**(hidden or {}), "UNIQUE_ID": step.node.id}
            if kind in known:
                arguments[name] = known[kind]
        if listener is not None:
            listener(place, len(checked.steps), step.node, arguments)
        for link in _links(step):
            waiting[link.node] -= 1
            if not waiting[link.node]:
                del results[link.node]
        values, ui = _run(step, classes, arguments)
        arguments.clear()
        if step.declared.is_output:
            outcomes.append(Outcome(step.node, values if not waiting[step.node.id] else (), ui))
        if waiting[step.node.id]:
            results[step.node.id] = values
    return tuple(outcomes)


def _links(step: Step) -> list[Link]:
    return [value for value in step.arguments.values() if isinstance(value, Link)]


def _given(value: Any, results: Mapping[str, tuple[Any, ...]], step: Step) -> Any:  # noqa: ANN401 - any node's value
    if not isinstance(value, Link):
        return value
    values = results[value.node]
    if value.slot >= len(values):
        raise InfiniteTalkError(
            f"{step.node.name} takes output {value.slot} of node {value.node}, which gave {len(values)} this time. "
            "Take another output.",
            code="workflow_link",
        )
    return values[value.slot]


def _run(
    step: Step, classes: Classes, arguments: dict[str, Any]
) -> tuple[tuple[Any, ...], Mapping[str, Any]]:
    """Call a node's method; its errors name the node."""
    try:
        instance = classes[step.node.type]()
        given = getattr(instance, step.declared.method)(**arguments)
    except Cancelled:
        raise
    except InfiniteTalkError as error:
        named = type(error)(f"{_begin(step.node)}: {error.message}", code=error.code)
        raise named from error
    except (KeyboardInterrupt, MemoryError):
        raise
    except Exception as error:
        if type(error).__name__ == "OutOfMemoryError":  # torch's; its meaning is known further out
            raise
        raise InfiniteTalkError(
            f"{_begin(step.node)} failed: {type(error).__name__}: {error}", code="node_failed"
        ) from error
    return _parts(given)


def _begin(node: Node) -> str:
    return node.name[0].upper() + node.name[1:]


def _parts(given: Any) -> tuple[tuple[Any, ...], Mapping[str, Any]]:  # noqa: ANN401
    """A node gives a tuple, nothing, or a table with ``result`` for others and ``ui`` for the viewer."""
    if given is None:
        return (), {}
    if isinstance(given, Mapping):
        return tuple(given.get("result", ())), given.get("ui", {})
    return (
        (tuple(given), {}) if isinstance(given, Sequence) and not isinstance(given, str) else ((given,), {})
    )
