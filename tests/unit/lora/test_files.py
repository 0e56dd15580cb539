"""LoRA files: every dialect and form says the same; what fits nothing is named, and nothing has changed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import settings as budget
from hypothesis import strategies as st
from safetensors.torch import save_file

from infinite_talk.errors import CheckpointError
from infinite_talk.models.dit import DiTConfig, WanTransformer
from infinite_talk.request import Compat
from infinite_talk.settings import LoRA
from infinite_talk.weights.lora import merge_lora, open_lora, read_adapter
from infinite_talk.weights.lora.names import Kind, our_name, split
from tests.unit.lora.files import AB, DIALECTS, PEFT, diffusers, flat, random_lora, saved, written
from tests.unit.tiny_dit import CONFIG, model, noise

SHAPES = {name: tuple(tensor.shape) for name, tensor in model().state_dict().items()}


def merged(path: Path, **how) -> dict[str, torch.Tensor]:
    """What a file adds to weights of zero."""
    adapter = open_lora(LoRA(path=path), **how)
    adapter.check(SHAPES)
    return {
        name: sum(addition.delta.of(torch.zeros(SHAPES[name])) for addition in additions)
        for name, additions in adapter.additions.items()
    }


class TestNames:
    def test_every_layer_of_the_model_has_a_name_in_every_spelling(self) -> None:
        with torch.device("meta"):
            names = {name for name, _ in WanTransformer(CONFIG).named_parameters()}
        for name in {name.removesuffix(".weight").removesuffix(".bias") for name in names}:
            for spelling in (name, flat(name), diffusers(name), flat(diffusers(name))):
                assert our_name(f"lora_unet__{spelling}") == name
                assert our_name(f"base_model.model.diffusion_model.{spelling}") == name

    def test_the_self_attention_of_diffusers_is_ours(self) -> None:
        """A popular loader takes it for the cross-attention."""
        assert split("transformer.blocks.3.attn1.to_q.lora_A.weight") == ("blocks.3.self_attn.q", Kind.A)
        assert split("transformer.blocks.3.attn2.to_q.lora_B.weight") == ("blocks.3.cross_attn.q", Kind.B)

    def test_the_speech_branch_of_the_wrapper(self) -> None:
        assert our_name("diffusion_model.multitalk_audio_proj.proj1_vf") == "audio_proj.proj1_vf"

    def test_other_layers_keep_their_name(self) -> None:
        assert split("diffusion_model.img_emb.emb_pos.diff") == ("img_emb.emb_pos", Kind.DIFF)
        assert split("blocks.0.self_attn.q.weight") is None


class TestDialects:
    @pytest.mark.parametrize("dialect", DIALECTS)
    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
    def test_all_say_the_same(self, dialect: str, dtype: torch.dtype, tmp_path: Path) -> None:
        lora = random_lora()
        found = merged(saved(tmp_path, DIALECTS[dialect](lora), dtype))
        assert set(found) == set(lora.names)
        for name, delta in found.items():
            torch.testing.assert_close(delta, lora.delta(name), msg=name)

    @pytest.mark.parametrize("dtype", [torch.float16, torch.float8_e4m3fn])
    def test_other_stored_dtypes(self, dtype: torch.dtype, tmp_path: Path) -> None:
        pair = {
            "blocks.0.ffn.0.lora_down.weight": torch.ones(1, 48),
            "blocks.0.ffn.0.lora_up.weight": torch.ones(64, 1),
        }
        found = merged(saved(tmp_path, pair, dtype))
        assert torch.equal(found["blocks.0.ffn.0.weight"], torch.ones(64, 48))

    def test_one_without_the_speech_branch_touches_less(self, tmp_path: Path) -> None:
        found = merged(saved(tmp_path, DIALECTS["lightx2v"](random_lora(speech=False))))
        assert found
        assert not any("audio" in name for name in found)

    def test_a_norm_of_lycoris(self) -> None:
        adapter = read_adapter(
            {"lycoris_blocks_0_norm3.w_norm": torch.ones(48), "lycoris_blocks_0_norm3.b_norm": torch.ones(48)}
        )
        assert adapter.touches == ("blocks.0.norm3.weight", "blocks.0.norm3.bias")


PAIR = {"blocks.0.ffn.0.lora_A.weight": torch.ones(4, 48), "blocks.0.ffn.0.lora_B.weight": torch.ones(64, 4)}


class TestScaling:
    def factor(self, path: Path, **how) -> float:
        return float(merged(path, **how)["blocks.0.ffn.0.weight"][0, 0]) / 4

    @pytest.mark.parametrize(
        ("metadata", "alpha", "factor"),
        [
            ({}, None, 1.0),
            ({}, 8.0, 2.0),
            (
                {"lora_adapter_metadata": {"transformer.lora_alpha": 8, "transformer.use_rslora": False}},
                None,
                2.0,
            ),
            (
                {"lora_adapter_metadata": {"transformer.lora_alpha": 8, "transformer.use_rslora": True}},
                None,
                4.0,
            ),
            ({"ss_network_args": {"rs_lora": "True"}}, 8.0, 4.0),
            ({"ss_network_args": {"rs_lora": "False"}}, 8.0, 2.0),
            ({"lora_adapter_metadata": {"transformer.lora_alpha": 8}}, 2.0, 0.5),
        ],
    )
    def test_alpha(
        self, metadata: dict[str, object], alpha: float | None, factor: float, tmp_path: Path
    ) -> None:
        tensors = PAIR if alpha is None else PAIR | {"blocks.0.ffn.0.alpha": torch.tensor(alpha)}
        path = saved(tmp_path, tensors, **{key: json.dumps(value) for key, value in metadata.items()})
        assert self.factor(path) == pytest.approx(factor)

    def test_metadata_that_is_no_json_says_nothing(self, tmp_path: Path) -> None:
        assert self.factor(saved(tmp_path, PAIR, ss_network_args="{", lora_adapter_metadata="[1]")) == 1.0

    def test_the_folder_of_peft(self, tmp_path: Path) -> None:
        save_file(PAIR, tmp_path / "adapter_model.safetensors")
        config = {"r": 4, "lora_alpha": 8, "use_rslora": True, "alpha_pattern": {}}
        (tmp_path / "adapter_config.json").write_text(json.dumps(config))
        assert (
            self.factor(tmp_path) == self.factor(tmp_path / "adapter_model.safetensors") == pytest.approx(4.0)
        )
        (tmp_path / "adapter_config.json").write_text(json.dumps(config | {"alpha_pattern": {"ffn.0": 3}}))
        with pytest.raises(CheckpointError, match="alpha_pattern"):
            open_lora(LoRA(path=tmp_path))

    def test_the_published_program_knows_none(self, tmp_path: Path) -> None:
        tensors = written(random_lora(alpha=7.0), lambda name: f"diffusion_model.{name}")
        tensors |= {"diffusion_model.blocks.0.self_attn.v.lora_A.weight": torch.ones(1, 48)}
        found = merged(saved(tmp_path, tensors), compat=Compat.OFFICIAL)
        assert "blocks.0.self_attn.v.weight" not in found
        torch.testing.assert_close(
            found["blocks.0.ffn.0.weight"], random_lora(alpha=None).delta("blocks.0.ffn.0.weight")
        )


def kron(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Block by block."""
    return torch.cat([torch.cat([a[i, j] * b for j in range(a.shape[1])], dim=1) for i in range(a.shape[0])])


