"""The package's own source, parsed: what the contract tests look at."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "src" / "infinite_talk"


@dataclass(frozen=True)
class Module:
    """One file of the package."""

    path: Path

    @property
    def parts(self) -> tuple[str, ...]:
        """``("denoise", "loop")``; an ``__init__`` is its folder."""
        parts = self.path.relative_to(PACKAGE).with_suffix("").parts
        return parts[:-1] if parts[-1] == "__init__" else parts

    @property
    def room(self) -> str:
        """The first word of its name; empty for the package itself."""
        return self.parts[0] if self.parts else ""

    @property
    def name(self) -> str:
        return ".".join(("infinite_talk", *self.parts))

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.path.read_text("utf-8"), str(self.path))

    def imports(self) -> Iterator[tuple[int, tuple[str, ...]]]:
        """Line and absolute dotted name of everything imported at run time, also inside functions."""
        skipped = {id(node) for block in self._type_checking_blocks() for node in ast.walk(block)}
        for node in ast.walk(self.tree):
            if id(node) in skipped:
                continue
            if isinstance(node, ast.Import):
                yield from ((node.lineno, tuple(alias.name.split("."))) for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                yield node.lineno, self._absolute(node)

    def rooms_used(self) -> Iterator[tuple[int, str]]:
        """Line and room of every import of our own; the package itself is the room ``""``."""
        for line, name in self.imports():
            if name[0] == "infinite_talk":
                yield line, name[1] if len(name) > 1 else ""

    def _absolute(self, node: ast.ImportFrom) -> tuple[str, ...]:
        module = tuple(node.module.split(".")) if node.module else ()
        if node.level:
            package = ("infinite_talk", *self.path.relative_to(PACKAGE).parts[:-1])
            module = package[: len(package) - node.level + 1] + module
        if module == ("infinite_talk",) and len(node.names) == 1 and (PACKAGE / node.names[0].name).is_dir():
            return (*module, node.names[0].name)  # from infinite_talk import lipsync
        return module

    def _type_checking_blocks(self) -> list[ast.If]:
        return [
            node
            for node in ast.walk(self.tree)
            if isinstance(node, ast.If)
            and isinstance(node.test, ast.Name)
            and node.test.id == "TYPE_CHECKING"
        ]


def modules() -> list[Module]:
    """Every file of the package."""
    return [Module(path) for path in sorted(PACKAGE.rglob("*.py"))]
