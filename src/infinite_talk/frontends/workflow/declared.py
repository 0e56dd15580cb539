"""What a node class declares, read from its ``INPUT_TYPES`` and ``RETURN_TYPES`` once and checked."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, Final, Protocol, TypeAlias, cast

from infinite_talk import UsageError
from infinite_talk.nodes.declare import Files, Node, check
from infinite_talk.nodes.host import host

MISSING: Final = object()
"""The default of an input that has none."""
ANY: Final = "*"
_WIDGETS: Final = ("INT", "FLOAT", "STRING", "BOOLEAN", "COMBO")
_SEEDS: Final = ("seed", "noise_seed")
CONTROLS: Final = ("fixed", "increment", "decrement", "randomize")
"""What the editor keeps behind a seed: how it changes after each run. Here it never does."""


class NodeClass(Protocol):
    """A class of the form that ComfyUI calls V1."""

    RETURN_TYPES: tuple[str, ...]
    FUNCTION: str
    __name__: str

    @classmethod
    def INPUT_TYPES(cls) -> Mapping[str, Mapping[str, Any]]:  # noqa: N802 - the name that ComfyUI calls
        """Inputs by section: ``required``, ``optional``, ``hidden``."""
        ...

    def __call__(self) -> Any:  # noqa: ANN401 - a class makes an instance
        """An instance."""
        ...


Classes: TypeAlias = Mapping[str, NodeClass]


@dataclass(frozen=True, slots=True)
class Input:
    """One input of a node class."""

    name: str
    kind: str  # INT, FLOAT, STRING, BOOLEAN, COMBO, or the type of a socket
    required: bool
    choices: tuple[Any, ...] = ()
    default: Any = MISSING
    options: Mapping[str, Any] = field(default_factory=dict)
    is_file: bool = False
    """Whether its choices are model files."""

    @property
    def widget(self) -> bool:
        """Whether the editor shows a field for its value, which takes a place in ``widgets_values``."""
        return self.kind in _WIDGETS and not self.options.get("forceInput", False)

    @property
    def followers(self) -> int:
        """How many values of the editor's own follow this one's in ``widgets_values``."""
        upload = any(self.options.get(f"{kind}_upload") for kind in ("image", "video", "audio", "file"))
        return int(upload)

    @property
    def seeded(self) -> bool:
        """Whether the editor keeps one of ``CONTROLS`` behind it."""
        return self.kind == "INT" and (
            self.name in _SEEDS or bool(self.options.get("control_after_generate", False))
        )


@dataclass(frozen=True, slots=True)
class Declaration:
    """What a node class takes and gives."""

    inputs: Mapping[str, Input]
    outputs: tuple[str, ...]
    method: str
    is_output: bool
    hidden: Mapping[str, str]
    extra: frozenset[str]
    """Parameters of the method that are not declared; old workflows may link them."""
    open_ended: bool
    """Whether the method takes any further keyword, such as ``image_3``."""

    @property
    def widgets(self) -> tuple[Input, ...]:
        """The inputs whose values stand in ``widgets_values``, in this order."""
        return tuple(one for one in self.inputs.values() if one.widget)


def declaration(node_class: NodeClass) -> Declaration:
    """Read a class."""
    sections = node_class.INPUT_TYPES()
    inputs = {
        name: _input(name, told, required=section == "required")
        for section in ("required", "optional")
        for name, told in sections.get(section, {}).items()
    }
    hidden = {name: _type_of(told) for name, told in sections.get("hidden", {}).items()}
    parameters = inspect.signature(getattr(node_class, node_class.FUNCTION)).parameters
    extra = set(parameters) - set(inputs) - set(hidden) - {"self"}
    catch_all = {name for name, one in parameters.items() if one.kind is one.VAR_KEYWORD}
    return Declaration(
        inputs=inputs,
        outputs=tuple(map(str, node_class.RETURN_TYPES)),
        method=node_class.FUNCTION,
        is_output=bool(getattr(node_class, "OUTPUT_NODE", False)),
        hidden=hidden,
        extra=frozenset(extra - catch_all),
        open_ended=bool(catch_all),
    )


def fits(given: str, wanted: str) -> bool:
    """Whether an output type may go into an input type. Several types may be listed with commas."""
    ours, theirs = set(given.split(",")), set(wanted.split(","))
    if ANY in ours | theirs or ours & theirs:
        return True
    if ours == {"INT"} and "FLOAT" in theirs:
        return True
    return "COMBO" in theirs and "STRING" in ours


def value_for(node_class: NodeClass, one: Input, value: Any) -> Any:  # noqa: ANN401 - values of JSON
    """A value of a workflow as the node takes it: numbers as numbers, file names as they are listed here.

    Raises:
        UsageError: another kind of value, out of its range, or none of the choices; ``model_not_found`` for a model
            file that is not here.
    """
    if one.kind == "COMBO" and isinstance(value, str):
        value = _chosen(one, value)
        if one.options.get("any_file"):  # a media file, which is looked for when it is read
            return value
    elif one.kind in ("INT", "FLOAT"):
        value = _number(one, value)
    elif one.kind not in (*_WIDGETS, ANY):
        raise UsageError(f"{one.name} is {value!r}; it takes a link of type {one.kind}.")
    check(cast("type[Node]", node_class), {one.name: value})
    return value


def _number(one: Input, value: Any) -> Any:  # noqa: ANN401
    """Old files hold numbers as text, and whole ones with a point."""
    try:
        number = float(value) if isinstance(value, str) else value
        return (
            int(number)
            if one.kind == "INT" and not isinstance(value, bool) and number == int(number)
            else number
        )
    except (TypeError, ValueError, OverflowError):
        return value  # refused with its name by the check


def _chosen(one: Input, value: str) -> str:
    """The choice that is meant: Windows writes the folders in file names with another stroke."""
    plain = value.replace("\\", "/")
    for choice in one.choices:
        if isinstance(choice, str) and choice.replace("\\", "/") == plain:
            return choice
    if one.is_file and not _is_here(one, plain):
        raise UsageError(f"{one.name}: the model file {plain} is not here.", code="model_not_found")
    return plain if one.is_file or one.options.get("any_file") else value


def _is_here(one: Input, name: str) -> bool:
    """Whether a model file can be found: by its path, or without its folder in the folders that are searched."""
    by = host()
    names = {PurePosixPath(str(choice).replace("\\", "/")).name for choice in one.choices}
    return by.embedded or PurePosixPath(name).name in names or Path(name).exists()


def _type_of(told: Any) -> str:  # noqa: ANN401
    kind = told[0] if isinstance(told, (tuple, list)) else told
    return str(kind)


def _input(name: str, told: Any, *, required: bool) -> Input:  # noqa: ANN401
    """``("INT", {...})`` or ``(["a", "b"], {...})``."""
    told = told if isinstance(told, (tuple, list)) else (told,)
    options: Mapping[str, Any] = told[1] if len(told) > 1 and told[1] else {}
    kind, is_file = told[0], isinstance(told[0], Files) and not options.get("any_file")
    choices: tuple[Any, ...] = ()
    if isinstance(kind, (list, tuple)):
        kind, choices = "COMBO", tuple(kind)
    elif kind == "COMBO":
        choices = tuple(options.get("options", ()))
    default = options.get("default", choices[0] if choices else MISSING)
    return Input(name, str(kind), required, choices, default, options, is_file)
