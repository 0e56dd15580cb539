"""Declaring the inputs of a node as ComfyUI reads them, and checking values against the declaration.

An input is ``(type, options)``; a list of names in place of the type is a choice. ``checked`` is put on the method
that a node names in ``FUNCTION``: values out of range, of another type, or not among the choices are refused there,
whoever calls, in words.
"""

from __future__ import annotations

import inspect
import operator
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from difflib import get_close_matches
from functools import wraps
from math import isnan
from typing import Any, Protocol, TypeVar, cast

from infinite_talk.errors import UsageError

Declared = tuple[Any, dict[str, Any]]
"""One input: its type, or the list of its choices, and its options (``default``, ``min``, ``max``, ``step``, ...)."""
Inputs = dict[str, dict[str, Any]]
"""What ``INPUT_TYPES`` returns: inputs by name, by section (``required``, ``optional``, ``hidden``)."""
CATEGORY = "WanVideoWrapper"
DEVICES = ("main_device", "offload_device")
F = TypeVar("F", bound=Callable[..., Any])


class Node(Protocol):
    """What every node class has."""

    FUNCTION: str
    RETURN_TYPES: tuple[str, ...]
    RETURN_NAMES: tuple[str, ...]
    CATEGORY: str

    @classmethod
    def INPUT_TYPES(cls) -> Inputs: ...  # noqa: N802 - ComfyUI's name


class Files(list[str]):
    """A choice of file names that grows with the folders: other names are resolved, or refused, when they are used."""


# Inputs


def integer(
    default: int,
    least: int | None = None,
    most: int | None = None,
    step: int | None = None,
    **options: object,
) -> Declared:
    """An ``INT``."""
    return "INT", _options(default, least, most, step, options)


def number(
    default: float,
    least: float | None = None,
    most: float | None = None,
    step: float | None = None,
    **options: object,
) -> Declared:
    """A ``FLOAT``."""
    return "FLOAT", _options(default, least, most, step, options)


def flag(default: bool, **options: object) -> Declared:
    """A ``BOOLEAN``."""
    return "BOOLEAN", {"default": default, **options}


def words(default: str = "", *, multiline: bool | None = None, **options: object) -> Declared:
    """A ``STRING``."""
    lines = {} if multiline is None else {"multiline": multiline}
    return "STRING", {"default": default, **lines, **options}


def choice(names: Sequence[Any], default: object = None, **options: object) -> Declared:
    """One of ``names``; the first, if no default is given."""
    kept = names if isinstance(names, Files) else list(names)
    return kept, {"default": kept[0] if default is None else default, **options}


def link(kind: str, **options: object) -> Declared:
    """What another node gives, of the type ``kind``."""
    return kind, options


def _options(
    default: object, least: object, most: object, step: object, more: dict[str, Any]
) -> dict[str, Any]:
    found = {"default": default, "min": least, "max": most, "step": step}
    return {name: value for name, value in found.items() if value is not None} | dict(more)


# Checking


