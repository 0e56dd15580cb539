"""``docs/hardware.md`` is what the planner says today."""

from __future__ import annotations

from bench.hardware_table import page
from infinite_talk.memory.speed import GIB
from tests.contract.source import ROOT


def test_the_page_is_the_generators():
    written = (ROOT / "docs" / "hardware.md").read_text("utf-8")
    assert written == page(), "run: python -m bench.hardware_table > docs/hardware.md"


def test_what_was_measured_is_shown_beside_what_was_planned():
    row = {"peak": 10 * GIB, "planned": 10.3 * GIB, "host": 21 * GIB, "seconds_per_pass": 2.5}
    shown = page({(12, "480p", "fp8"): row})
    line = next(line for line in shown.splitlines() if line.startswith("| 12 GB") and "| fp8 |" in line)
    assert "| 10.0 (+3 %) |" in line
    assert "| 21 |" in line
    assert line.endswith("| 2.50 |")
