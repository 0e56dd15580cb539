"""A workflow made for the full-size model, on the embedded one: what has no embedded part is left out, and said.

Every name of a model file means the embedded model (``Host.embedded``); here go the LoRAs, which fit the model that
they were made for and no other.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from .declared import Classes, declaration
from .graph import Graph

LORA_NODES: Final = ("WanVideoLoraSelect", "WanVideoLoraSelectMulti", "WanVideoLoraSelectByName")


def for_embedded(graph: Graph, classes: Classes) -> tuple[Graph, tuple[str, ...]]:
    """The workflow with the strength of its LoRAs at 0, and a line for each node that this changed."""
    nodes, lines = dict(graph.nodes), []
    for node in graph.nodes.values():
        if node.type not in LORA_NODES or node.type not in classes:
            continue
        strengths = [name for name in declaration(classes[node.type]).inputs if name.startswith("strength")]
        nodes[node.id] = replace(node, inputs={**node.inputs, **dict.fromkeys(strengths, 0.0)})
        lines.append(
            f"{node.name[0].upper()}{node.name[1:]}: its LoRAs were made for another model than the embedded "
            "one and are left out."
        )
    return replace(graph, nodes=nodes), tuple(lines)
