"""Packed weights of other programs become ours, and nothing that only looks like them does."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from infinite_talk.errors import CheckpointError
from infinite_talk.ops.linear import Packed
from infinite_talk.ops.linear.nvfp4 import NVFP4
from infinite_talk.ops.linear.scaled import FP8_E4M3FN, FP8_E5M2, INT8
from infinite_talk.weights.inspection import open_weights
from infinite_talk.weights.packing import Unpacked
from infinite_talk.weights.sources import open_tensors
from tests.dialects import write_comfy_quant, write_lightx2v, write_plain, write_quanto, write_scaled_fp8

STATE = {
    "blocks.0.ffn.0.weight": torch.randn(40, 32, generator=torch.Generator().manual_seed(1)) / 8,
    "blocks.0.ffn.0.bias": torch.randn(40, generator=torch.Generator().manual_seed(2)),
    "blocks.0.norm3.weight": torch.randn(32, generator=torch.Generator().manual_seed(3)),
    "head.head.weight": torch.randn(8, 32, generator=torch.Generator().manual_seed(4)),
}
WEIGHT = "blocks.0.ffn.0.weight"
LAYER = "blocks.0.ffn.0"


def opened(path: Path) -> Unpacked:
    return open_weights(open_tensors(path))


def same(found: Unpacked, expected: dict[str, Tensor]) -> None:
    assert found.shapes == {name: tuple(tensor.shape) for name, tensor in expected.items()}
    assert set(found) == set(expected)
    for name, tensor in expected.items():
        value = found[name]
        assert torch.equal(value.unpack() if isinstance(value, Packed) else value.float(), tensor), name


def changed(path: Path, **tensors: Tensor | None) -> None:
    """Write a file again with tensors of a layer replaced, added, or taken away (``None``)."""
    stored = load_file(path)
    for name, tensor in tensors.items():
        full = f"{LAYER}.{name}" if not name.startswith("_") else f"{WEIGHT}.{name}"
        if tensor is None:
            del stored[full]
        else:
            stored[full] = tensor
    save_file(stored, path)


@pytest.mark.parametrize("shape", ["()", "(1,)", "(1, 1)", "(out,)", "(out, 1)"])
@pytest.mark.parametrize("name", ["scale_weight", "weight_scale"])
@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.float8_e5m2])
def test_scaled_fp8_with_scales_of_every_shape(
    tmp_path: Path, shape: str, name: str, dtype: torch.dtype
) -> None:
    path = tmp_path / "m.safetensors"
    expected = write_scaled_fp8(path, STATE, dtype, scale_name=name, scale_shape=shape)
    found = opened(path)
    same(found, expected)
    assert found.passed_over == (f"{LAYER}.scale_input", "scaled_fp8")
    assert found.dialects == ("scaled" if name == "scale_weight" else "lightx2v",)
    value = found[WEIGHT]
    assert isinstance(value, Packed)
    assert value.format == (FP8_E4M3FN if dtype == torch.float8_e4m3fn else FP8_E5M2)
    assert value.parts["scale"].dtype == torch.float32


@pytest.mark.parametrize("dtype", [torch.int8, torch.float8_e4m3fn, torch.float8_e5m2])
@pytest.mark.parametrize("write", [write_lightx2v, write_quanto])
def test_scales_by_row(tmp_path: Path, write: object, dtype: torch.dtype) -> None:
    path = tmp_path / "m.safetensors"
    expected = write(path, STATE, dtype)  # type: ignore[operator]
    found = opened(path)
    same(found, expected)
    value = found[WEIGHT]
    assert isinstance(value, Packed)
    assert (
        value.format
        == {torch.int8: INT8, torch.float8_e4m3fn: FP8_E4M3FN, torch.float8_e5m2: FP8_E5M2}[dtype]
    )


@pytest.mark.parametrize("kind", ["nvfp4", "float8_e4m3fn"])
def test_newer_files_of_comfyui(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "m.safetensors"
    expected = write_comfy_quant(path, STATE, kind)
    found = opened(path)
    same(found, expected)
    value = found[WEIGHT]
    assert isinstance(value, Packed)
    assert value.format == (NVFP4 if kind == "nvfp4" else FP8_E4M3FN)


def test_mixed_files(tmp_path: Path) -> None:
    """Each layer is read by what it has: one scaled, one plain float8, one in bf16."""
    path = tmp_path / "m.safetensors"
    expected = write_scaled_fp8(path, STATE)
    stored = load_file(path)
    stored["blocks.0.ffn.2.weight"] = torch.ones(4, 8).to(torch.float8_e4m3fn)
    save_file(stored, path)
    found = opened(path)
    same(found, expected | {"blocks.0.ffn.2.weight": torch.ones(4, 8)})
    assert found.packed == {WEIGHT}
    assert isinstance(found["blocks.0.ffn.2.weight"], Tensor)


def test_plain_float8_stays_a_tensor(tmp_path: Path) -> None:
    expected = write_plain(tmp_path / "m.safetensors", STATE, torch.float8_e5m2)
    found = opened(tmp_path / "m.safetensors")
    same(found, expected)
    assert found.dialects == ()


def test_a_scale_beside_a_weight_in_full_precision_counts(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    write_plain(path, STATE)
    changed(path, scale_weight=torch.tensor(0.5))
    found = opened(path)[WEIGHT]
    assert isinstance(found, Tensor)
    assert found.dtype == torch.bfloat16
    assert torch.equal(found, STATE[WEIGHT].bfloat16() / 2)


def test_convolutions_in_8_bits_come_whole(tmp_path: Path) -> None:
    weight = torch.randint(-127, 128, (3, 2, 1, 2, 2), dtype=torch.int8)
    scale = torch.rand(3, 1, 1, 1, 1) + 0.1
    save_file({"c.weight._data": weight, "c.weight._scale": scale}, tmp_path / "m.safetensors")
    found = opened(tmp_path / "m.safetensors")
    same(found, {"c.weight": weight.float() * scale})


class TestRefused:
    def test_a_scale_that_is_missing(self, tmp_path: Path) -> None:
        path = tmp_path / "m.safetensors"
        write_quanto(path, STATE)
        changed(path, _scale=None)
        with pytest.raises(CheckpointError, match=r"1 scales missing \(blocks\.0\.ffn\.0\.weight\._scale\)"):
            opened(path)

    def test_a_scale_of_another_shape(self, tmp_path: Path) -> None:
        path = tmp_path / "m.safetensors"
        write_lightx2v(path, STATE)
        changed(path, weight_scale=torch.ones(7, 1))
        with pytest.raises(CheckpointError, match="scales that fit no weight"):
            opened(path)

    def test_scales_of_blocks_are_no_scales_of_rows(self, tmp_path: Path) -> None:
        path = tmp_path / "m.safetensors"
        write_lightx2v(path, STATE)
        changed(path, weight_scale=torch.ones(40, 4))
        with pytest.raises(CheckpointError, match="scales that fit no weight"):
            opened(path)

    @pytest.mark.parametrize("dtype", [torch.int8, torch.uint8])
    def test_integers_without_a_scale(self, tmp_path: Path, dtype: torch.dtype) -> None:
        path = tmp_path / "m.safetensors"
        write_plain(path, STATE)
        changed(path, weight=torch.ones(40, 32, dtype=dtype))
        with pytest.raises(CheckpointError, match="integers that are in no form"):
            opened(path)

    @pytest.mark.parametrize("scale", [torch.ones(()), torch.ones(40, 1), torch.ones(40, 2)])
    def test_four_bits_of_another_program(self, tmp_path: Path, scale: Tensor) -> None:
        path = tmp_path / "m.safetensors"
        write_plain(path, STATE)
        changed(path, weight=torch.ones(40, 16, dtype=torch.uint8), weight_scale=scale)
        with pytest.raises(CheckpointError, match=r"no form|fit no weight"):
            opened(path)

    @pytest.mark.parametrize(
        "setting", [{"format": "int8_blockwise"}, {"format": "nvfp4", "convrot": True}, {"format": "mxfp8"}]
    )
    @pytest.mark.parametrize("place", ["tensor", "metadata"])
    def test_kinds_that_scales_do_not_undo(
        self, tmp_path: Path, setting: dict[str, object], place: str
    ) -> None:
        path = tmp_path / "m.safetensors"
        write_lightx2v(path, STATE)
        stored, metadata = load_file(path), {}
        if place == "tensor":
            text = json.dumps(setting).encode()
            stored[f"{LAYER}.comfy_quant"] = torch.frombuffer(bytearray(text), dtype=torch.uint8)
        else:
            metadata = {"_quantization_metadata": json.dumps({"layers": {LAYER: setting}})}
        save_file(stored, path, metadata=metadata)
        with pytest.raises(CheckpointError, match=r"int8_blockwise|convrot|mxfp8"):
            opened(path)

    def test_a_quanto_map_that_says_otherwise(self, tmp_path: Path) -> None:
        path = tmp_path / "m.safetensors"
        write_quanto(path, STATE)
        opened(path)
        kinds = json.loads(path.with_suffix(".json").read_text())
        for wrong in (
            {},
            kinds | {"blocks.0.ffn.2": kinds[LAYER]},
            {LAYER: {"weights": "qfloat8_e5m2", "activations": "none"}},
            {LAYER: {"weights": "qint8", "activations": "qint8"}},
        ):
            path.with_suffix(".json").write_text(json.dumps(wrong))
            with pytest.raises(CheckpointError, match="disagree"):
                opened(path)

    def test_the_map_of_the_published_text_encoder_has_another_name(self, tmp_path: Path) -> None:
        path = tmp_path / "t5_fp8.safetensors"
        write_quanto(path, STATE, torch.float8_e4m3fn)
        path.with_suffix(".json").rename(tmp_path / "t5_map_fp8.json")
        opened(path)
        (tmp_path / "t5_map_fp8.json").write_text("{}")
        with pytest.raises(CheckpointError, match="disagree"):
            opened(path)
