"""LoRA merging and quanto files give the recorded weights and predictions of the published program."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from infinite_talk.models.dit import DiTConfig, WanTransformer
from infinite_talk.models.dit.keys import is_speech_key
from infinite_talk.request import Compat
from infinite_talk.weights.builder import build
from infinite_talk.weights.checkpoint import open_checkpoint
from infinite_talk.weights.lora import merge_lora
from infinite_talk.weights.quanto import Dequantised, quantise_int8, read_kinds
from infinite_talk.weights.reader import TensorFiles
from tests.golden import GoldenFile, cases, golden_dir, sibling
from tests.parity.support import close, condition_of, weights_of

LORA_CASES = cases("lora_merge")
QUANT_CASES = cases("quant")
MANIFESTS = golden_dir().parent / "manifests"


def inputs_of(case: GoldenFile) -> GoldenFile:
    return sibling(case, case.config["inputs"])


def base_of(case: GoldenFile) -> dict[str, torch.Tensor]:
    """The weights that the case starts from."""
    if name := case.config.get("base_weights"):
        return sibling(case, name).tensors("w/")
    return weights_of(inputs_of(case))


@torch.no_grad()
def predicted(model: WanTransformer, case: GoldenFile, key: str) -> torch.Tensor:
    """The prediction at the time step that ends the name of a recorded output (``..._t500``)."""
    inputs, t = inputs_of(case), float(key.rpartition("_t")[2])
    return model(inputs["in/x"][None], torch.tensor([t]), condition_of(model, inputs))


@pytest.mark.parametrize("case", LORA_CASES, ids=lambda case: case.name)
def test_lora_like_the_published_program(case: GoldenFile) -> None:
    config = DiTConfig.from_json(inputs_of(case).config)
    base = base_of(case)
    model = build(lambda: WanTransformer(config), {name: tensor.clone() for name, tensor in base.items()})
    changed = merge_lora(
        dict(model.named_parameters()), case.tensors("lora/"), case.config["scale"], compat=Compat.OFFICIAL
    )
    assert sorted(changed) == sorted(case.config["changed_keys"])
    for name, tensor in model.state_dict().items():
        close(tensor, case[f"out/{name}"] if f"out/{name}" in case else base[name])
    predictions = [key for key in case.keys if key.startswith("out/pred")]
    assert predictions
    for key in predictions:
        close(predicted(model, case, key), case[key])


@pytest.mark.parametrize("case", LORA_CASES, ids=lambda case: case.name)
def test_lora_by_default_honours_alpha_and_both_spellings(case: GoldenFile) -> None:
    """Every pair in the file counts, with alpha / rank as its author meant; spelled out here the slow way."""
    base, lora, scale = base_of(case), case.tensors("lora/"), case.config["scale"]
    merged = {name: tensor.clone() for name, tensor in base.items()}
    merge_lora(merged, lora, scale)
    pairs = 0
    for key, down in lora.items():
        for first, second in (("lora_down", "lora_up"), ("lora_A", "lora_B")):
            if not key.endswith(f".{first}.weight"):
                continue
            module = key.removesuffix(f".{first}.weight")
            up = lora[f"{module}.{second}.weight"]
            alpha = lora.get(f"{module}.alpha", torch.tensor(float(down.shape[0])))
            name = f"{module.removeprefix('diffusion_model.')}.weight"
            close(merged[name], base[name] + scale * alpha / down.shape[0] * (up @ down), 1e-6)
            pairs += 1
    assert pairs


def stored_parts(case: GoldenFile) -> list[str]:
    """Kinds of quantised files in a case, e.g. int8 and fp8."""
    return sorted({key.partition("/")[0] for key in case.keys if key.endswith("._data")})


@pytest.mark.parametrize(
    ("case", "kind"),
    [(case, kind) for case in QUANT_CASES for kind in stored_parts(case)],
    ids=lambda value: getattr(value, "name", value),
)
def test_quanto_files(case: GoldenFile, kind: str, tmp_path: Path) -> None:
    path = tmp_path / f"{kind}.safetensors"
    save_file(case.tensors(f"{kind}/"), path)
    path.with_suffix(".json").write_text(json.dumps(case.config["quantization_map"][kind]))
    config = DiTConfig.from_json(inputs_of(case).config)
    (tmp_path / "config.json").write_text(json.dumps(inputs_of(case).config))
    whole = Dequantised(TensorFiles(path), read_kinds(path), source=path.name)
    packed = open_checkpoint(path)
    assert (packed.dialect, packed.config) == ("quanto", config)
    predictions = [key for key in case.keys if key.startswith(f"out/{kind}_pred")]
    assert predictions
    for weights in (whole, packed.weights):
        model = build(lambda: WanTransformer(config), weights)
        for key in predictions:
            close(predicted(model, case, key), case[key])


@pytest.mark.parametrize(
    "case", [c for c in QUANT_CASES if "int8" in stored_parts(c)], ids=lambda case: case.name
)
def test_our_int8_files_have_the_layout_of_quanto(case: GoldenFile) -> None:
    recorded = case.tensors("int8/")
    stored, kinds = quantise_int8(base_of(case))
    assert {n: (t.dtype, t.shape) for n, t in stored.items()} == {
        n: (t.dtype, t.shape) for n, t in recorded.items()
    }
    assert kinds == case.config["quantization_map"]["int8"]
    for name, tensor in stored.items():
        # A value halfway between two integers may round either way.
        close(tensor.float(), recorded[name].float(), 1 if name.endswith("._data") else 1e-6)


@pytest.mark.skipif(not MANIFESTS.is_dir(), reason="the lists of published keys are not beside the project")
def test_speech_keys_are_those_the_base_checkpoint_lacks() -> None:
    whole, base, speech = (
        set(json.loads((MANIFESTS / f"{name}.json").read_text()))
        for name in ("infinitetalk_dit_14b", "wan21_i2v_14b_base_keys", "infinitetalk_audio_keys")
    )
    assert {name for name in whole if is_speech_key(name)} == speech == whole - base
