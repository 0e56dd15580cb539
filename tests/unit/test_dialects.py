"""The transformer in every dialect that people have: found out, read strictly, and the same model each time."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from infinite_talk.errors import CheckpointError
from infinite_talk.models.dit import DiTConfig, WanTransformer, keys
from infinite_talk.models.keymap import choose
from infinite_talk.ops.linear import Packed
from infinite_talk.weights.builder import build
from infinite_talk.weights.checkpoint import Checkpoint, Part, combine, identify, open_checkpoint, whole
from tests import dialects
from tests.dialects import TINY, adapter_of, as_kijai, base_of, prefixed
from tests.golden import golden_dir

MANIFESTS = golden_dir().parent / "manifests"
WEIGHTS = dialects.transformer()
BASE, ADAPTER = base_of(WEIGHTS), adapter_of(WEIGHTS)


def plain(name: str) -> Callable[[Path, dict[str, Tensor]], dict[str, Tensor]]:
    return lambda path, weights: dialects.write_plain(path, weights, getattr(torch, name))


def values(checkpoint: Checkpoint) -> dict[str, Tensor]:
    found = {name: checkpoint.weights[name] for name in checkpoint.weights}
    return {n: v.unpack() if isinstance(v, Packed) else v.float() for n, v in found.items()}


def same(checkpoint: Checkpoint, expected: dict[str, Tensor]) -> None:
    found = values(checkpoint)
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        assert torch.equal(found[name], tensor), name


FILES = {
    "bf16": (plain("bfloat16"), "official", "bf16"),
    "fp16": (plain("float16"), "official", "fp16"),
    "fp8": (plain("float8_e4m3fn"), "official", "fp8_e4m3fn"),
    "fp8 e5m2": (plain("float8_e5m2"), "official", "fp8_e5m2"),
    "comfy scaled": (dialects.write_scaled_fp8, "comfy", "fp8_e4m3fn scaled"),
    "lightx2v int8": (dialects.write_lightx2v, "lightx2v", "int8"),
    "lightx2v fp8": (
        lambda path, weights: dialects.write_lightx2v(path, weights, torch.float8_e4m3fn),
        "lightx2v",
        "fp8_e4m3fn scaled",
    ),
    "quanto": (dialects.write_quanto, "quanto", "int8"),
    "nvfp4": (dialects.write_comfy_quant, "comfy", None),
    "gguf Q8_0": (lambda path, weights: dialects.write_gguf(path, weights, "Q8_0"), "gguf", None),
    "gguf Q4_K": (lambda path, weights: dialects.write_gguf(path, weights, "Q4_K"), "gguf", None),
    "pth": (dialects.write_pth, "official", "fp32"),
}


@pytest.mark.parametrize("content", ["whole", "base", "adapter"])
@pytest.mark.parametrize("kind", FILES)
def test_every_packing_of_every_content(tmp_path: Path, kind: str, content: str) -> None:
    write, dialect, precision = FILES[kind]
    weights = {"whole": WEIGHTS, "base": BASE, "adapter": ADAPTER}[content]
    expected = write(tmp_path / "m", weights)
    found = open_checkpoint(tmp_path / "m", allow_pickle=True)
    assert found.part is (Part.ADAPTER if content == "adapter" else Part.TRANSFORMER)
    assert found.has_speech == (content != "base")
    assert found.dialect == dialect
    assert precision is None or content == "adapter" or found.precision == precision
    same(found, expected)
    if content == "whole":
        assert found.config == TINY
    seen = identify(tmp_path / "m", allow_pickle=True)
    assert (seen.part, seen.dialect, seen.config) == (found.part, found.dialect, found.config)
    assert (seen.missing is None) == (content == "whole")
    assert seen.reason is None
    assert seen.nbytes <= (tmp_path / "m").stat().st_size


@pytest.mark.parametrize(
    "prefix", ["model.", "model.diffusion_model.", "diffusion_model.", "transformer.", "pipe.dit."]
)
@pytest.mark.parametrize("rename", [dict, as_kijai])
def test_prefixes_and_names_of_the_speech_projection(
    tmp_path: Path, prefix: str, rename: Callable[[dict[str, Tensor]], dict[str, Tensor]]
) -> None:
    dialects.write_scaled_fp8(tmp_path / "m", prefixed(rename(WEIGHTS), prefix))
    found = open_checkpoint(tmp_path / "m")
    assert set(found.weights) == set(WEIGHTS)
    assert found.config == TINY
    dialects.write_plain(tmp_path / "a", prefixed(rename(ADAPTER), prefix))
    assert set(open_checkpoint(tmp_path / "a").weights) == set(ADAPTER)


def test_official_shards_and_the_adapter(tmp_path: Path) -> None:
    expected = dialects.write_shards(tmp_path / "Wan2.1", BASE, 7)
    expected |= dialects.write_plain(tmp_path / "infinitetalk.safetensors", ADAPTER, torch.float16)
    base = open_checkpoint(tmp_path / "Wan2.1")
    assert len(base.files) == 7
    assert base.title == "Wan2.1 (7 files)"
    both = combine(base, open_checkpoint(tmp_path / "infinitetalk.safetensors", part=Part.ADAPTER))
    same(both, expected)
    assert both.config == TINY
    assert (both.precision, both.dialect) == ("bf16 + fp16", "official")
    # Files that are one part together may also be opened at once.
    same(open_checkpoint(tmp_path / "Wan2.1", tmp_path / "infinitetalk.safetensors"), expected)


def test_a_diffusers_folder(tmp_path: Path) -> None:
    config = DiTConfig(**{**_sizes(TINY), "num_heads": 4})  # narrower heads: only config.json tells
    expected = dialects.write_diffusers(tmp_path / "transformer", BASE, config)
    found = open_checkpoint(tmp_path / "transformer")
    assert found.dialect == "diffusers"
    assert found.config.num_heads == 4
    same(found, expected)


def test_combined_from_a_gguf_and_a_quantised_adapter(tmp_path: Path) -> None:
    """The lowest memory that people use: both packed, of different kinds, in one model that runs."""
    expected = dialects.write_gguf(tmp_path / "base.gguf", BASE, "Q8_0")
    expected |= dialects.write_scaled_fp8(
        tmp_path / "a.safetensors", prefixed(as_kijai(ADAPTER), "diffusion_model.")
    )
    expected = {
        name: expected.get(
            name, expected.get("diffusion_model." + next(iter(as_kijai({name: WEIGHTS[name]}))))
        )
        for name in WEIGHTS
    }
    both = combine(open_checkpoint(tmp_path / "base.gguf"), open_checkpoint(tmp_path / "a.safetensors"))
    assert both.dialect == "gguf + comfy"
    same(both, expected)
    packed = build(lambda: WanTransformer(both.config), both.weights, dtype=torch.float32)
    slow = build(lambda: WanTransformer(both.config), expected, dtype=torch.float32)
    torch.testing.assert_close(predicted(packed), predicted(slow), rtol=1e-4, atol=1e-4)


@torch.no_grad()
def predicted(model: WanTransformer) -> Tensor:
    noise = torch.Generator().manual_seed(5)

    def random(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=noise)

    text, image = random(1, 3, TINY.text_dim), random(1, 5, TINY.clip_dim)
    speech = random(1, 1, 1, TINY.audio_window, TINY.audio_blocks, TINY.audio_channels)
    condition = model.condition(text, image, speech, None, random(1, TINY.reference_dim, 1, 4, 4))
    return model(random(1, TINY.out_dim, 1, 4, 4), torch.tensor([500.0]), condition)


class TestNames:
    def test_every_map_is_undone_by_its_inverse(self) -> None:
        for mapping in keys.dialects(TINY):
            ours = {name: WEIGHTS[name] for name in mapping.entries}
            stored = mapping.write(ours)
            assert len(stored) == len(ours)
            again = mapping.read(stored)
            assert all(again[name].data_ptr() == ours[name].data_ptr() for name in ours)
            found = choose(keys.dialects(TINY, stored), stored)
            assert (found.entries, found.part) == (mapping.entries, mapping.part)

    def test_names_are_those_of_the_module(self) -> None:
        with torch.device("meta"):
            assert set(keys.names(TINY)) == set(WanTransformer(TINY).state_dict())

    def test_full_size(self) -> None:
        """Every dialect covers all 1633 tensors of the published size, which its shapes give back."""
        with torch.device("meta"):
            shapes = {n: tuple(t.shape) for n, t in WanTransformer(DiTConfig()).state_dict().items()}
        assert len(shapes) == 1633
        covered = {"transformer": 1633, "transformer without speech branch": 1303, "speech branch": 330}
        for mapping in keys.dialects(DiTConfig()):
            assert len(mapping.stored) == covered[mapping.part]
            assert set(mapping.entries) <= set(shapes)
            stored = {entry.stored: shapes[name] for name, entry in mapping.entries.items()}
            assert keys.recognises(stored)
            assert keys.refusal(stored) is None
            assert keys.config_of(stored) == DiTConfig()

    @pytest.mark.skipif(
        not MANIFESTS.is_dir(), reason="the lists of published keys are not beside the project"
    )
    def test_the_published_lists(self) -> None:
        names = {
            "transformer": "infinitetalk_dit_14b",
            "transformer without speech branch": "wan21_i2v_14b_base_keys",
            "speech branch": "infinitetalk_audio_keys",
        }
        for part, file in names.items():
            listed = json.loads((MANIFESTS / f"{file}.json").read_text())
            shapes = {name: tuple(shape) for name, shape in listed.items()}
            mapping = choose(keys.dialects(DiTConfig(), shapes), shapes)
            assert (mapping.part, mapping.dialect) == (part, "official")
            assert mapping.differences(shapes) == ([], [])
            assert keys.config_of(shapes) == DiTConfig()

    def test_diffusers_counts_norms_in_order_of_use(self) -> None:
        """Names as published in ``WanTransformer3DModel``; the one that differs in meaning is norm2."""
        assert keys.diffusers_name("blocks.7.norm3.bias") == "blocks.7.norm2.bias"
        assert keys.diffusers_name("blocks.7.modulation") == "blocks.7.scale_shift_table"
        assert keys.diffusers_name("head.modulation") == "scale_shift_table"
        assert (
            keys.diffusers_name("blocks.0.cross_attn.norm_k_img.weight")
            == "blocks.0.attn2.norm_added_k.weight"
        )
        assert keys.diffusers_name("time_projection.1.weight") == "condition_embedder.time_proj.weight"


class TestRefused:
    def test_a_missing_and_an_unexpected_tensor(self, tmp_path: Path) -> None:
        weights = {name: tensor for name, tensor in WEIGHTS.items() if name != "blocks.1.ffn.0.bias"}
        dialects.write_plain(tmp_path / "m", weights | {"blocks.1.extra.weight": torch.zeros(2)})
        with pytest.raises(
            CheckpointError, match=r"1 missing \(blocks\.1\.ffn\.0\.bias\); 1 unexpected \(blocks\.1\.ext"
        ):
            open_checkpoint(tmp_path / "m")
        assert "1 missing" in str(identify(tmp_path / "m").missing)

    def test_one_shard_of_several(self, tmp_path: Path) -> None:
        dialects.write_shards(tmp_path / "f", BASE, 3)
        shard = sorted((tmp_path / "f").glob("*-00001-*"))[0]
        with pytest.raises(CheckpointError) as caught:
            open_checkpoint(shard)
        assert caught.value.exit_code == 4
        assert identify(shard).missing or identify(shard).reason

    @pytest.mark.parametrize(
        ("change", "reason"),
        [
            ({"drop": "k_img"}, r"text-to-video Wan2\.1 \(no cross_attn\.k_img\)"),
            ({"drop": "k_img", "patch": 48}, r"Wan2\.2 5B"),
            ({"drop": "k_img", "patch": 36}, r"Wan2\.2 image-to-video"),
            ({"patch": 48}, "48 input channels"),
            ({"add": "vace_blocks.0.before_proj.weight"}, "VACE"),
            ({"add": "img_emb.emb_pos"}, "first and last frames"),
        ],
    )
    @pytest.mark.parametrize("prefix", ["", "model.diffusion_model."])
    def test_relatives_of_the_model_are_called_by_name(
        self, tmp_path: Path, change: dict[str, object], reason: str, prefix: str
    ) -> None:
        weights = dict(BASE)
        if "drop" in change:
            weights = {
                n: t for n, t in weights.items() if str(change["drop"]) not in n and "img_emb" not in n
            }
            weights["patch_embedding.weight"] = torch.zeros(TINY.dim, 16, 1, 2, 2)
        if "patch" in change:
            weights["patch_embedding.weight"] = torch.zeros(TINY.dim, int(str(change["patch"])), 1, 2, 2)
        if "add" in change:
            weights[str(change["add"])] = torch.zeros(1)
        dialects.write_plain(tmp_path / "m", prefixed(weights, prefix))
        with pytest.raises(CheckpointError, match=reason):
            open_checkpoint(tmp_path / "m")
        seen = identify(tmp_path / "m")
        assert seen.part is None
        assert seen.code == "checkpoint_mismatch"

    def test_a_small_text_to_video_is_named_by_its_size(self) -> None:
        shapes = {"patch_embedding.weight": (1536, 16, 1, 2, 2), "blocks.0.self_attn.q.weight": (1536, 1536)}
        assert "1.3B" in str(keys.refusal(shapes))

    @pytest.mark.parametrize(
        ("name", "whose"),
        [
            ("model.diffusion_model.input_blocks.0.0.weight", "Stable Diffusion"),
            ("double_blocks.0.img_attn.qkv.weight", "FLUX"),
            ("model.layers.0.self_attn.q_proj.weight", "language model"),
            ("something.weight", "no model that is known"),
        ],
    )
    def test_models_of_others(self, tmp_path: Path, name: str, whose: str) -> None:
        save_file({name: torch.zeros(2)}, tmp_path / "m.safetensors")
        with pytest.raises(CheckpointError, match=whose):
            open_checkpoint(tmp_path / "m.safetensors")
        assert whose in str(identify(tmp_path / "m.safetensors").reason)

    @pytest.mark.parametrize(
        "key",
        [
            "diffusion_model.blocks.0.self_attn.q.lora_up.weight",
            "transformer.blocks.0.attn1.to_q.lora_A.weight",
            "blocks.0.self_attn.q.lora_B.default.weight",
            "lora_unet__blocks_0_self_attn_q.lora_down.weight",
            "blocks.0.audio_cross_attn.proj.lora_down.weight",
            "diffusion_model.blocks.0.norm3.diff_b",
        ],
    )
    def test_a_lora_is_no_part(self, tmp_path: Path, key: str) -> None:
        save_file({key: torch.zeros(2, 2)}, tmp_path / "l.safetensors")
        assert identify(tmp_path / "l.safetensors").part is Part.LORA
        with pytest.raises(CheckpointError, match="is a LoRA"):
            open_checkpoint(tmp_path / "l.safetensors", part=Part.TRANSFORMER)

    def test_another_part_than_asked_for(self, tmp_path: Path) -> None:
        dialects.write_plain(tmp_path / "a", ADAPTER)
        with pytest.raises(CheckpointError, match="a is a speech branch, expected a text encoder"):
            open_checkpoint(tmp_path / "a", part=Part.TEXT)

    def test_halves_alone_say_what_to_add(self, tmp_path: Path) -> None:
        dialects.write_plain(tmp_path / "b", BASE)
        dialects.write_plain(tmp_path / "a", ADAPTER)
        base, adapter = open_checkpoint(tmp_path / "b"), open_checkpoint(tmp_path / "a")
        with pytest.raises(CheckpointError, match=r"Add infinitetalk\.safetensors"):
            whole(base)
        with pytest.raises(CheckpointError, match="speech branch alone"):
            whole(adapter)
        with pytest.raises(CheckpointError, match="a is a speech branch, expected a transformer"):
            combine(adapter, base)
        assert set(whole(base, adapter).weights) == set(WEIGHTS)
        assert "--adapter" in str(identify(tmp_path / "b").missing)
        assert "--adapter" in str(identify(tmp_path / "a").missing)

    def test_an_adapter_of_another_size(self, tmp_path: Path) -> None:
        dialects.write_plain(tmp_path / "b", BASE)
        other = DiTConfig(**{**_sizes(TINY), "num_layers": 1})
        dialects.write_plain(tmp_path / "a", adapter_of(dialects.transformer(other)))
        with pytest.raises(CheckpointError, match="1 layers of width 256"):
            combine(open_checkpoint(tmp_path / "b"), open_checkpoint(tmp_path / "a"))

    def test_an_adapter_over_a_combined_file_is_said(self, tmp_path: Path) -> None:
        dialects.write_plain(tmp_path / "w", WEIGHTS)
        expected = dialects.write_plain(tmp_path / "a", {n: t + 1 for n, t in ADAPTER.items()})
        both = whole(open_checkpoint(tmp_path / "w"), open_checkpoint(tmp_path / "a"))
        assert any("takes the place" in note for note in both.notes)
        assert torch.equal(values(both)["audio_proj.proj1.weight"], expected["audio_proj.proj1.weight"])

    def test_a_width_without_heads_needs_its_config(self, tmp_path: Path) -> None:
        config = DiTConfig(**{**_sizes(TINY), "dim": 48, "num_heads": 3})
        weights = dialects.transformer(config)
        dialects.write_plain(tmp_path / "m", weights)
        with pytest.raises(CheckpointError, match=r"config\.json"):
            open_checkpoint(tmp_path / "m")
        (tmp_path / "config.json").write_text(json.dumps(_sizes(config)))
        assert open_checkpoint(tmp_path / "m").config == config
        stored = load_file(tmp_path / "m")
        (tmp_path / "config.json").unlink()
        save_file(stored, tmp_path / "m", metadata={"config": json.dumps(_sizes(config))})
        assert open_checkpoint(tmp_path / "m").config == config


def test_the_census_counts_bytes_by_dtype(tmp_path: Path) -> None:
    dialects.write_scaled_fp8(tmp_path / "m", WEIGHTS)
    seen = identify(tmp_path / "m")
    stored = load_file(tmp_path / "m")
    assert seen.tensors == len(stored)
    assert seen.nbytes == sum(tensor.nbytes for tensor in stored.values())
    assert {share.dtype for share in seen.census} == {"fp8_e4m3fn", "bf16", "fp32"}
    assert seen.census[0].dtype == "fp8_e4m3fn"
    assert seen.precision == "fp8_e4m3fn scaled"


def _sizes(config: DiTConfig) -> dict[str, object]:
    return {name: getattr(config, name) for name in config.__dataclass_fields__}
