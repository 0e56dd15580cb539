"""The command line from files to files, with a model folder of a few thousand random parameters."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import infinite_talk
from infinite_talk.frontends.cli.main import run


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, portrait: Path, speech: Path) -> Path:
    """A work folder with a picture and a recording, and no configuration of the user."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "none"))
    for source, name in ((portrait, "me.png"), (speech, "speech.wav")):
        (tmp_path / name).write_bytes(source.read_bytes())
    return tmp_path


@pytest.fixture
def command(tiny_bundle: Path) -> list[str]:
    return ["generate", "--image", "me.png", "--audio", "speech.wav", "--model", str(tiny_bundle)]


def sha256(path: Path | str) -> str:
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def test_the_path_is_the_only_thing_on_stdout(here, command, capsys):
    assert run(command) == 0
    out, err = capsys.readouterr()
    assert out == "me-talking.mp4\n"
    assert Path("me-talking.mp4").stat().st_size > 1000
    assert "window 3/3" in err and "64x64" in err and "41 frames" in err
    assert "\x1b" not in err  # not a terminal: plain lines


def test_quiet_says_nothing(here, command, capsys):
    assert run([*command, "-q", "-o", "a.mp4"]) == 0
    assert capsys.readouterr().err == ""


def test_json_is_one_object_with_the_recipe(here, command, capsys):
    assert run([*command, "--json", "-o", "a.mp4", "--seed", "5", "--steps", "1"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert (answer["ok"], answer["output"]) == (True, "a.mp4")
    assert (answer["recipe"]["request"]["seed"], answer["recipe"]["request"]["steps"]) == (5, 1)


def test_dry_run_says_what_would_be_made_and_makes_nothing(here, command, capsys):
    before = set(here.iterdir())
    assert run([*command, "--json", "--dry-run", "--size", "96x64!"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert (answer["width"], answer["height"], answer["frames"], answer["windows"]) == (96, 64, 41, 3)
    assert answer["memory_bytes"] > 0 and answer["estimated_seconds"] >= 0
    assert run([*command, "--dry-run"]) == 0
    assert "me-talking.mp4: 64x64, 0:02 (41 frames) in 3 windows" in capsys.readouterr().out
    assert set(here.iterdir()) == before


def test_flags_variables_and_file_reach_the_recipe(here, command, capsys, monkeypatch):
    Path("my.toml").write_text("seed = 1\nsteps = 1\nshift = 1.0\n")
    monkeypatch.setenv("INFINITE_TALK_SEED", "2")
    monkeypatch.setenv("INFINITE_TALK_STEPS", "2")
    assert run([*command, "--json", "-o", "a.mp4", "--config", "my.toml", "--seed", "3"]) == 0
    request = json.loads(capsys.readouterr().out)["recipe"]["request"]
    assert (request["seed"], request["steps"], request["shift"]) == (3, 2, 1.0)


def test_an_existing_file_is_kept_unless_forced(here, command, capsys):
    Path("a.mp4").write_bytes(b"mine")
    assert run([*command, "-o", "a.mp4"]) == 6
    assert Path("a.mp4").read_bytes() == b"mine"
    assert "--force" in capsys.readouterr().err
    assert run([*command, "-o", "a.mp4", "--force"]) == 0
    assert Path("a.mp4").stat().st_size > 1000


def test_places_that_cannot_be_written(here, command):
    assert run([*command, "-o", "no/where/a.mp4"]) == 6
    assert run([*command, "-o", "."]) == 6


def test_a_recipe_makes_the_same_file_again(here, command):
    assert run([*command, "-o", "a.mp4", "--seed", "9", "--prompt", "one | two"]) == 0
    model = command[command.index("--model") :]
    assert run(["generate", "--from", "a.mp4", *model, "-o", "b.mp4"]) == 0
    assert sha256("a.mp4") == sha256("b.mp4")
    assert run(["generate", "--from", "a.mp4", *model, "-o", "c.mp4", "--seed", "10"]) == 0
    assert sha256("a.mp4") != sha256("c.mp4")
    assert run(["generate", "--from", "me.png", *model, "-o", "d.mp4"]) == 3


def test_an_official_job(here, command, capsys):
    Path("job.json").write_text(
        json.dumps({"prompt": "x", "cond_video": "me.png", "cond_audio": {"person1": "speech.wav"}})
    )
    model = command[command.index("--model") :]
    assert run(["generate", "--job", "job.json", "--json", "--steps", "1", *model, "-o", "a.mp4"]) == 0
    assert json.loads(capsys.readouterr().out)["recipe"]["request"]["prompt"] == "x"
    assert run(["generate", "--job", "job.json", "--from", "a.mp4", *model]) == 2


def test_two_people(here, command, capsys):
    two = [
        *command,
        "--audio",
        "none",
        "--box",
        "2,10,40,90",
        "--box",
        "60,10,110,90",
        "--json",
        "-o",
        "a.mp4",
    ]
    assert run(two) == 0
    speakers = json.loads(capsys.readouterr().out)["recipe"]["request"]["speakers"]
    assert [speaker["audio"] is None for speaker in speakers] == [False, True]


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (["--steps", "0"], 2),
        (["--size", "big"], 2),
        (["--device", "cuda"], 2),
        (["--mask", "me.png", "--mask", "me.png"], 2),
        (["--scene-cuts"], 2),
        (["--audio-start", "100"], 3),
        (["--prompt", "x" * 32_001], 3),
        (["--model", "me.png"], 4),
        (["--model", "nowhere"], 4),
    ],
)
def test_exit_codes(here, command, change, code, capsys):
    import torch

    if "cuda" in change and torch.cuda.is_available():
        pytest.skip("this machine has what is missed")
    assert run([*command, *change, "-o", "a.mp4", "--json"]) == code
    out, err = capsys.readouterr()
    assert json.loads(out)["error"]["exit_code"] == code
    assert "Traceback" not in err
    assert not Path("a.mp4").exists()


def test_text_as_sound_is_refused(here, command):
    Path("speech.wav").write_text("hello")
    assert run(command) == 3


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_stopped_run_keeps_its_windows_and_continues_to_the_same_bytes(here, command, number, code):
    slow = [*command, "--steps", "40", "-o", "a.mp4"]
    with started(slow) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if "window 2/3" in line:
                process.send_signal(number)
                break
        rest = process.stderr.read()
        assert process.wait(timeout=120) == code, rest
    assert not Path("a.mp4").exists()
    assert list(here.glob("*.take"))
    assert "once more" in rest and "Traceback" not in rest
    assert run(slow) == 0
    assert run([*command, "--steps", "40", "-o", "whole.mp4"]) == 0
    assert sha256("a.mp4") == sha256("whole.mp4")
    assert not list(here.glob("*.take"))


def test_the_second_ctrl_c_stops_at_once(here, command):
    with started([*command, "--steps", "1000", "-o", "a.mp4"]) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if "window 1/3" in line:
                break
        process.send_signal(signal.SIGINT)
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=120) in (130, 143)
    assert not Path("a.mp4").exists()


def started(arguments: list[str]) -> subprocess.Popen[str]:
    """The program in a process of its own."""
    code = "from infinite_talk.frontends.cli.main import main; main()"
    environment = os.environ | {"PYTHONPATH": str(Path(infinite_talk.__file__).parents[1])}
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True,
        env=environment,
    )  # fmt: skip


