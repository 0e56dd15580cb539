"""What is written about the program is true of it."""

from __future__ import annotations

import re

import pytest

from infinite_talk.frontends.cli.app import commands
from infinite_talk.frontends.cli.flags import flags_of
from infinite_talk.frontends.cli.reference import reference
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
