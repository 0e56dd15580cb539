"""What ComfyUI registers: a class for each node, with tooltips, run under ComfyUI's progress bar and interrupt."""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Mapping
from functools import wraps
from pathlib import Path
from typing import Any

from infinite_talk.nodes.host import hosted
from infinite_talk.nodes.registry import NODES, node_class
from infinite_talk.nodes.texts import description, tooltip

from .host import comfy_host
from .portrait import InfiniteTalkPortrait

PREFIX = "InfiniteTalk"
"""Before the names of nodes that another pack has, and in its titles."""
_OTHER_PACK = "wanvideowrapper"
"""Part of the folder's name of the pack whose nodes ours are called after."""
_NATIVE: Mapping[str, tuple[type[Any], str]] = {
    "InfiniteTalkPortrait": (InfiniteTalkPortrait, "Infinite Talk Portrait")
}
"""Nodes of our own, which exist in ComfyUI only."""
_MARK = "infinite_talk_node"


def load_pack(folder: Path) -> tuple[dict[str, type[Any]], dict[str, str]]:
    """Classes and titles by registered name, inside ComfyUI.

    Args:
        folder: of this pack.
    """
    taken = _names_of_others()
    rename = set(NODES) if _other_pack_is_there(folder, taken) else taken & set(NODES)
    classes: dict[str, type[Any]] = {}
    titles: dict[str, str] = {}
    for name, entry in NODES.items():
        own = PREFIX + name if name in rename else name
        classes[own] = for_comfy(name, node_class(name), prefixed=name in rename)
        titles[own] = f"{entry.title} (Infinite Talk)" if name in rename else entry.title
    for name, (node, title) in _NATIVE.items():
        classes[name], titles[name] = for_comfy(name, node), title
    return classes, titles


def for_comfy(name: str, node: type[Any], *, prefixed: bool = False) -> type[Any]:
    """A node as ComfyUI runs it: a subclass whose method runs under ComfyUI's host."""
    method: Callable[..., Any] = getattr(node, node.FUNCTION)

    @wraps(method)
    def run(self: Any, **inputs: Any) -> Any:  # noqa: ANN401 - those of the node
        with hosted(comfy_host()):
            return filled(method(self, **inputs), len(node.RETURN_TYPES))

    def input_types(cls: type[Any]) -> dict[str, Any]:  # noqa: ARG001 - a class method
        with hosted(comfy_host()):
            return explained(name, node.INPUT_TYPES())

    told = description(name)
    members: dict[str, Any] = {
        node.FUNCTION: run,
        "INPUT_TYPES": classmethod(input_types),
        "DESCRIPTION": f"{told.en}\n{told.zh}" if told else (node.__doc__ or ""),
        _MARK: True,
    }
    if prefixed:
        members["CATEGORY"] = "InfiniteTalk"
    return type(node.__name__, (node,), members)


def filled(result: Any, outputs: int) -> Any:  # noqa: ANN401 - what a node returns
    """One value for each output: ComfyUI indexes the tuple. Finished frames stand for both outputs of a sampler."""
    if isinstance(result, tuple) and result and len(result) < outputs:
        return result + (result[-1],) * (outputs - len(result))
    return result


def explained(name: str, declared: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """``INPUT_TYPES`` with tooltips: ``tooltip`` in English, and ``tooltip_zh`` for ``web/infinite_talk.js``."""
    return {
        section: {key: _with_tooltip(name, key, entry) for key, entry in inputs.items()}
        if section != "hidden"
        else dict(inputs)
        for section, inputs in declared.items()
    }


def _with_tooltip(name: str, key: str, entry: tuple[Any, ...]) -> tuple[Any, dict[str, Any]]:
    kind, options = entry[0], dict(entry[1]) if len(entry) > 1 else {}
    told = tooltip(name, key)
    return kind, ({"tooltip": told.en, "tooltip_zh": told.zh} if told else {}) | options


def _names_of_others() -> set[str]:
    """Names that are registered already, but not by us."""
    registered = getattr(sys.modules.get("nodes"), "NODE_CLASS_MAPPINGS", {})
    return {name for name, node in registered.items() if not getattr(node, _MARK, False)}


def _other_pack_is_there(folder: Path, taken: Collection[str]) -> bool:
    """Whether the pack is registered, or will be: ComfyUI loads packs in no promised order, and the last name wins."""
    if "WanVideoSampler" in taken:
        return True
    folder_paths = sys.modules["folder_paths"]
    places = [Path(place) for place in folder_paths.get_folder_paths("custom_nodes")]
    packs = [pack for place in places if place.is_dir() for pack in place.iterdir()]
    return any(
        _OTHER_PACK in pack.name.lower()
        and not pack.name.endswith(".disabled")
        and (pack / "__init__.py").is_file()
        and pack.resolve() != folder.resolve()
        for pack in packs
    )
