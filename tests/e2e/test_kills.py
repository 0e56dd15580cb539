"""The command line, killed at random moments and started again, ends in the bytes of an undisturbed run."""

from __future__ import annotations

import hashlib
import json
import time
from pathlib import Path

import numpy as np
import pytest

from bench.kills import endure, take_of, windows_in
from bench.sounds import write_wav
from tests.e2e.processes import KILLED, attempt, attempt_until

RATE = 16_000
WINDOWS = 6
FRAMES = 17 + (WINDOWS - 1) * 12


@pytest.fixture(scope="module")
def command(portrait: Path, tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """A video of six windows."""
    noise = np.random.default_rng(6).normal(0, 3000, FRAMES * RATE // 25)
    recording = write_wav(tmp_path_factory.mktemp("recording") / "six.wav", noise, RATE)
    return ["generate", "--image", str(portrait), "--audio", str(recording), "--model", str(tiny_bundle)]


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.slow
def test_twenty_kills_leave_no_trace(tmp_path: Path, command: list[str]):
    errors = tmp_path / "errors.txt"

    def once(output: Path, moment: float | None) -> int | None:
        return attempt([*command, "-q", "-o", str(output)], errors, moment)

    assert once(tmp_path / "first.mp4", None) == 0, errors.read_text()  # also starts the server of processes
    began = time.perf_counter()
    assert once(tmp_path / "whole.mp4", None) == 0, errors.read_text()
    duration = time.perf_counter() - began
    whole = sha256(tmp_path / "whole.mp4")
    assert whole == sha256(tmp_path / "first.mp4")
    assert len(json.loads((tmp_path / "whole.mp4.json").read_text())["windows"]) == WINDOWS

    folder = tmp_path / "killed"
    folder.mkdir()
    ordeal = endure(once, folder, duration=duration, kills=20, seed=1)
    print(f"a run of {duration:.2f} s: {ordeal}")
    assert len(ordeal.kills) == 20 and set(ordeal.videos) == {whole}
    names = {f"{number}.mp4{ending}" for number in range(len(ordeal.videos)) for ending in ("", ".json")}
    assert {path.name for path in folder.iterdir()} == names  # nothing else is left behind


def test_killed_after_each_window_the_bytes_are_the_same(tmp_path: Path, command: list[str]):
    whole, output, errors = tmp_path / "whole.mp4", tmp_path / "me.mp4", tmp_path / "errors.txt"
    assert attempt([*command, "-q", "-o", str(whole)], errors) == 0, errors.read_text()
    arguments = [*command, "-q", "-o", str(output)]
    for window in range(WINDOWS):
        there = take_of(output) / f"window-{window:05}.json"
        assert attempt_until(arguments, errors, there) == KILLED
        assert windows_in(output) == window + 1
    assert attempt(arguments, errors) == 0, errors.read_text()
    assert sha256(output) == sha256(whole)


def test_killed_between_the_name_and_the_tidying(tmp_path: Path, command: list[str]):
    output, errors = tmp_path / "me.mp4", tmp_path / "errors.txt"
    arguments = [*command, "-q", "-o", str(output)]
    assert attempt_until(arguments, errors, output) == KILLED
    assert output.exists() and take_of(output).exists()
    named = sha256(output)
    assert attempt(arguments, errors) == 0, errors.read_text()
    assert sha256(output) == named and not take_of(output).exists()
    assert attempt(arguments, errors) == 6  # now it is a finished video like any other
    assert "--force" in errors.read_text() and sha256(output) == named
