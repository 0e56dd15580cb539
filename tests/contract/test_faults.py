"""``docs/faults.md`` is true in what can be checked: every fault has tests, and every test that it names exists."""

from __future__ import annotations

import re

import pytest

from tests.contract.source import ROOT
from tests.safety.test_catalogue import named_in

PAGE = (ROOT / "docs" / "faults.md").read_text("utf-8")
ROWS = [
    re.split(r"(?<!\\) \| ", line.strip("| "))
    for line in PAGE.splitlines()
    if line.startswith("| ") and line != "| there | here | tests |"
]


def test_the_page_has_rows() -> None:
    assert len(ROWS) > 70


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0][:40])
def test_a_fault_is_shown_to_be_gone_by_tests_that_exist(row: list[str]) -> None:
    there, here, tests = row
    named = re.findall(r"`([\w/]+\.py)::([\w:]+)`", tests)
    assert there and here and named
    assert not [f"{file}::{name}" for file, name in named if name not in named_in(file)]
