"""What ``doctor`` says of kernels and precisions."""

from __future__ import annotations

import json

import pytest
import torch

from infinite_talk import Quantization, precision_matrix
from infinite_talk.frontends.cli.main import run
from infinite_talk.ops.attention.matrix import AttentionRow

ROWS = (
    AttentionRow("sdpa", "torch", True, True, "", "", "torch 2.13", False, 1.25),
    AttentionRow("flash_attn_3", "FA 3", True, True, "", "", "fa3-fwd 0.0.3", True, 0.5),
    AttentionRow("sageattn", "Sage", False, False, "needs the package sageattention", "Build it.", "", False, None),
)  # fmt: skip


@pytest.fixture
def kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("infinite_talk.ops.attention.matrix.attention_matrix", lambda: ROWS)


def test_every_kernel_is_a_line_with_its_time_or_what_is_missing(kernels, capsys):
    assert run(["doctor"]) == 0
    said = capsys.readouterr().out
    assert "attention: auto takes flash_attn_3" in said
    lines = {line.split()[0]: line for line in said.splitlines() if line.strip()}
    assert "0.5" in lines["flash_attn_3"] and "fa3-fwd 0.0.3" in lines["flash_attn_3"]
    assert "no: needs the package sageattention. Build it." in lines["sageattn"]


def test_the_json_has_both_matrices(kernels, capsys):
    run(["doctor", "--json"])
    found = json.loads(capsys.readouterr().out)
    assert found["attention"]["used"] == "flash_attn_3"
    assert [row["name"] for row in found["attention"]["kernels"]] == [row.name for row in ROWS]
    assert {row["name"] for row in found["precision"]} == set(Quantization)


@pytest.mark.parametrize(
    ("capability", "replaced"),
    [
        (None, {name for name in Quantization if name.endswith("_fast")} - {"int8_fast"}),
        ((8, 6), {name for name in Quantization if name.endswith("_fast")} - {"int8_fast"}),
        ((9, 0), {"fp4_scaled_fast"}),
        ((12, 0), set()),
    ],
)
def test_precisions_say_what_runs_instead(monkeypatch, capability, replaced):
    monkeypatch.setattr("infinite_talk.weights.support.capability_of", lambda _: capability)
    rows = {row.name: row for row in precision_matrix(torch.device("cpu"))}
    assert {name for name, row in rows.items() if not row.native} == replaced
    assert all(row.runs == row.name and not row.why for row in rows.values() if row.native)
    assert all(
        row.runs == row.name.removesuffix("_fast") and row.why for row in rows.values() if not row.native
    )
