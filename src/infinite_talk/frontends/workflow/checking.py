"""What is known about a workflow before anything is loaded: nodes, missing models, values and links that do not fit."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from typing import Any, Final, Literal

from infinite_talk import InfiniteTalkError, InputError, UsageError
from infinite_talk.nodes.helpers.place import Place
from infinite_talk.nodes.helpers.separation import WITHOUT, separator_file

from .assign import MEDIA
from .declared import ANY, MISSING, Classes, Declaration, Input, declaration, fits, value_for
from .graph import Graph, Link, Node

Kind = Literal["unknown_node", "missing_model", "missing_file", "value", "link", "input", "note"]


SEPARATOR: Final = "MelBandRoFormerModelLoader"
"""Runs without its file: see ``nodes/helpers/separation.py``."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing about one node."""

    kind: Kind
    node: str
    type: str
    title: str
    message: str
    """A sentence that names the node."""

    @property
    def fatal(self) -> bool:
        """Whether the workflow cannot run with it."""
        return self.kind != "note"


@dataclass(frozen=True, slots=True)
class Step:
    """One node as it will run."""

    node: Node
    declared: Declaration
    arguments: Mapping[str, Any]
    """Checked values and links by input; defaults stand where the workflow says nothing."""


@dataclass(frozen=True, slots=True)
class Checked:
    """A workflow that was looked through."""

    steps: tuple[Step, ...]
    """In the order in which they run; only what an output needs."""
    findings: tuple[Finding, ...]
    idle: tuple[Node, ...] = field(default=())
    """Nodes whose results nobody takes; they do not run, and nothing is demanded of them."""

    @property
    def problems(self) -> tuple[Finding, ...]:
        """Why it cannot run; nothing if it can."""
        return tuple(finding for finding in self.findings if finding.fatal)

    def require(self) -> None:
        """Raise what stands in the way.

        Raises:
            InputError: ``workflow`` with all problems, one a line.
        """
        if problems := self.problems:
            lines = "\n".join(f"- {one.message}" for one in problems)
            raise InputError(f"The workflow cannot run:\n{lines}", code=problems[0].kind)


def check_graph(graph: Graph, classes: Classes) -> Checked:
    """Look through a workflow.

    Raises:
        InputError: the nodes are in a circle, or link to nodes that are not there.
    """
    known = {
        name: declaration(classes[name])
        for name in {node.type for node in graph.nodes.values()} & set(classes)
    }
    unknown = [_unknown(node, classes) for node in graph.nodes.values() if node.type not in known]
    ends = [node.id for node in graph.nodes.values() if node.type in known and known[node.type].is_output]
    if not ends and not unknown:
        raise InputError(
            "The workflow has no node that writes or shows anything, such as VHS_VideoCombine; add one.",
            code="workflow_no_output",
        )
    order = graph.order(ends)
    steps, findings = [], list(unknown)
    for node in order:
        if node.type not in known:
            continue
        arguments, found = _arguments(node, known, graph, classes)
        findings += found
        steps.append(Step(node, known[node.type], arguments))
    used = {node.id for node in order}
    idle = tuple(node for node in graph.nodes.values() if node.id not in used and node.type in known)
    return Checked(tuple(steps), tuple(findings), idle)


def check_media(checked: Checked, place: Place) -> Checked:
    """The same with a finding for each media file that is not there."""
    found = []
    for step in checked.steps:
        for what, places in MEDIA.items():
            name = step.arguments.get(dict(places).get(step.node.type, ""))
            if not isinstance(name, str):
                continue
            try:
                place.find(name, what)
            except InfiniteTalkError as error:
                found.append(_finding("missing_file", step.node, f": {error.message}"))
    return replace(checked, findings=(*checked.findings, *found))


def note_separators(checked: Checked) -> Checked:
    """The same with a note for each vocal separator whose file is not there; when it runs, the node says so itself."""
    found = []
    for step in checked.steps:
        name = step.arguments.get("model_name") if step.node.type == SEPARATOR else None
        if isinstance(name, str) and separator_file(name) is None:
            found.append(_finding("note", step.node, f"finds no vocal separator ({name}); {WITHOUT}."))
    return replace(checked, findings=(*checked.findings, *found))


def _unknown(node: Node, classes: Classes) -> Finding:
    near = get_close_matches(node.type, list(classes), n=1)
    hint = f" Did you mean {near[0]}?" if near else ""
    return _finding(
        "unknown_node",
        node,
        f"of this type is not known here.{hint} Remove it, or bypass it in ComfyUI, and save again.",
    )


def _arguments(
    node: Node, known: Mapping[str, Declaration], graph: Graph, classes: Classes
) -> tuple[dict[str, Any], list[Finding]]:
    declared, found = known[node.type], list(_notes(node, known[node.type]))
    arguments: dict[str, Any] = {}
    for name, value in node.inputs.items():
        one = _input_for(declared, name)
        if one is None:
            found.append(
                _finding("input", node, f"has no input {name}; it has {', '.join(declared.inputs)}.")
            )
        elif isinstance(value, Link):
            arguments[name] = value
            found += _check_link(node, one, value, known, graph)
        else:
            try:
                arguments[name] = value_for(classes[node.type], one, value)
            except UsageError as error:
                kind: Kind = "missing_model" if error.code == "model_not_found" else "value"
                found.append(_finding(kind, node, f": {error.message}"))
    for one in declared.inputs.values():
        if one.name in node.inputs:
            continue
        if one.required and one.default is MISSING:
            why = node.unreachable.get(one.name)
            found.append(
                _finding(
                    "input", node, f"lacks its input {one.name}" + (f": {why}." if why else "; connect it.")
                )
            )
        elif one.default is not MISSING and one.required:
            arguments[one.name] = one.default
            found.append(_finding("note", node, f"says nothing about {one.name}; {one.default!r} is taken."))
    return arguments, found


def _notes(node: Node, declared: Declaration) -> Iterable[Finding]:
    if node.surplus:
        shown = ", ".join(map(str, node.surplus))
        yield _finding("note", node, f"holds values that it has no input for, which are left out: {shown}.")
    for name, why in node.unreachable.items():
        if name in declared.inputs and not declared.inputs[name].required:
            yield _finding("note", node, f"runs without {name}: {why}.")


def _input_for(declared: Declaration, name: str) -> Input | None:
    if name in declared.inputs:
        return declared.inputs[name]
    if name in declared.extra or declared.open_ended:
        return Input(name, ANY, required=False)
    return None


def _check_link(
    node: Node, one: Input, link: Link, known: Mapping[str, Declaration], graph: Graph
) -> Iterable[Finding]:
    source = graph.nodes[link.node]
    if source.type not in known:
        return
    outputs = known[source.type].outputs
    if not 0 <= link.slot < len(outputs):
        yield _finding(
            "link",
            node,
            f"takes output {link.slot} of {source.name} for {one.name}, which has {len(outputs)}.",
        )
    elif not fits(outputs[link.slot], one.kind):
        yield _finding(
            "link", node, f"takes {outputs[link.slot]} of {source.name} for {one.name}; expected {one.kind}."
        )


def _finding(kind: Kind, node: Node, words: str) -> Finding:
    name = node.name[0].upper() + node.name[1:]
    return Finding(kind, node.id, node.type, node.title, name + ("" if words[0] == ":" else " ") + words)
