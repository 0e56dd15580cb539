"""The embedded model speaks: what ``./run demo`` makes, measured, and measured again after it was spoilt."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from infinite_talk.frontends.cli.demo import EMBEDDED
from infinite_talk.frontends.cli.main import run
from infinite_talk.lipsync import Listener, load_listener, measure, shortcomings
from infinite_talk.lipsync.film import pictures, sound
from tests.drawn import speak, write_video

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (EMBEDDED / "model.json").is_file(), reason="the embedded model is not there yet"),
]


@dataclass(frozen=True)
class Demo:
    """The generated video and what is in it."""

    video: Path
    frames: np.ndarray  # (F, H, W, 3)
    voice: np.ndarray  # (S,) at the recording's own rate
    rate: int
    listener: Listener

    def spoilt(self, frames: np.ndarray, voice: np.ndarray, rate: int) -> str:
        """What these frames with this sound fall short of, in one line."""
        path = write_video(self.video.with_name("spoilt.mp4"), frames, voice, rate=rate)
        return "; ".join(shortcomings(measure(path, listener=self.listener)))


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Demo:
    """Generated once."""
    video = tmp_path_factory.mktemp("demo") / "demo.mp4"
    assert run(["demo", "--quiet", "-o", str(video)]) == 0
    found = sound(video)
    assert found is not None
    return Demo(video, np.stack(list(pictures(video))), *found, load_listener())


def test_the_sample_portrait_speaks_the_sample_recording(demo: Demo, capsys):
    report = measure(demo.video, listener=demo.listener)
    assert shortcomings(report) == []
    assert report.with_speech is not None
    assert run(["lipsync", "--json", str(demo.video)]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["shortcomings"] == []
    assert answer["speech"]["r"] == pytest.approx(report.with_speech.r, abs=1e-3)


def test_written_again_it_still_passes(demo: Demo):
    """What follows fails for what was changed, not for being encoded twice."""
    assert demo.spoilt(demo.frames, demo.voice, demo.rate) == ""


def test_another_recording_under_it_does_not_pass(demo: Demo):
    pytest.importorskip("espeakng_loader")
    other, _ = speak(
        "Nobody asked the old farmer about the weather, but he talked for an hour. "
        "All of us wanted to go home before dark.",
        "en-us+linda",
    )
    assert "against the speech is under" in demo.spoilt(demo.frames, other, 16_000)


def test_its_recording_backwards_does_not_pass(demo: Demo):
    backwards = demo.voice[::-1].copy()
    assert "against the speech is under" in demo.spoilt(demo.frames, backwards, demo.rate)


def test_a_frozen_mouth_does_not_pass(demo: Demo):
    frozen = np.repeat(demo.frames[:1], len(demo.frames), axis=0)
    words = demo.spoilt(frozen, demo.voice, demo.rate)
    assert "hardly moves" in words
    assert "against the speech is under" in words


@pytest.mark.parametrize("by", [-5, 5])
def test_shifted_sound_does_not_pass(demo: Demo, by: int):
    shifted = np.roll(demo.voice, by * demo.rate // 25)
    assert f"{-by:+d} frames off the speech" in demo.spoilt(demo.frames, shifted, demo.rate)
