"""``infinite-talk models``: what it prints, for people and for programs, and its exit codes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from infinite_talk import PullProgress
from infinite_talk.frontends.cli.main import run
from infinite_talk.frontends.cli.models import download_line
from infinite_talk.weights.checkpoint import open_checkpoint
from infinite_talk.weights.hub.catalogue import PRESETS, preset
from tests import dialects
from tests.hub import fake_hub

WEIGHTS = dialects.transformer()


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """No configuration and no cache of the user."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "none"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path


def _json(capsys):
    return json.loads(capsys.readouterr().out)


def test_list_has_a_line_for_each_preset(capsys):
    assert run(["models", "list"]) == 0
    out = capsys.readouterr().out
    for one in PRESETS:
        assert any(line.startswith(f"{one.name} ") for line in out.splitlines()), one.name
    assert "Apache-2.0" in out and "24 GB" in out


def test_list_says_what_is_here(tmp_path, capsys):
    for file in preset("vae").files:
        place = tmp_path / "models" / file.repo / file.path
        place.parent.mkdir(parents=True)
        place.write_bytes(b"x")
    assert run(["models", "list", "--json", "--models-dir", str(tmp_path / "models")]) == 0
    states = {one["name"]: one for one in _json(capsys)["presets"]}
    assert states["vae"]["here"] and states["vae"]["bytes_missing"] == 0
    assert states["comfy-fp8-scaled"]["files_here"] == 1 and not states["comfy-fp8-scaled"]["here"]
    assert states["gguf-q8"]["files_here"] == 0


def test_the_models_folder_may_come_from_a_variable(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("INFINITE_TALK_MODELS_DIR", str(tmp_path / "models"))
    test_list_says_what_is_here(tmp_path, capsys)


def test_pull_without_a_network_says_what_it_would_do(capsys):
    assert run(["models", "pull", "gguf-q4", "--dry-run", "--json"]) == 0
    answer = _json(capsys)
    assert (answer["files"], answer["bytes"]) == (10, preset("gguf-q4").size)
    assert run(["models", "pull", "gguf-4"]) == 2
    assert "gguf-q4" in capsys.readouterr().err


_RUN = "import sys; from infinite_talk.frontends.cli.main import run; sys.exit(run(sys.argv[1:]))"


def test_pull_verify_and_offline_with_a_mirror(tmp_path, monkeypatch, capsys):
    """As a person runs it: the mirror, the token and the cache by the hub's own variables."""
    files = preset("tokenizer").files
    with fake_hub() as hub:
        for file in files:
            hub.add(file.repo, file.path, file.path.encode() * 100)
        env = os.environ | {"HF_ENDPOINT": hub.endpoint, "HF_HOME": str(tmp_path), "HF_TOKEN": "hf_x"}
        command = [sys.executable, "-c", _RUN, "models", "pull", "tokenizer", "--json"]
        first = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60, check=False)
        assert any(one.headers.get("authorization") == "Bearer hf_x" for one in hub.asked)
    assert first.returncode == 0, first.stderr
    answer = json.loads(first.stdout)
    assert answer["bytes"] == sum(len(file.path) * 100 for file in files)
    assert all(Path(path).is_relative_to(tmp_path / "hub") for path in answer["files"].values())
    assert "file 1/4" in first.stderr and "licence Apache-2.0" in first.stderr

    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert run(["models", "pull", "tokenizer"]) == 0
    assert capsys.readouterr().out == "tokenizer: 0 MB fetched\n"
    assert run(["models", "pull", "vae"]) == 4
    assert "HF_HUB_OFFLINE" in capsys.readouterr().err
    damaged = Path(answer["files"][files[0].key])
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"?")
    assert run(["models", "verify", "tokenizer"]) == 4
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[:-1]] == ["DAMAGED", "ok", "ok", "ok"]


def test_verify_without_words_checks_all_that_is_here(capsys):
    assert run(["models", "verify", "--json"]) == 0
    answer = _json(capsys)
    assert answer["ok"] and {one["source"] for one in answer["files"]} == {"model.json"}


def test_show_explains_a_file(tmp_path, capsys):
    dialects.write_scaled_fp8(tmp_path / "base.safetensors", dialects.base_of(WEIGHTS))
    assert run(["models", "show", "base.safetensors"]) == 0
    out = capsys.readouterr().out
    assert "transformer" in out and "fp8_e4m3fn scaled" in out and "--adapter" in out
    assert run(["models", "show", "base.safetensors", "--json"]) == 0
    (one,) = _json(capsys)["files"]
    assert (one["part"], one["speech_branch"], one["reason"]) == ("transformer", False, None)
    assert sum(share["bytes"] for share in one["census"]) == one["bytes"]


def test_show_says_what_a_lora_changes(tmp_path, capsys):
    pair = {
        "lora_down.weight": torch.zeros(4, 256),
        "lora_up.weight": torch.zeros(256, 4),
        "alpha": torch.ones(()),
    }
    save_file({f"lora_unet_blocks_0_self_attn_q.{n}": t for n, t in pair.items()}, tmp_path / "l.safetensors")
    assert run(["models", "show", "l.safetensors"]) == 0
    out = capsys.readouterr().out
    assert "what:      lora" in out and "changes 1 weights, rank 4" in out and "--lora" in out


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "is empty"),
        (b"<!DOCTYPE html><p>404", "web page"),
        (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS"),
        (b"nothing of the kind", "not a"),
    ],
)
def test_show_explains_what_is_wrong_with_a_file(tmp_path, capsys, content, says):
    (tmp_path / "x.safetensors").write_bytes(content)
    assert run(["models", "show", "x.safetensors"]) == 4
    assert says in capsys.readouterr().out
    dialects.write_plain(tmp_path / "cut.safetensors", dialects.adapter_of(WEIGHTS))
    whole = (tmp_path / "cut.safetensors").read_bytes()
    (tmp_path / "cut.safetensors").write_bytes(whole[:-3])
    assert run(["models", "show", "cut.safetensors", "x.safetensors"]) == 4
    assert "cut short" in capsys.readouterr().out


def test_convert_writes_what_was_asked_for(tmp_path, capsys):
    dialects.write_plain(tmp_path / "in.safetensors", WEIGHTS)
    command = [
        "models",
        "convert",
        "in.safetensors",
        "out.safetensors",
        "--quantization",
        "fp8_e4m3fn_scaled",
    ]
    assert run([*command, "--json"]) == 0
    assert _json(capsys)["part"] == "transformer"
    assert open_checkpoint(tmp_path / "out.safetensors").precision == "fp8_e4m3fn scaled"
    assert run(command) == 6
    assert "--force" in capsys.readouterr().err
    assert run([*command, "--force", "-q"]) == 0
    assert (
        run(["models", "convert", "in.safetensors", "out.safetensors", "--quantization", "nf4", "--force"])
        == 2
    )


def test_a_line_of_a_download():
    event = PullProgress("a/b/c.gguf", 2, 5, 10, 20, 3_400_000_000, 20_000_000_000)
    assert download_line(event, 85e6) == "17%, 3.4 GB of 20.0 GB, 85 MB/s, 3:15 left, file 3/5: c.gguf"
    assert download_line(event, None) == "17%, 3.4 GB of 20.0 GB, file 3/5: c.gguf"
