"""What is written about the program is true of it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from bench.approximations import table as approximations
from bench.common import RESULTS
from bench.figures import CARD, NUMERICS, between, embedded
from bench.precision_tables import BASE_BOUNDS, bound_of, tables
from infinite_talk.frontends.cli.app import commands
from infinite_talk.frontends.cli.flags import flags_of
from infinite_talk.frontends.cli.reference import reference
from infinite_talk.settings import Quantization
from tests.contract.source import PACKAGE, ROOT

DOCUMENTS = [
    ROOT / "README.md",
    ROOT / "README.zh-CN.md",
    ROOT / "CONTRIBUTING.md",
    *sorted((ROOT / "docs").glob("*.md")),
]
COMMANDS = list(commands().values())
SPELLINGS = {
    name
    for command in COMMANDS
    for flag in flags_of(command)
    for both in flag.spellings.split()
    for name in both.split("/")
}


def test_every_flag_is_documented():
    written = (ROOT / "docs" / "cli.md").read_text("utf-8")
    assert written == reference(), "run: ./run python -m infinite_talk.frontends.cli.reference > docs/cli.md"
    assert all(f"`{name}`" in written for name in SPELLINGS)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_flag_that_is_mentioned_exists(document):
    text = document.read_text("utf-8")
    lines = [
        line
        for block in re.findall(r"infinite-talk [^`]*|\./run (?:generate|demo|lipsync)[^`]*", text)
        for line in block.splitlines()
    ]
    mentioned = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", "\n".join(lines)))
    assert mentioned <= SPELLINGS | {"--version", "--help"}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(document):
    for target in re.findall(r"\]\(([^)#\s]+)", document.read_text("utf-8")):
        if not target.startswith(("http://", "https://", "mailto:")):
            assert (document.parent / target).exists(), f"{document.name} links to {target}"


def test_every_room_is_in_the_map():
    """``docs/structure.md`` has a line for each folder and file at the top of the package."""
    written = (ROOT / "docs" / "structure.md").read_text("utf-8")
    rooms = {
        p.name + "/" if p.is_dir() else p.name for p in PACKAGE.iterdir() if not p.name.startswith("_")
    } - {"py.typed"}
    missing = [room for room in sorted(rooms) if f"`{room}`" not in written]
    assert not missing


@pytest.mark.parametrize("document", [NUMERICS, CARD], ids=lambda path: path.name)
def test_what_the_embedded_model_reaches_is_what_was_measured(document: Path):
    assert between(document.read_text("utf-8"), "figures") == embedded(), "run: python -m bench.figures"


def test_tables_of_precisions_are_what_was_measured():
    assert between(NUMERICS.read_text("utf-8"), "precision") == tables(RESULTS), (
        "run: python -m bench.figures"
    )


def test_table_of_approximations_is_what_was_measured():
    assert between(NUMERICS.read_text("utf-8"), "approximations") == approximations(), (
        "run: python -m bench.figures"
    )


@pytest.mark.parametrize("results", sorted(RESULTS.glob("precision*.json")), ids=lambda path: path.name)
def test_no_measured_precision_is_beyond_its_bound(results: Path):
    values = json.loads(results.read_text("utf-8"))
    for layer, policies in values["layers"].items():
        for policy, bases in policies.items():
            for base in BASE_BOUNDS:
                assert bases[base]["relative"] <= bound_of(Quantization(policy), base).layer, (
                    layer,
                    policy,
                    base,
                )
    for policy, bases in values["blocks"].items():
        for base in BASE_BOUNDS:
            update = bases[base]["update"]["relative"]
            assert update <= bound_of(Quantization(policy), base).block, (policy, base)


def test_every_node_is_documented():
    from infinite_talk.nodes.reference import reference as nodes

    written = (ROOT / "docs" / "nodes.md").read_text("utf-8")
    assert written == nodes(), "run: ./run python -m infinite_talk.nodes.reference > docs/nodes.md"