class TestForms:
    NAME = "blocks.0.ffn.0"
    W = noise(64, 48, seed=1)

    def delta(self, **tensors: torch.Tensor) -> torch.Tensor:
        adapter = read_adapter(
            {
                f"lora_unet__blocks_0_ffn_0.{kind.replace('_weight', '.weight')}": t
                for kind, t in tensors.items()
            }
        )
        adapter.check(SHAPES)
        (addition,) = adapter.additions[f"{self.NAME}.weight"]
        return addition.delta.of(self.W)

    def test_loha(self) -> None:
        a1, b1, a2, b2 = (
            noise(64, 2, seed=2),
            noise(2, 48, seed=3),
            noise(64, 2, seed=4),
            noise(2, 48, seed=5),
        )
        found = self.delta(hada_w1_a=a1, hada_w1_b=b1, hada_w2_a=a2, hada_w2_b=b2, alpha=torch.tensor(1.0))
        torch.testing.assert_close(found, (a1 @ b1) * (a2 @ b2) / 2)

    def test_lokr(self) -> None:
        k1, k2 = noise(8, 4, seed=2), noise(8, 12, seed=3)
        a, b = noise(8, 2, seed=4), noise(2, 12, seed=5)
        alpha = torch.tensor(6.0)
        torch.testing.assert_close(self.delta(lokr_w1=k1, lokr_w2=k2, alpha=alpha), kron(k1, k2))
        torch.testing.assert_close(
            self.delta(lokr_w1=k1, lokr_w2_a=a, lokr_w2_b=b, alpha=alpha), 3 * kron(k1, a @ b)
        )
        torch.testing.assert_close(
            self.delta(lokr_w1_a=a, lokr_w1_b=b, lokr_w2=noise(8, 4, seed=6)),
            kron(a @ b, noise(8, 4, seed=6)),
        )

    @pytest.mark.parametrize("shape", [(64,), (64, 1), (1, 48)])
    def test_dora_sets_the_length_of_rows_or_columns(self, shape: tuple[int, ...]) -> None:
        up, down, lengths = noise(64, 2, seed=2), noise(2, 48, seed=3), noise(*shape, seed=4).abs()
        updated = self.W + self.delta(lora_down_weight=down, lora_up_weight=up, dora_scale=lengths)
        torch.testing.assert_close(updated.norm(dim=0 if shape[0] == 1 else 1), lengths.flatten())
        direction = torch.nn.functional.cosine_similarity(
            updated, self.W + up @ down, dim=0 if shape[0] == 1 else 1
        )
        torch.testing.assert_close(direction, torch.ones_like(direction))

    def test_dora_of_peft(self) -> None:
        tensors = written(
            random_lora().without("blocks.1", "head"), lambda name: f"base_model.model.{name}", PEFT
        )
        tensors["base_model.model.blocks.0.ffn.0.lora_magnitude_vector.default.weight"] = torch.full(
            (64,), 2.0
        )
        (addition,) = read_adapter(tensors).additions["blocks.0.ffn.0.weight"]
        torch.testing.assert_close((self.W + addition.delta.of(self.W)).norm(dim=1), torch.full((64,), 2.0))

    def test_dora_without_change_keeps_the_weight(self) -> None:
        lengths = self.W.norm(dim=1, keepdim=True)
        delta = self.delta(
            lora_down_weight=torch.zeros(1, 48), lora_up_weight=torch.zeros(64, 1), dora_scale=lengths
        )
        torch.testing.assert_close(delta, torch.zeros(64, 48))

    @budget(deadline=None, max_examples=25)
    @given(
        rank=st.integers(1, 70), alpha=st.floats(0.1, 100), strength=st.floats(-3, 3), seed=st.integers(0, 9)
    )
    def test_lora_of_any_rank(self, rank: int, alpha: float, strength: float, seed: int) -> None:
        weights = {"blocks.0.ffn.0.weight": self.W.clone()}
        up, down = noise(64, rank, seed=seed), noise(rank, 48, seed=seed + 1)
        tensors = {
            "blocks.0.ffn.0.lora_A.weight": down,
            "blocks.0.ffn.0.lora_B.weight": up,
            "blocks.0.ffn.0.alpha": torch.tensor(alpha),
        }
        merge_lora(weights, tensors, strength)
        expected = self.W.double() + strength * alpha / rank * (up.double() @ down.double())
        torch.testing.assert_close(weights["blocks.0.ffn.0.weight"].double(), expected, atol=1e-3, rtol=1e-4)