def checked(
    *, lists: Collection[str] = (), also: Mapping[str, Collection[Any]] | None = None
) -> Callable[[F], F]:
    """Check the values of a node's method against ``INPUT_TYPES`` before it runs.

    Args:
        lists: numbers that may also come as a list, one for each step.
        also: values that are accepted though the declaration does not offer them, by input.

    The method raises:
        UsageError: a value is of another type, out of range, or not among the choices.
        TypeError: an input is missing, or unknown.
    """

    def decorate(method: F) -> F:
        signature = inspect.signature(method)

        @wraps(method)
        def call(self: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - those of the method
            bound = signature.bind(self, *args, **kwargs)
            bound.apply_defaults()
            check(type(self), _values(signature, bound), lists=lists, also=also or {})
            return method(self, *args, **kwargs)

        return cast("F", call)

    return decorate


def _values(signature: inspect.Signature, bound: inspect.BoundArguments) -> dict[str, Any]:
    """Values by input, those of ``**kwargs`` as inputs of their own."""
    found: dict[str, Any] = {}
    for name, value in list(bound.arguments.items())[1:]:
        if signature.parameters[name].kind is inspect.Parameter.VAR_KEYWORD:
            found |= value
        else:
            found[name] = value
    return found


def check(
    node: type[Node],
    values: Mapping[str, Any],
    *,
    lists: Collection[str] = (),
    also: Mapping[str, Collection[Any]] | None = None,
) -> None:
    """Compare values with what a node declares; see ``checked``. Values of inputs that it lacks are passed over.

    Raises:
        UsageError: a value does not suit its input.
    """
    sections = node.INPUT_TYPES()
    declared, required = _declared(sections), sections.get("required", {})
    for name, value in values.items():
        if name not in declared or (also and value_in(value, also.get(name, ()))):
            continue
        kind, options = declared[name]
        where = f"{name} of {node.__name__}"
        many = isinstance(value, (list, tuple)) and kind in ("INT", "FLOAT") and name in lists
        for one in value if many else (value,):
            _check_one(where, one, kind, options, required=name in required)


def inputs_given(names: Mapping[str, Any], but: Collection[str] = ()) -> dict[str, Any]:
    """What a node's method was given, by input: ``inputs_given(locals())`` in its first line."""
    return {name: value for name, value in names.items() if name != "self" and name not in but}


def inputs_of(node: type[Node]) -> dict[str, Declared]:
    """The declared inputs of a node by name, without hidden ones."""
    return _declared(node.INPUT_TYPES())


def _declared(sections: Inputs) -> dict[str, Declared]:
    found: dict[str, Declared] = {}
    for section in ("required", "optional"):
        for name, entry in sections.get(section, {}).items():
            found[name] = (entry[0], entry[1] if len(entry) > 1 else {})
    return found


def value_in(value: object, several: Collection[Any]) -> bool:
    """Whether a value is one of several, without comparing tensors."""
    return isinstance(value, (str, int, float, bool, type(None))) and value in several


def _check_one(
    where: str, value: object, kind: object, options: Mapping[str, Any], *, required: bool
) -> None:
    if isinstance(kind, (list, tuple)):
        if not isinstance(kind, Files) and not value_in(value, kind):
            raise UsageError(f"{where} is {value!r}; choose one of {listed(kind)}.{_close(value, kind)}")
        if isinstance(kind, Files) and not isinstance(value, str):
            raise UsageError(f"{where} is {_said(value)}; give the name of a file.")
    elif kind in ("INT", "FLOAT"):
        if value is None and not required and options.get("default") is None:
            return
        _check_number(where, value, whole=kind == "INT", least=options.get("min"), most=options.get("max"))
    elif kind == "BOOLEAN" and not isinstance(value, bool):
        raise UsageError(f"{where} is {_said(value)}; give True or False.")
    elif kind == "STRING" and not isinstance(value, str):
        raise UsageError(f"{where} is {_said(value)}; give a text.")
    elif value is None and required:
        raise UsageError(f"{where} is None; connect what gives a {kind}.")


def _check_number(where: str, value: object, *, whole: bool, least: float | None, most: float | None) -> None:
    what = "a whole number" if whole else "a number"
    try:
        if isinstance(value, (bool, str)) or value is None:
            raise TypeError
        plain = operator.index(value) if whole else float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        raise UsageError(f"{where} is {_said(value)}; give {what}.") from None
    low, high = least is not None and plain < least, most is not None and plain > most
    if low or high or isnan(plain):
        limits = (
            f"{'' if least is None else f'at least {least}'}{'' if most is None else f', at most {most}'}"
        )
        raise UsageError(f"{where} is {plain}; give {what}, {limits.removeprefix(', ')}.")


def _said(value: object) -> str:
    return (
        repr(value) if isinstance(value, (str, int, float, bool, type(None))) else f"a {type(value).__name__}"
    )


# Dictionaries of arguments


def known_keys(what: str, given: Mapping[str, Any], valid: Iterable[str]) -> None:
    """Refuse keys of an args dictionary that nobody reads.

    Args:
        what: the argument, for the message.

    Raises:
        UsageError: a key is unknown; the valid ones are listed.
    """
    if not isinstance(given, Mapping):
        raise UsageError(f"{what} is a {type(given).__name__}; give the dictionary that its node makes.")
    names = list(valid)
    if unknown := [key for key in given if key not in names]:
        raise UsageError(
            f"{what} has the unknown {'key' if len(unknown) == 1 else 'keys'} {listed(unknown)}; valid are "
            f"{listed(names)}.{_close(unknown[0], names)}"
        )


def listed(names: Iterable[Any]) -> str:
    """``a, b, c`` for people."""
    return ", ".join(str(name) for name in names)


def _close(value: object, names: Iterable[Any]) -> str:
    near = get_close_matches(str(value), [str(name) for name in names], n=1)
    return f" Did you mean {near[0]}?" if near else ""
