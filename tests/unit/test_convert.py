"""Converting between files: every dialect in, the published names and safetensors out."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from infinite_talk.errors import CapabilityError, CheckpointError, NoSpaceError, UsageError
from infinite_talk.ops.linear import Packed
from infinite_talk.settings import Precision, Quantization
from infinite_talk.weights.checkpoint import open_checkpoint
from infinite_talk.weights.convert import convert_model
from infinite_talk.weights.writer import TensorWriter
from tests import dialects

WEIGHTS = dialects.transformer()


def _plain(checkpoint):
    """All weights of a checkpoint, unpacked."""
    values = {name: checkpoint.weights[name] for name in checkpoint.weights}
    return {n: v.unpack() if isinstance(v, Packed) else v.float() for n, v in values.items()}


def _same(one, other, atol=0.0):
    assert one.keys() == other.keys()
    for name, value in one.items():
        torch.testing.assert_close(
            value, other[name].float(), rtol=0, atol=atol, msg=lambda m, n=name: f"{n}: {m}"
        )


def test_a_pickle_becomes_safetensors_with_the_same_numbers(tmp_path):
    expected = dialects.write_pth(tmp_path / "in.pth", WEIGHTS)
    done = convert_model([tmp_path / "in.pth"], tmp_path / "out.safetensors", allow_pickle=True)
    _same(_plain(open_checkpoint(done.path)), expected)
    assert done.part == "transformer" and done.tensors == len(WEIGHTS)


@pytest.mark.parametrize("quantization", ["fp8_e4m3fn", "fp8_e4m3fn_scaled", "fp8_e5m2_scaled", "int8"])
def test_quantised_files_read_back_as_the_policy_would_have_made_them(tmp_path, quantization):
    from infinite_talk.weights.precision import FORMATS, Policy

    plain = dialects.write_plain(tmp_path / "in.safetensors", WEIGHTS)
    kind = Quantization(quantization)
    done = convert_model([tmp_path / "in.safetensors"], tmp_path / "out.safetensors", quantization=kind)
    again = open_checkpoint(done.path)
    policy = Policy(kind, FORMATS[kind])
    stored = {name: policy.store(name, value, None) for name, value in plain.items()}
    assert any(isinstance(value, Packed) for value in stored.values())
    _same(_plain(again), {n: v.unpack() if isinstance(v, Packed) else v for n, v in stored.items()})
    for name, value in stored.items():
        kept = again.weights[name]
        assert isinstance(kept, Packed) == isinstance(value, Packed) or kept.dtype.itemsize == 1, name
    assert done.path.stat().st_size < 0.7 * (tmp_path / "in.safetensors").stat().st_size


def test_gguf_is_unpacked_when_a_precision_is_asked_for_and_refused_otherwise(tmp_path):
    expected = dialects.write_gguf(tmp_path / "in.gguf", WEIGHTS)
    with pytest.raises(CapabilityError, match="--precision bf16"):
        convert_model([tmp_path / "in.gguf"], tmp_path / "out.safetensors")
    assert [path.name for path in tmp_path.iterdir()] == ["in.gguf"], "nothing half-written stays"
    done = convert_model([tmp_path / "in.gguf"], tmp_path / "out.safetensors", precision=Precision.FP32)
    _same(_plain(open_checkpoint(done.path)), expected, atol=1e-6)


def test_a_base_and_a_speech_branch_become_one_file(tmp_path):
    base, branch = tmp_path / "base.safetensors", tmp_path / "branch.safetensors"
    dialects.write_plain(base, dialects.base_of(WEIGHTS))
    dialects.write_plain(branch, dialects.adapter_of(WEIGHTS))
    done = convert_model([base], tmp_path / "out.safetensors", adapter=branch)
    again = open_checkpoint(done.path)
    assert again.has_speech and set(again.weights) == set(WEIGHTS)


def test_sizes_that_shapes_do_not_tell_travel_along(tmp_path):
    dialects.write_plain(tmp_path / "in.safetensors", WEIGHTS)
    convert_model([tmp_path / "in.safetensors"], tmp_path / "out.safetensors")
    config = json.loads(safe_open(tmp_path / "out.safetensors", "pt").metadata()["config"])
    assert (config["num_heads"], config["dim"]) == (dialects.TINY.num_heads, dialects.TINY.dim)


@pytest.mark.parametrize(
    ("output", "options", "error"),
    [
        ("out.pth", {}, UsageError),
        ("no/out.safetensors", {}, NoSpaceError),
        ("in.safetensors", {}, NoSpaceError),
        ("out.safetensors", {"quantization": Quantization.NF4}, UsageError),
    ],
)
def test_what_cannot_be_written_is_refused_at_once(tmp_path, output, options, error):
    dialects.write_plain(tmp_path / "in.safetensors", WEIGHTS)
    with pytest.raises(error):
        convert_model([tmp_path / "in.safetensors"], tmp_path / output, **options)


def test_numbers_that_do_not_fit_are_named(tmp_path):
    name = "blocks.0.ffn.0.weight"
    big = {**WEIGHTS, name: WEIGHTS[name].clone()}
    big[name][0, 0] = 1e5
    dialects.write_plain(tmp_path / "in.safetensors", big)
    with pytest.raises(CapabilityError, match=r"blocks.0.ffn.0.weight is too large for float16"):
        convert_model([tmp_path / "in.safetensors"], tmp_path / "out.safetensors", precision=Precision.FP16)
    big[name][0, 0] = torch.nan
    dialects.write_plain(tmp_path / "in.safetensors", big)
    with pytest.raises(CheckpointError, match="NaN"):
        convert_model([tmp_path / "in.safetensors"], tmp_path / "out.safetensors")
    assert not (tmp_path / "out.safetensors").exists()


# The writer.


def test_the_library_reads_what_is_written(tmp_path):
    tensors = {
        "a": torch.arange(6.0).reshape(2, 3),
        "empty": torch.zeros(0, 4, dtype=torch.float8_e4m3fn),
        "scalar": torch.tensor(3, dtype=torch.int64),
        'odd "name" ü': torch.randn(3, 5).to(torch.bfloat16).T,
        "truth": torch.tensor([True, False]),
    }
    with TensorWriter(tmp_path / "x.safetensors", tensors, {"k": "v" * 100}) as file:
        for name, tensor in tensors.items():
            file.add(name, tensor)
    again = load_file(tmp_path / "x.safetensors")
    assert again.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert again[name].dtype == tensor.dtype and torch.equal(again[name].float(), tensor.float())
    assert safe_open(tmp_path / "x.safetensors", "pt").metadata() == {"k": "v" * 100}
    assert [path.name for path in tmp_path.iterdir()] == ["x.safetensors"]


def test_an_error_on_the_way_leaves_the_old_file(tmp_path):
    path = tmp_path / "x.safetensors"
    path.write_bytes(b"old")
    with pytest.raises(RuntimeError), TensorWriter(path, ["a"]) as file:
        file.add("a", torch.zeros(1000))
        raise RuntimeError
    assert path.read_bytes() == b"old" and len(list(tmp_path.iterdir())) == 1


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device that is always full")
def test_a_full_disk_leaves_nothing(tmp_path):
    with pytest.raises(NoSpaceError, match="No space left"), TensorWriter(tmp_path / "x", ["a"]) as file:
        file._file.close()
        file._file = open("/dev/full", "wb", buffering=0)  # noqa: PTH123, SIM115
        file.add("a", torch.zeros(10_000))
    assert not list(tmp_path.iterdir())
