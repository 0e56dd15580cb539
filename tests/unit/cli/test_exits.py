"""Every ending has a line, an exit code, and with --json an object."""

from __future__ import annotations

import errno
import json

import pytest

import infinite_talk
from infinite_talk import (
    Cancelled,
    CapabilityError,
    CheckpointError,
    InputError,
    NoSpaceError,
    NumericalError,
    OutOfMemoryError,
    TakeError,
    UsageError,
)
from infinite_talk.frontends.cli.exits import explain
from infinite_talk.frontends.cli.main import run


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (UsageError("x"), 2),
        (CapabilityError("x"), 2),
        (InputError("x"), 3),
        (CheckpointError("x"), 4),
        (OutOfMemoryError("x"), 5),
        (MemoryError(), 5),
        (NoSpaceError("x"), 6),
        (OSError(errno.ENOSPC, "No space left on device"), 6),
        (PermissionError(errno.EACCES, "Permission denied", "/x"), 6),
        (TakeError("x"), 1),
        (NumericalError("x"), 1),
        (Cancelled("x"), 130),
        (KeyboardInterrupt(), 130),
        (ZeroDivisionError("division by zero"), 1),
    ],
)
def test_exit_codes(error, code):
    failure = explain(error)
    assert failure.exit_code == code
    assert failure.message and "\n" not in failure.message
    assert failure.expected == (not isinstance(error, ZeroDivisionError))


def test_version(capsys):
    assert run(["--version"]) == 0
    assert capsys.readouterr().out.strip() == f"infinite-talk {infinite_talk.__version__}"
    assert run(["version", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["versions"]["infinite-talk"] == infinite_talk.__version__


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["generat"], 2, "generat"),
        (["generate", "--steps", "x"], 2, "steps"),
        (["generate", "--crf", "99"], 2, "--crf is 99"),
        (["generate", "--set", "stepz=3"], 2, "Did you mean steps"),
        (["generate", "--set", "steps=3", "--steps", "4"], 2, "given twice"),
        (["generate"], 2, "--image"),
        (["generate", "--image", "nowhere.png", "--audio", "nowhere.wav"], 3, "nowhere.png"),
        (["generate", "--job", "nowhere.json"], 3, "nowhere.json"),
        (["generate", "--config", "nowhere.toml"], 2, "nowhere.toml"),
    ],
)
def test_mistakes_are_one_line_and_one_object(arguments, code, said, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run([*arguments, "--json"]) == code
    out, err = capsys.readouterr()
    answer = json.loads(out)
    assert (answer["ok"], answer["error"]["exit_code"]) == (False, code)
    assert said in answer["error"]["message"]
    assert err.count("\n") == 1 and "Traceback" not in err


def test_a_fault_of_the_program_is_one_line_unless_asked(monkeypatch, capsys):
    def broken(_run):
        raise ZeroDivisionError("division by zero")

    monkeypatch.setattr("infinite_talk.frontends.cli.version.version", broken)
    assert run(["version"]) == 1
    assert "Traceback" not in capsys.readouterr().err
    monkeypatch.setattr("infinite_talk.frontends.cli.doctor.doctor", broken)
    assert run(["doctor", "--debug"]) == 1
    assert "Traceback" in capsys.readouterr().err


def test_a_missing_extra_says_how_to_get_it():
    failure = explain(ModuleNotFoundError("No module named 'sqlalchemy'", name="sqlalchemy"))
    assert (failure.code, failure.exit_code) == (
        "extra_missing",
        2,
    ) and "infinite-talk[web]" in failure.message
    assert explain(ModuleNotFoundError("No module named 'x'", name="x")).code == "internal"