class TestTextToVideo:
    """Patches of the text-to-video model have the 16 channels of the noisy latent only."""

    def test_its_patches_are_the_first_channels_of_ours(self, tmp_path: Path) -> None:
        down, up = noise(2, 16, 1, 2, 2, seed=1), noise(48, 2, 1, 1, 1, seed=2)
        tensors = {"patch_embedding.lora_down.weight": down, "patch_embedding.lora_up.weight": up}
        found = merged(saved(tmp_path, tensors))["patch_embedding.weight"]
        torch.testing.assert_close(found[:, :16].flatten(1), up.flatten(1) @ down.flatten(1))
        assert not found[:, 16:].any()
        (note,) = open_lora(LoRA(path=saved(tmp_path, tensors))).notes(SHAPES)
        assert "first 16 of the 36 channels" in note
        found = merged(saved(tmp_path, {"patch_embedding.diff": torch.ones(48, 16, 1, 2, 2)}))[
            "patch_embedding.weight"
        ]
        assert found.sum() == 48 * 16 * 4

    def test_ours_needs_no_note(self, tmp_path: Path) -> None:
        assert open_lora(LoRA(path=saved(tmp_path, DIALECTS["bare"](random_lora())))).notes(SHAPES) == ()

    @pytest.mark.parametrize("channels", [15, 20, 32])
    def test_other_numbers_of_channels_are_another_model(self, channels: int) -> None:
        with pytest.raises(CheckpointError, match="another shape"):
            read_adapter({"patch_embedding.diff": torch.ones(48, channels, 1, 2, 2)}).check(SHAPES)