def test_doctor_says_what_is_here(capsys):
    code = run(["doctor", "--json"])
    found = json.loads(capsys.readouterr().out)
    assert code == {True: 0, False: 4}[found["embedded_model"]["ok"]]
    assert found["media"]["encoders"]["libx264"] and found["memory"]["total"] > 1e9
    assert len(found["verdict"]) == 2
    run(["doctor"])
    assert "embedded model:" in capsys.readouterr().out


def test_the_demo_makes_a_video_a_sheet_and_a_chart(here, tiny_bundle, monkeypatch, capsys):
    """With the tiny model in the place of the embedded one."""
    monkeypatch.setattr("infinite_talk.engine.EMBEDDED", tiny_bundle)
    monkeypatch.setattr("infinite_talk.frontends.cli.demo.EMBEDDED", here)
    monkeypatch.setattr("infinite_talk.frontends.cli.demo.PICTURES", ("me.png",))
    for _ in range(2):  # again: it may replace its own files
        assert run(["demo", "--json"]) == 0
        answer = json.loads(capsys.readouterr().out)
        assert answer["output"] == "outputs/demo.mp4"
        assert all(Path(answer[name]).stat().st_size > 1000 for name in ("output", "sheet", "chart"))
        assert answer["lipsync"]["frames"] == 41
    assert run(["lipsync", "outputs/demo.mp4", "--chart", "again.png"]) == 0
    assert "lip sync: r " in capsys.readouterr().out and Path("again.png").exists()
    assert run(["lipsync", "me.png"]) == 3
    assert run(["lipsync", "nothing.mp4"]) == 3
