"""Machines that are set up unlike a developer's: no home, few files, no language, names of every script."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path

import av


def started(arguments: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    """The program where the home cannot be made, 64 files may be open and the language is plain C."""
    keep = ("PATH", "PYTHONPATH", "LD_LIBRARY_PATH", "OMP_NUM_THREADS")
    environment = {name: os.environ[name] for name in keep if name in os.environ}
    return subprocess.run(
        [sys.executable, "-m", "infinite_talk", *arguments],
        cwd=folder,
        env=environment | {"HOME": "/dev/null/home", "LANG": "C"},
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64)),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def test_f11_a_video_is_made_on_an_odd_machine(
    tmp_path: Path, portrait: Path, speech: Path, tiny_bundle: Path
) -> None:
    folder = tmp_path / "Видео и ñ 数"
    folder.mkdir()
    (folder / "me 我.png").write_bytes(portrait.read_bytes())
    (folder / "речь a.wav").write_bytes(speech.read_bytes())
    media = ["--image", "me 我.png", "--audio", "речь a.wav", "-o", "готово 完.mp4"]
    done = started(["generate", *media, "--model", str(tiny_bundle), "--steps", "1"], folder)
    assert done.returncode == 0, done.stderr
    with av.open(str(folder / "готово 完.mp4")) as film:
        assert {stream.type for stream in film.streams} == {"video", "audio"}


def test_f11_a_service_without_a_place_for_its_data_says_so(tmp_path: Path) -> None:
    done = started(["serve", "--port", "0"], tmp_path)
    assert done.returncode == 6
    (line,) = done.stderr.splitlines()
    assert "cannot be made" in line and "--data-dir" in line
