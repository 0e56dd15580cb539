"""Changes of a workflow from the command line: ``--set NODE.input=value``, and media in place of its own."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final

from infinite_talk import UsageError

from .declared import Classes, declaration
from .graph import Graph, Node

MEDIA: Final = {
    "image": (("LoadImage", "image"),),
    "video": (("VHS_LoadVideo", "video"), ("VHS_LoadVideoPath", "video"), ("LoadVideo", "file")),
    "audio": (("LoadAudio", "audio"), ("VHS_LoadAudioUpload", "audio"), ("VHS_LoadAudio", "audio_file")),
}
"""Which inputs of which nodes ``--image``, ``--video`` and ``--audio`` replace."""


def assign(graph: Graph, assignments: Iterable[str], classes: Classes) -> Graph:
    """Set inputs: ``128.steps=4``, ``WanVideoSampler.steps=4``, ``Width.value=256`` (by id, type or title).

    A wire at the input is cut. Every node that the name fits is meant.

    Raises:
        UsageError: no such node or input, or not of the form ``NODE.input=value``.
    """
    nodes = dict(graph.nodes)
    for text in assignments:
        place, found, value = text.partition("=")
        name, dot, key = place.strip().rpartition(".")
        if not (found and dot and name and key):
            raise UsageError(f"--set {text}: expected NODE.input=value, such as 128.steps=4.")
        for node in _meant(graph, name, text):
            _check_input(node, key, classes, text)
            nodes[node.id] = replace(nodes[node.id], inputs={**nodes[node.id].inputs, key: _value(value)})
    return replace(graph, nodes=nodes)


def _meant(graph: Graph, name: str, text: str) -> list[Node]:
    """The node of this id, else all of this title, else all of this type."""
    if name in graph.nodes:
        return [graph.nodes[name]]
    for field in ("title", "type"):
        if found := [node for node in graph.nodes.values() if getattr(node, field) == name]:
            return found
    names = [
        *graph.nodes,
        *{one.type for one in graph.nodes.values()},
        *{n.title for n in graph.nodes.values()},
    ]
    near = get_close_matches(name, [one for one in names if one], n=1)
    hint = f" Did you mean {near[0]}?" if near else " `workflow check` lists the nodes."
    raise UsageError(f"--set {text}: the workflow has no node of the id, title or type {name}.{hint}")


def _check_input(node: Node, key: str, classes: Classes, text: str) -> None:
    known = classes.get(node.type)
    if known is None:
        return  # that it is unknown is said by the check
    declared = declaration(known)
    if key not in declared.inputs and key not in declared.extra:
        raise UsageError(
            f"--set {text}: {node.name} has no input {key}; it has {', '.join(declared.inputs) or 'none'}."
        )


def _value(text: str) -> Any:  # noqa: ANN401 - JSON
    """JSON where it is, else text: ``4``, ``true``, ``a woman speaks``."""
    try:
        value = json.loads(text)
    except ValueError:
        return text
    return value if isinstance(value, (int, float, str, bool)) else text


def with_media(graph: Graph, media: Mapping[str, Path], classes: Classes) -> Graph:
    """Put files in place of those that the workflow names, by kind: ``image``, ``video``, ``audio``.

    With several nodes of a kind all of them take the file.

    Raises:
        UsageError: the workflow loads nothing of the kind.
    """
    nodes = dict(graph.nodes)
    for kind, path in media.items():
        places = dict(MEDIA[kind])
        loaders = [node for node in nodes.values() if node.type in places and node.type in classes]
        if not loaders:
            raise UsageError(
                f"--{kind}: the workflow has no node that loads one ({', '.join(places)}); leave the option away."
            )
        for node in loaders:
            key = places[node.type]
            nodes[node.id] = replace(node, inputs={**node.inputs, key: str(path.absolute())})
    return replace(graph, nodes=nodes)
