"""The embedded model speaks: what ``./run demo`` makes, measured."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from infinite_talk.frontends.cli.demo import EMBEDDED
from infinite_talk.frontends.cli.main import run
from infinite_talk.lipsync import measure, shortcomings

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (EMBEDDED / "model.json").is_file(), reason="the embedded model is not there yet"),
]


def test_the_sample_portrait_speaks_the_sample_recording(tmp_path, capsys):
    video = tmp_path / "demo.mp4"
    assert run(["demo", "--json", "-o", str(video)]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert Path(answer["output"]) == video
    assert shortcomings(measure(video)) == []
