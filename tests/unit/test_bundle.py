"""Model folders: round trips in every precision, and what damaged ones are told."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from infinite_talk.errors import CheckpointError
from infinite_talk.presets import Defaults
from infinite_talk.weights.bundle import Store, load_bundle
from infinite_talk.weights.manifest import PARTS, read_manifest
from tests.bundles import DEFAULTS, save_tiny_bundle

CPU = torch.device("cpu")


@pytest.mark.parametrize(("store", "error"), [(Store.FP32, 0), (Store.FP16, 1e-3), (Store.INT8, 1e-2)])
def test_saved_models_come_back(tmp_path: Path, store: Store, error: float) -> None:
    exact = load_bundle(save_tiny_bundle(tmp_path / "exact"), CPU, torch.float32)
    rooms = load_bundle(save_tiny_bundle(tmp_path / "stored", store), CPU, torch.float32)
    assert (rooms.name, rooms.version, rooms.defaults) == ("tiny", "1", DEFAULTS)
    for part in PARTS:
        expected, found = getattr(exact, part).state_dict(), getattr(rooms, part).state_dict()
        assert not getattr(rooms, part).training
        assert expected.keys() == found.keys()
        for name, tensor in expected.items():
            limit = error * max(1.0, float(tensor.abs().max()))
            torch.testing.assert_close(found[name], tensor, atol=limit, rtol=0)


def test_smaller_stores_are_smaller(tmp_path: Path) -> None:
    sizes = []
    for store in (Store.FP32, Store.FP16, Store.INT8):
        tensors = load_file(save_tiny_bundle(tmp_path / store, store) / "transformer.safetensors")
        sizes.append(sum(tensor.nbytes for tensor in tensors.values()))
    assert sizes[0] > sizes[1] > sizes[2]


def test_the_transformer_alone_takes_the_precision(tiny_bundle: Path) -> None:
    rooms = load_bundle(tiny_bundle, CPU, torch.bfloat16)
    dtypes = {part: next(getattr(rooms, part).parameters()).dtype for part in PARTS}
    assert dtypes.pop("transformer") is torch.bfloat16
    assert set(dtypes.values()) == {torch.float32}


def _without(key: str) -> Callable[[dict[str, Any]], None]:
    return lambda values: values.pop(key)


def _wider(values: dict[str, Any]) -> None:
    values["transformer"]["config"]["dim"] = 48


def _heads(values: dict[str, Any]) -> None:
    values["text"]["config"]["num_heads"] = 3


def _outside(values: dict[str, Any]) -> None:
    values["vae"]["file"] = "../vae.safetensors"


def _newer(values: dict[str, Any]) -> None:
    values["format"] = "infinite-talk-model/9"


def _unknown_default(values: dict[str, Any]) -> None:
    values["defaults"]["colour"] = 1


def _unchecked(values: dict[str, Any]) -> None:
    values["sha256"].pop("vae.safetensors")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (_without("vae"), "damaged"),
        (_wider, "does not fit"),
        (_heads, "makes no sense"),
        (_outside, "outside its folder"),
        (_newer, "infinite-talk-model/9"),
        (_unknown_default, "newer version"),
        (_unchecked, "no checksum"),
    ],
)
def test_a_wrong_description_is_refused(
    tiny_bundle: Path, tmp_path: Path, change: Callable[[dict[str, Any]], None], said: str
) -> None:
    folder = shutil.copytree(tiny_bundle, tmp_path / "model")
    values = json.loads((folder / "model.json").read_text())
    change(values)
    (folder / "model.json").write_text(json.dumps(values))
    with pytest.raises(CheckpointError, match=said):
        load_bundle(folder, CPU, torch.float32)


@pytest.mark.parametrize("damage", ["flip", "cut", "remove", "json"])
def test_a_damaged_file_is_refused(tiny_bundle: Path, tmp_path: Path, damage: str) -> None:
    folder = shutil.copytree(tiny_bundle, tmp_path / "model")
    path = folder / "speech.safetensors"
    whole = path.read_bytes()
    if damage == "flip":
        path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    elif damage == "cut":
        path.write_bytes(whole[: len(whole) // 2])
    elif damage == "remove":
        path.unlink()
    else:
        (folder / "model.json").write_text("{")
    with pytest.raises(CheckpointError):
        load_bundle(folder, CPU, torch.float32)


def test_defaults_survive_json() -> None:
    for defaults in (Defaults(), DEFAULTS):
        assert Defaults.from_json(json.loads(json.dumps(defaults.to_json()))) == defaults


def test_the_digest_changes_with_any_file(tiny_bundle: Path, tmp_path: Path) -> None:
    first = read_manifest(tiny_bundle)
    other = read_manifest(save_tiny_bundle(tmp_path / "other", Store.FP16))
    assert first.digest != other.digest
    assert first.digest == read_manifest(save_tiny_bundle(tmp_path / "same")).digest
