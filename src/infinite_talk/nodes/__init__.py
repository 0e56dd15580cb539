"""The nodes of Infinite Talk, for ComfyUI, for workflows without it, and for Python.

    from infinite_talk.nodes import WanVideoModelLoader, WanVideoSampler, WanVideoDecode

Each name is imported when it is first used; ``NODE_CLASS_MAPPINGS`` imports all.
"""

from __future__ import annotations

from typing import Any

from infinite_talk.nodes.registry import BESIDE, NODES, class_mappings, display_names, node_class


def __getattr__(name: str) -> Any:  # noqa: ANN401 - a class, or a mapping of classes
    if name == "NODE_CLASS_MAPPINGS":
        return class_mappings()
    if name == "NODE_DISPLAY_NAME_MAPPINGS":
        return display_names()
    if name in NODES or name in BESIDE:
        return node_class(name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted((*globals(), *NODES, *BESIDE, "NODE_CLASS_MAPPINGS", "NODE_DISPLAY_NAME_MAPPINGS"))
