"""Args dicts: what a node declares, its dict may hold; keys, defaults and ranges are read from its ``INPUT_TYPES``."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from infinite_talk.nodes.declare import check, inputs_of, known_keys
from infinite_talk.nodes.registry import node_class

Args = Mapping[str, Any]


def args_of(what: str, given: Args, node: str, beside: Collection[str] = ()) -> dict[str, Any]:
    """The values of an args dict, missing ones filled in with the declared defaults.

    Args:
        what: name of the argument, for messages.
        node: that makes such a dict.
        beside: further keys that the dict may have, whose values are checked elsewhere.

    Raises:
        UsageError: a key is unknown, or a value is out of its range.
    """
    kind = node_class(node)
    declared = {name: entry for name, entry in inputs_of(kind).items() if entry[0] != "UNIQUE_ID"}
    known_keys(what, given, [*declared, *(key for key in beside if key not in declared)])
    values = {name: options.get("default") for name, (_, options) in declared.items()} | dict(given)
    check(kind, {name: value for name, value in values.items() if name in given and name not in beside})
    return values
