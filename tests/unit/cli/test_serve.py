"""Who is let in, where the server listens, and what it takes from the command line."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from infinite_talk import LoRA, ModelFiles, Settings, UsageError
from infinite_talk.frontends.cli.serve import (
    KEY_VARIABLE,
    Door,
    absolute,
    api_key,
    is_loopback,
    keep_profile,
    limits_of,
    listening,
)
from infinite_talk.jobs.desk import Desk

KEY = "0123456789abcdef"


def flags(**said: Any) -> dict[str, Any]:
    usual: dict[str, Any] = {"host": "127.0.0.1", "port": 0, "api_key_file": None}
    return usual | {"allow_host": None, "allow_origin": None} | said


@pytest.fixture(autouse=True)
def no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(KEY_VARIABLE, raising=False)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "LocalHost", "::1", "[::1]", "127.1.2.3"])
def test_this_machine_needs_no_key(host: str) -> None:
    assert is_loopback(host)
    assert Door.of(flags(host=host)).options(None).api_key is None


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.0.2", "example.org", "127.0.0.1.example.org", ""])
def test_other_machines_need_a_key(host: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="--api-key-file") as raised:
        Door.of(flags(host=host))
    assert raised.value.code == "key_needed"
    (tmp_path / "key").write_text(f"{KEY}\n")
    assert Door.of(flags(host=host, api_key_file=tmp_path / "key")).key == KEY
    monkeypatch.setenv(KEY_VARIABLE, KEY)
    assert Door.of(flags(host=host)).key == KEY
    assert KEY_VARIABLE not in os.environ  # the workers do not inherit it


@pytest.mark.parametrize(
    "key", ["", "short", "with a space in it", "\u00e9" * 20, "tab\tin the middle of it"]
)
def test_bad_keys_are_refused(key: str, tmp_path: Path) -> None:
    (tmp_path / "key").write_text(key, "utf-8")
    with pytest.raises(UsageError) as raised:
        api_key(tmp_path / "key")
    assert raised.value.code == "bad_key"
    assert not key or key not in str(raised.value)
    with pytest.raises(UsageError, match="cannot be read"):
        api_key(tmp_path / "none")


def test_names_that_are_answered(tmp_path: Path) -> None:
    (tmp_path / "key").write_text(KEY)
    door = {"api_key_file": tmp_path / "key"}
    assert Door.of(flags()).options(None).hosts == ("localhost", "127.0.0.1", "[::1]")
    assert Door.of(flags(host="0.0.0.0", **door)).options(None).hosts is None
    named = Door.of(flags(host="0.0.0.0", allow_host=["Talk.example"], **door)).options(7)
    assert (named.hosts or ())[-1] == "talk.example"
    assert named.upload_bytes == 7


def test_a_port_that_is_taken_is_named() -> None:
    with listening("127.0.0.1", 0) as line:
        port = line.getsockname()[1]
        with pytest.raises(UsageError, match=str(port)), listening("127.0.0.1", port):
            pass
        with socket.create_connection(("127.0.0.1", port)):
            pass
    for host, bad in (("no such host.", 1), ("127.0.0.1", 99999)):
        with pytest.raises(UsageError), listening(host, bad):
            pass


def test_limits_of_the_command_line() -> None:
    usual = limits_of({"max_queue": None, "max_upload": None, "max_seconds": None})
    assert usual == type(usual)()
    said = limits_of({"max_queue": 3, "max_upload": 0.5, "max_seconds": 9.0})
    assert (said.queued, said.upload_bytes, said.seconds) == (3, 2**29, 9.0)


def test_paths_are_made_absolute_and_names_of_presets_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a").mkdir()
    (tmp_path / "l.safetensors").touch()
    settings = Settings(
        model=Path("infinitetalk-14b"),
        models_dirs=(Path("a"),),
        files=ModelFiles(transformer=(Path("a"),)),
        loras=(LoRA(path=Path("l.safetensors"), strength=0.5),),
    )
    assert absolute(settings) == Settings(
        model=Path("infinitetalk-14b"),
        models_dirs=(tmp_path / "a",),
        files=ModelFiles(transformer=(tmp_path / "a",)),
        loras=(LoRA(path=tmp_path / "l.safetensors", strength=0.5),),
    )


def test_what_is_said_becomes_the_default_profile(tmp_path: Path) -> None:
    desk = Desk.open(tmp_path)
    keep_profile(desk, Settings())
    assert "default" not in desk.store.profiles()
    keep_profile(desk, Settings(threads=3))
    keep_profile(desk, Settings())  # a start that says nothing changes nothing
    assert desk.store.profiles()["default"].threads == 3
    desk.close()


def test_f18_the_server_starts_answers_and_ends_cleanly(tmp_path: Path) -> None:
    """Without workers and page, which have tests of their own."""
    command = [
        sys.executable,
        "-m",
        "infinite_talk",
        "serve",
        "--port",
        "0",
        "--json",
        "--workers",
        "0",
        "--no-page",
    ]
    environment = {**os.environ, "INFINITE_TALK_API_KEY": KEY}
    with subprocess.Popen(
        [*command, "--data-dir", str(tmp_path / "data")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    ) as process:
        try:
            assert process.stdout is not None
            told = json.loads(process.stdout.readline())
            url = told["url"]
            assert json.load(urllib.request.urlopen(f"{url}/health"))["status"] == "ok"
            second = subprocess.run(
                [*command, "--data-dir", str(tmp_path / "data")],
                capture_output=True,
                text=True,
                env=environment,
                check=False,
            )
            assert (second.returncode, json.loads(second.stdout)["error"]["code"]) == (1, "store_in_use")
            request = urllib.request.Request(f"{url}/v1/videos", headers={"authorization": f"Bearer {KEY}"})
            assert json.load(urllib.request.urlopen(request))["data"] == []
            process.send_signal(signal.SIGTERM)
            ends = time.monotonic() + 60
            while process.poll() is None and time.monotonic() < ends:
                time.sleep(0.05)
            assert process.returncode == 143
            assert process.stderr is not None
            assert KEY not in process.stderr.read()
        finally:
            process.kill()
    assert told["data_dir"] == str(tmp_path / "data")
