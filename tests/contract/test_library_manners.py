"""Library code does not print, keeps no global state, reads no environment, and says what each file is."""

from __future__ import annotations

import ast

import pytest

from tests.contract.source import Module, modules

LONGEST_FUNCTION, LONGEST_FILE = 60, 500
LIBRARY = [module for module in modules() if module.room != "frontends"]


@pytest.mark.parametrize("module", LIBRARY, ids=lambda module: module.name)
def test_no_prints_globals_or_environment(module: Module):
    wrong = []
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Global):
            wrong.append((node.lineno, "global"))
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Name)
            and node.func.id in ("print", "input")
        ):
            wrong.append((node.lineno, node.func.id))
        if isinstance(node, ast.Attribute) and node.attr in ("environ", "getenv", "putenv"):
            wrong.append((node.lineno, node.attr))
    assert not wrong, f"{module.path}: {wrong}"


@pytest.mark.parametrize("module", modules(), ids=lambda module: module.name)
def test_files_and_functions_stay_readable(module: Module):
    lines = module.path.read_text("utf-8").count("\n")
    assert lines <= LONGEST_FILE, f"{module.path} has {lines} lines"
    assert not module.tree.body or ast.get_docstring(module.tree), f"{module.path} does not say what it is"
    for node in ast.walk(module.tree):
        if isinstance(node, ast.FunctionDef):
            length = (node.end_lineno or 0) - node.lineno + 1
            assert length <= LONGEST_FUNCTION, f"{module.path}:{node.lineno} {node.name} has {length} lines"


@pytest.mark.parametrize("module", modules(), ids=lambda module: module.name)
def test_nothing_unsafe_is_called(module: Module):
    """No unpickling of files, no shell, no eval."""
    for node in ast.walk(module.tree):
        if not isinstance(node, ast.Call):
            continue
        called = ast.unparse(node.func)
        assert called not in ("eval", "exec", "os.system", "pickle.load", "pickle.loads", "yaml.load"), (
            module.path
        )
        if called == "torch.load":
            assert any(k.arg == "weights_only" and ast.unparse(k.value) == "True" for k in node.keywords), (
                module.path
            )
