"""Reading a workflow file: which form it has, and nothing larger or deeper than workflows are."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from infinite_talk import InputError

from .api import read_api
from .declared import Classes
from .editor import read_editor
from .graph import Graph

MAX_BYTES: Final = 64 << 20
"""Workflows are some 100 kB; embedded pictures may make them a few MB."""


def read_workflow(path: Path, classes: Classes) -> Graph:
    """Read a workflow as ComfyUI's editor saves it, or in its API form.

    Args:
        path: of the JSON file.
        classes: the node classes by type; the editor's lists of values have no names without them.

    Raises:
        InputError: ``workflow_not_found``, ``workflow_unsupported``, ``workflow_subgraph`` and others, with the
            node's id, title and type where it is one node's fault.
    """
    data = _parse(path)
    if isinstance(data, Mapping) and isinstance(data.get("nodes"), list):
        return read_editor(data, classes)
    if isinstance(data, Mapping) and isinstance(data.get("prompt"), Mapping):
        data = data["prompt"]  # the body of a request to ComfyUI's server
    nodes = _is_api(data)
    if nodes:
        return read_api(data)
    raise InputError(
        f"{path.name} is no workflow: expected the JSON that ComfyUI saves ("
        '"nodes" and "links"), or its API form (nodes by id, each with "class_type").',
        code="workflow_unsupported",
    )


def _is_api(data: Any) -> bool:  # noqa: ANN401 - JSON
    return (
        isinstance(data, Mapping)
        and bool(data)
        and all(isinstance(node, Mapping) and "class_type" in node for node in data.values())
    )


def _parse(path: Path) -> Any:  # noqa: ANN401 - JSON
    try:
        if not path.is_file():
            raise InputError(f"{path}: there is no such file.", code="workflow_not_found")
        if path.stat().st_size > MAX_BYTES:
            raise InputError(
                f"{path.name} has {path.stat().st_size / 1e6:.0f} MB; a workflow has at most "
                f"{MAX_BYTES >> 20} MB.",
                code="workflow_unsupported",
            )
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, UnicodeDecodeError, ValueError, RecursionError) as error:
        raise InputError(
            f"{path.name} is no JSON that can be read: {error}. Save the workflow again.",
            code="workflow_unsupported",
        ) from error
