"""``infinite-talk bench`` on a GPU, with a few layers of the full width."""

from __future__ import annotations

import json

import pytest
import torch

from infinite_talk.frontends.cli.main import run

pytestmark = pytest.mark.gpu
QUICK = ("bench", "--model", "14b", "--repeats", "3", "--seconds-warm-up", "0.2", "--seconds-ceiling", "0.2")


def result(capsys, *arguments) -> dict:
    assert run([*QUICK, *arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)["cases"][0]["result"]


def test_a_pass_of_two_layers_comes_near_its_limit_and_nothing_waits(capsys):
    found = result(capsys, "--layers", "2", "--branches", "3", "--profile")
    assert found["tokens"] == 32_760 and found["estimate"]["layers"] == 40
    assert 0.2 < found["limit"]["fraction"] < 1.1
    groups = found["profile"]["groups"]
    assert groups["gemm"]["seconds"] > 0 and groups["attention"]["seconds"] > 0
    assert found["profile"]["host_syncs_in_loop"]["count"] == 0, found["profile"]["host_syncs_in_loop"]
    busy = sum(group["seconds"] for group in groups.values())
    assert busy == pytest.approx(found["seconds"]["median"], rel=0.5)


def test_float8_products_have_a_ceiling_of_their_own(capsys):
    if torch.cuda.get_device_capability() < (8, 9):
        pytest.skip("this GPU has no float8 products")
    found = result(capsys, "--layers", "1", "--quantization", "fp8_e4m3fn_scaled_fast")
    wide, narrow = found["ceilings"]["gemm_tflops"], found["ceilings"]["float8_tflops"]
    assert set(wide) == set(narrow) and all(narrow[shape] > wide[shape] for shape in wide)


def test_a_window_of_one_layer_reaches_the_disk(capsys):
    found = result(capsys, "--what", "window", "--layers", "1", "--size", "320x192", "--steps", "2")
    assert found["frames"] == 81 and found["bytes"] > 1000
