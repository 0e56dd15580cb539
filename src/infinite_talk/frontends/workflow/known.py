"""The node classes that workflows may use, each imported when it is first asked for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import cast

from infinite_talk.nodes.registry import BESIDE, NODES, node_class

from .declared import NodeClass


class KnownNodes(Mapping[str, NodeClass]):
    """All nodes of this program by type, with the helpers that ComfyUI and other packs have themselves."""

    def __getitem__(self, name: str) -> NodeClass:
        if name not in self:
            raise KeyError(name)
        return cast("NodeClass", node_class(name))

    def __contains__(self, name: object) -> bool:
        return name in NODES or name in BESIDE

    def __iter__(self) -> Iterator[str]:
        return iter((*NODES, *BESIDE))

    def __len__(self) -> int:
        return len(NODES) + len(BESIDE)
