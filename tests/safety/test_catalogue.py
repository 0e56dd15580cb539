"""``docs/reliability.md`` is true in what can be checked: all rows are there, and every test it names exists."""

from __future__ import annotations

import ast
import re
from functools import cache

import pytest

from tests.contract.source import ROOT

PAGE = (ROOT / "docs" / "reliability.md").read_text("utf-8")
CATALOGUE = {"A": 15, "I": 12, "V": 10, "T": 18, "M": 10, "F": 18}
"""Rows of each letter."""
ROWS = [line.split(" | ") for line in PAGE.splitlines() if re.match(r"\| [AIVTMFP][0-9]+ \|", line)]


@cache
def named_in(file: str) -> frozenset[str]:
    """``name`` and ``Class::name`` of all tests in a file below ``tests``."""
    found = set()
    for node in ast.parse((ROOT / "tests" / file).read_text("utf-8")).body:
        if isinstance(node, ast.FunctionDef):
            found.add(node.name)
        elif isinstance(node, ast.ClassDef):
            found |= {
                f"{node.name}::{inner.name}" for inner in node.body if isinstance(inner, ast.FunctionDef)
            }
    return frozenset(found)


def test_every_row_is_there_once():
    names = [row[0].strip("| ") for row in ROWS]
    expected = [f"{letter}{number}" for letter, most in CATALOGUE.items() for number in range(1, most + 1)]
    assert [name for name in names if name[0] != "P"] == expected
    assert [name for name in names if name[0] == "P"] == [f"P{number}" for number in range(1, 9)]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0].strip("| "))
def test_what_a_row_says_is_there(row):
    named = re.findall(r"`([\w/]+\.py)::([\w:]+)`", row[-1])
    missing = [f"{file}::{name}" for file, name in named if name not in named_in(file)]
    assert not missing
    covered = row[2] if len(row) == 4 else "yes"
    assert re.match(r"yes\b|partly: \S|no: \S", covered), covered
    assert bool(named) == (not covered.startswith("no")), "a row is covered by tests, or says what is missing"


def test_every_test_named_by_a_row_is_in_that_row():
    """``test_t7_...`` in this folder appears in row T7, so that the page does not fall behind."""
    rows = {row[0].strip("| ").lower(): row[-1] for row in ROWS}
    for file in sorted((ROOT / "tests" / "safety").glob("test_*.py")):
        for name in filter(re.compile("test_").match, named_in(f"safety/{file.name}")):
            for row in re.findall(r"(?<=_)([aivtmf][0-9]+)(?=_)", re.match(r"test(_[a-z][0-9]+)*_", name)[0]):
                assert name in rows[row], f"{name} is not in row {row.upper()}"
