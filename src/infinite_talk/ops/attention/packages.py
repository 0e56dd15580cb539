"""Which packages are installed, found without importing any of them."""

from __future__ import annotations

import re
from importlib import metadata
from importlib.machinery import (
    EXTENSION_SUFFIXES,
    SOURCE_SUFFIXES,
    ExtensionFileLoader,
    FileFinder,
    SourceFileLoader,
)
from importlib.util import find_spec

from infinite_talk.ops.attention.base import Source

_FORMS = ((SourceFileLoader, SOURCE_SUFFIXES), (ExtensionFileLoader, EXTENSION_SUFFIXES))


def installed(source: Source) -> str | None:
    """The version of a source that is there, ``"?"`` if it does not say; ``None`` if it is not or is another."""
    if not has_module(source.module):
        return None
    try:
        version = metadata.version(source.package)
    except metadata.PackageNotFoundError:
        return "?" if not source.since and not source.before else None
    return version if _fits(version, source) else None


def has_module(name: str) -> bool:
    """Whether a dotted module can be found. ``find_spec`` alone would import its parents."""
    first, *rest = name.split(".")
    try:
        spec = find_spec(first)
    except (ValueError, ImportError):  # a module without a spec: put there by hand, not installed
        return False
    for depth in range(len(rest)):
        inner = ".".join((first, *rest[: depth + 1]))
        folders = (spec and spec.submodule_search_locations) or ()
        found = (FileFinder(folder, *_FORMS).find_spec(inner) for folder in folders)
        spec = next((one for one in found if one is not None), None)
    return spec is not None


def _fits(version: str, source: Source) -> bool:
    numbers = tuple(int(number) for number in re.findall(r"\d+", version.partition("+")[0])[:3])
    return numbers >= source.since and not (source.before and numbers >= source.before)
