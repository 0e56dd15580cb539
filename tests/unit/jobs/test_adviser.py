"""The adviser: answers of a process of its own, kept where they stay true, errors as they are, a new process after a
crash; and the server's process without torch."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from infinite_talk import CheckpointError, Compile, Request, Settings, Speaker
from infinite_talk.errors import InfiniteTalkError
from infinite_talk.jobs import adviser as room
from infinite_talk.jobs.adviser import Adviser
from tests.bundles import save_tiny_bundle


@pytest.fixture(scope="module")
def adviser():
    made = Adviser(rest=60)
    yield made
    made.close()


REQUEST = Request(
    speakers=(Speaker(audio=Path("a.wav")),),
    window_frames=17,
    motion_frames=5,
    text_guidance=1,
    audio_guidance=1,
)


def test_a_forecast_without_opening_media(adviser):
    found = adviser.forecast(REQUEST, Settings(), size="192x128!", seconds=2.0)
    assert (found.width, found.height, found.video_seconds) == (192, 128, 2.0)
    assert found.windows == 4  # 17 frames, then 12 more each, of 50
    assert found.passes == found.windows * found.steps
    assert found.seconds > 0
    assert found.memory > 1e7


def test_what_is_known_is_not_asked_again(adviser, monkeypatch):
    first = adviser.forecast(REQUEST, Settings(), size="192x128!", seconds=2.0)
    monkeypatch.setattr(adviser, "_ask", None)
    assert adviser.forecast(REQUEST, Settings(), size="192x128!", seconds=2.0) == first


def test_what_really_runs_and_why(adviser, tmp_path):
    settings = Settings(model=save_tiny_bundle(tmp_path / "model"), compile=Compile())
    found = adviser.runs(settings)
    assert found.summary.endswith(found.attention)
    if found.device == "CPU":
        assert any("torch.compile" in note for note in found.notes)


def test_errors_keep_their_class_and_words(adviser, tmp_path):
    with pytest.raises(CheckpointError, match="no_such_model") as raised:
        adviser.runs(Settings(model=tmp_path / "no_such_model"))
    assert raised.value.code == "checkpoint_missing"


def test_files_are_found_by_what_they_hold(adviser, tmp_path):
    (tmp_path / "loras").mkdir()
    (tmp_path / "loras" / "fast.safetensors").write_bytes(b"\x02\x00\x00\x00\x00\x00\x00\x00{}")
    (tmp_path / "vae.safetensors").write_bytes(b"no header")
    found = {one.name: one for one in adviser.files([tmp_path])}
    assert found["loras/fast.safetensors"].part == "lora"
    assert found["vae.safetensors"].problem


def fake(monkeypatch, script: str, **options) -> Adviser:
    monkeypatch.setattr(room, "_COMMAND", (sys.executable, "-c", script))
    return Adviser(**options)


def test_a_process_that_dies_is_started_again(monkeypatch):
    adviser = fake(monkeypatch, "while input(): print('{\"answer\": []}', flush=True)")
    assert adviser.files([]) == ()
    first = adviser._child
    os.kill(first.pid, signal.SIGKILL)
    first.wait()
    assert adviser.files([]) == ()
    assert adviser._child is not first
    adviser.close()


def test_a_process_that_always_dies_is_given_up(monkeypatch):
    with pytest.raises(InfiniteTalkError, match="ended without an answer") as raised:
        fake(monkeypatch, "raise SystemExit").machine()
    assert raised.value.code == "advice_unavailable"


def test_patience_ends(monkeypatch):
    adviser = fake(monkeypatch, "input(); import time; time.sleep(600)", patience=0.1)
    with pytest.raises(InfiniteTalkError, match="did not answer within"):
        adviser.machine()
    assert adviser._child is None


def test_an_unreadable_answer_is_an_error_of_ours(monkeypatch):
    adviser = fake(monkeypatch, 'input(); print(\'{"answer": {"device": 1}}\', flush=True); input()')
    with pytest.raises(InfiniteTalkError, match="cannot be read"):
        adviser.machine()
    adviser.close()


def test_a_measurement_lies_beside_the_video_until_that_changes(tmp_path, monkeypatch):
    video, asked = tmp_path / "video.mp4", []
    video.write_bytes(b"one")
    adviser = Adviser()
    monkeypatch.setattr(adviser, "_ask", lambda _question, given: asked.append(given) or {"r": len(asked)})
    assert [adviser.measured(video)["r"] for _ in range(3)] == [1, 1, 1]
    video.write_bytes(b"another")
    assert adviser.measured(video)["r"] == 2
    (tmp_path / "video.mp4.quality.json").write_text("{")
    assert adviser.measured(video)["r"] == 3
    assert json.loads((tmp_path / "video.mp4.quality.json").read_text())["quality"] == {"r": 3}


def test_the_server_side_needs_no_torch():
    code = (
        "import sys, infinite_talk.jobs.adviser, infinite_talk.jobs.desk; assert 'torch' not in sys.modules"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