BIG = {"blocks.0.self_attn.q.weight": (5120, 5120), "blocks.0.ffn.0.weight": (13824, 5120)}


def refused(tensors: dict[str, torch.Tensor], shapes: dict[str, tuple[int, ...]] = SHAPES) -> str:
    with pytest.raises(CheckpointError) as caught:
        read_adapter(tensors, source="odd.safetensors").check(shapes)
    assert caught.value.code == "lora_mismatch"
    assert caught.value.message.startswith("odd.safetensors")
    return caught.value.message


class TestRefused:
    @pytest.mark.parametrize(
        ("key", "kind"),
        [
            ("blocks.0.ffn.0.lora_mid.weight", "LoCon"),
            ("lycoris_blocks_0_ffn_0.hada_t1", "Tucker"),
            ("lycoris_blocks_0_ffn_0.lokr_t2", "Tucker"),
            ("lycoris_blocks_0_ffn_0.oft_blocks", "OFT"),
            ("lycoris_blocks_0_ffn_0.on_input", "IA3"),
            ("diffusion_model.patch_embedding.reshape_weight", "control LoRA"),
            ("diffusion_model.blocks.0.ffn.0.set_weight", "replacement"),
            ("base_model.model.head.modules_to_save.weight", "whole layers"),
        ],
    )
    def test_kinds_that_are_not_computed_are_named(self, key: str, kind: str) -> None:
        message = refused({key: torch.ones(2, 2)})
        assert key in message
        assert kind in message

    @pytest.mark.parametrize(
        ("key", "made"),
        [
            ("diffusion_model.img_emb.emb_pos.diff", "FLF2V"),
            ("diffusion_model.vace_blocks.0.after_proj.lora_A.weight", "VACE"),
            ("pipe.dit.dwpose_embedding.0.diff", "UniAnimate"),
            ("lora_te_text_model_layers_0_fc1.lora_up.weight", "text encoder"),
        ],
    )
    def test_layers_of_other_models_say_whose_they_are(self, key: str, made: str) -> None:
        message = refused(DIALECTS["lightx2v"](random_lora()) | {key: torch.ones(2, 2)})
        assert key in message
        assert made in message

    def test_a_lora_of_another_width_says_which(self) -> None:
        small = {
            "blocks.0.self_attn.q.lora_A.weight": torch.ones(4, 1536),
            "blocks.0.self_attn.q.lora_B.weight": torch.ones(1536, 4),
        }
        message = refused(small, BIG)
        assert "1536 (Wan2.1 1.3B)" in message
        assert "5120" in message

    def test_more_blocks_than_we_have(self) -> None:
        message = refused(
            DIALECTS["kohya"](random_lora()) | {"lora_unet__blocks_39_ffn_0.diff_b": torch.ones(64)}
        )
        assert "1 keys without a target (lora_unet__blocks_39_ffn_0.diff_b)" in message

    @pytest.mark.parametrize(
        "shapes",
        [
            {"lora_down.weight": (2, 48), "lora_up.weight": (64, 3)},
            {"lora_down.weight": (2, 47), "lora_up.weight": (64, 2)},
            {"hada_w1_a": (64, 2), "hada_w1_b": (2, 48), "hada_w2_a": (64, 2), "hada_w2_b": (2, 40)},
            {"lokr_w1": (8, 4), "lokr_w2": (8, 11)},
            {"lokr_w1": (8, 4), "lokr_w2_a": (8, 2), "lokr_w2_b": (3, 12)},
            {"lora_down.weight": (2, 48), "lora_up.weight": (64, 2), "dora_scale": (63, 1)},
            {"lora_down.weight": (48,), "lora_up.weight": (64,)},
            {"diff": (48, 64)},
            {"diff_b": (48,)},
        ],
    )
    def test_shapes_that_do_not_fit(self, shapes: dict[str, tuple[int, ...]]) -> None:
        message = refused({f"blocks.0.ffn.0.{kind}": torch.ones(shape) for kind, shape in shapes.items()})
        assert "blocks.0.ffn.0" in message
        assert "another shape" in message

    @pytest.mark.parametrize(
        "half", ["lora_A.weight", "lora_up.weight", "alpha", "dora_scale", "hada_w1_a", "lokr_w1"]
    )
    def test_half_of_something_is_not_dropped(self, half: str) -> None:
        extra = f"blocks.0.cross_attn.q.{half}"
        assert extra in refused(DIALECTS["bare"](random_lora()) | {extra: torch.ones(())})

    def test_a_key_twice_in_two_spellings(self) -> None:
        tensors = DIALECTS["bare"](random_lora()) | {"diffusion_model.blocks.0.norm3.diff": torch.ones(48)}
        assert "diffusion_model.blocks.0.norm3.diff" in refused(tensors)

    def test_a_model_is_no_lora(self) -> None:
        assert "patch_embedding.weight" in refused(dict(model().state_dict()))
        assert "is it a LoRA file" in refused({})

    def test_damaged_files(self, tmp_path: Path) -> None:
        path = saved(tmp_path, DIALECTS["bare"](random_lora()))
        path.write_bytes(path.read_bytes()[:-1])
        with pytest.raises(CheckpointError, match="cut short"):
            open_lora(LoRA(path=path))

    def test_nan_changes_nothing(self) -> None:
        state = model().state_dict()
        before = {name: tensor.clone() for name, tensor in state.items()}
        tensors = written(random_lora(), lambda name: name, AB)
        tensors["head.head.diff_b"][0] = torch.nan
        with pytest.raises(CheckpointError, match=r"head\.head\.bias"):
            merge_lora(state, tensors)
        assert all(torch.equal(state[name], tensor) for name, tensor in before.items())


def test_the_published_model_is_covered() -> None:
    """A LoRA of every layer of the full size fits; nothing is read."""
    with torch.device("meta"):
        shapes = {n: tuple(t.shape) for n, t in WanTransformer(DiTConfig()).state_dict().items()}
        tensors = {}
        for name, shape in shapes.items():
            owner, _, leaf = name.rpartition(".")
            if leaf == "weight" and len(shape) == 2:
                tensors[f"diffusion_model.{owner}.lora_down.weight"] = torch.empty(64, shape[1])
                tensors[f"diffusion_model.{owner}.lora_up.weight"] = torch.empty(shape[0], 64)
            else:
                ending = {"weight": "diff", "bias": "diff_b", "modulation": "diff_m"}[leaf]
                tensors[f"diffusion_model.{owner}.{ending}"] = torch.empty(shape)
    adapter = read_adapter(tensors)
    adapter.check(shapes)
    assert set(adapter.touches) == set(shapes)
