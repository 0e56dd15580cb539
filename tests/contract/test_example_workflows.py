"""``example_workflows/`` fits the nodes: the workflow checker finds nothing, and ComfyUI's canvas can draw them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from infinite_talk.frontends.cli.main import run
from tests.contract.source import ROOT

EXAMPLES = sorted((ROOT / "example_workflows").glob("*.json"))
MEDIA = ("portrait.png", "two_people.png", "speech.wav", "speech_left.wav", "speech_right.wav", "video.mp4")


def test_there_are_examples():
    assert len(EXAMPLES) == 3


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_the_checker_finds_nothing(example, tmp_path, capsys):
    copy = Path(shutil.copy(example, tmp_path))
    for name in MEDIA:
        (tmp_path / name).touch()
    assert run(["workflow", "check", str(copy)]) == 0, capsys.readouterr()


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_links_agree_at_both_ends(example):
    drawn = json.loads(example.read_text("utf-8"))
    boxes = {box["id"]: box for box in drawn["nodes"]}
    assert len(boxes) == len(drawn["nodes"]) == drawn["last_node_id"]
    for number, source, slot, target, place, kind in drawn["links"]:
        output, entry = boxes[source]["outputs"][slot], boxes[target]["inputs"][place]
        assert number in output["links"]
        assert entry["link"] == number
        assert kind == output["type"] == entry["type"]
    used = {entry["link"] for box in boxes.values() for entry in box.get("inputs", []) if entry["link"]}
    assert used == {link[0] for link in drawn["links"]}


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_they_run_on_the_embedded_model_as_they_are(example):
    boxes = json.loads(example.read_text("utf-8"))["nodes"]
    files = [
        box["widgets_values"][0]
        for box in boxes
        if "Loader" in box["type"] or box["type"].startswith("LoadWan")
    ]
    assert len(files) == 6
    assert set(files) == {"embedded"}
