"""``docs/performance.md`` has what the cost model says today and what was measured."""

from __future__ import annotations

import tomllib
from xml.etree import ElementTree

import pytest

from bench.figures import between
from bench.performance import (
    DOCS,
    PAGE,
    cost_tables,
    length_plot,
    measured_tables,
    results,
    tokens_plot,
)
from bench.plots import Line, plot
from infinite_talk.benchmarks.case import Case, named, read_cases
from infinite_talk.settings import Attention
from tests.contract.source import ROOT

WRITTEN = PAGE.read_text("utf-8")
NEWER = "flash_attn_3_fp8"
"""A kernel that the plan measures where there is one."""


def test_the_tables_are_the_generators():
    cases = results()
    assert between(WRITTEN, "cost") == cost_tables(), "run: python -m bench.performance"
    assert between(WRITTEN, "measured") == measured_tables(cases), "run: python -m bench.performance"


def test_the_plots_are_the_generators():
    cases = results()
    for name, drawn in (("tokens", tokens_plot(cases)), ("length", length_plot(cases))):
        assert (DOCS / "images" / f"time_{name}.svg").read_text("utf-8") == drawn, (
            "run: python -m bench.performance"
        )


@pytest.mark.parametrize(
    "path", sorted((ROOT / "bench" / "cases").glob("*.toml")), ids=lambda path: path.name
)
def test_the_plan_can_be_run(path, tmp_path):
    assert f"bench/cases/{path.name} " in WRITTEN, "the plan in docs/performance.md leaves it out"
    text = path.read_text("utf-8")
    if NEWER not in set(Attention):
        text = text.replace(NEWER, "flash_attn_3")
    copy = tmp_path / path.name
    copy.write_text(text)
    assert len(named(read_cases(copy, Case()))) == len(tomllib.loads(text)["case"])


def test_a_plot_is_drawn_to_scale():
    drawn = plot("t", "x", "y", [Line("a & b", [(0, 0), (5, 10)]), Line("c", [(10, 5)], points=True)])
    found = ElementTree.fromstring(drawn)
    space = {"s": "http://www.w3.org/2000/svg"}
    first, last = (
        tuple(map(float, at.split(","))) for at in found.find("s:polyline", space).attrib["points"].split()
    )
    dot = found.find("s:circle", space).attrib
    # The dot is twice as far to the right and half as high.
    assert float(dot["cx"]) - first[0] == pytest.approx(2 * (last[0] - first[0]), abs=0.2)
    assert first[1] - float(dot["cy"]) == pytest.approx((first[1] - last[1]) / 2, abs=0.2)
