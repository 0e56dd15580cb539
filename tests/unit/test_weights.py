"""Reading, strict building, LoRA and quantisation: round trips, and damaged or foreign files refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import nn

from infinite_talk.errors import CheckpointError
from infinite_talk.models.dit import WanTransformer
from infinite_talk.request import Compat
from infinite_talk.weights.builder import build
from infinite_talk.weights.lora import merge_lora
from infinite_talk.weights.quanto import Dequantised, quantise_int8, read_kinds
from infinite_talk.weights.reader import Renamed, TensorFiles
from tests.unit.tiny_dit import CONFIG, TIMES, inputs, latent, model, noise


def saved(folder: Path, name: str, tensors: dict[str, torch.Tensor]) -> Path:
    path = folder / name
    save_file(tensors, path, metadata={"from": name})
    return path


class TestReader:
    def test_later_files_override_earlier_ones(self, tmp_path: Path) -> None:
        base = saved(tmp_path, "base.safetensors", {"a": torch.zeros(2), "b": torch.zeros(3)})
        more = saved(tmp_path, "more.safetensors", {"b": torch.ones(4), "c": torch.ones(1).half()})
        tensors = TensorFiles(base, more)
        assert {name: tensor.tolist() for name, tensor in tensors.items()} == {
            "a": [0, 0],
            "b": [1, 1, 1, 1],
            "c": [1],
        }
        assert tensors.shapes == {"a": (2,), "b": (4,), "c": (1,)}
        assert tensors["c"].dtype == torch.float16

    def test_a_folder_is_its_shards(self, tmp_path: Path) -> None:
        saved(tmp_path, "x-00001-of-00002.safetensors", {"a": torch.zeros(1)})
        saved(tmp_path, "x-00002-of-00002.safetensors", {"b": torch.ones(1)})
        assert set(TensorFiles(tmp_path)) == {"a", "b"}
        index = {"weight_map": {"a": "x-00001-of-00002.safetensors", "b": "x-00003-of-00003.safetensors"}}
        (tmp_path / "x.safetensors.index.json").write_text(json.dumps(index))
        with pytest.raises(CheckpointError, match="00003"):
            TensorFiles(tmp_path)

    def test_nothing_there(self, tmp_path: Path) -> None:
        with pytest.raises(CheckpointError, match=r"no \.safetensors file"):
            TensorFiles(tmp_path)
        with pytest.raises(CheckpointError) as caught:
            TensorFiles(tmp_path / "absent.safetensors")
        assert caught.value.code == "checkpoint_missing"

    @pytest.mark.parametrize(
        ("content", "reason"),
        [
            (b"", "empty"),
            (b"\x08", "cut short"),
            (b"<!DOCTYPE html><html><body>404 Not Found</body></html>" * 9, "web page"),
            (b"\n<html><head></head>" * 9, "web page"),
            (b"version https://git-lfs.github.com/spec/v1\noid sha256:abc\nsize 9\n", "git lfs pull"),
            (b"PK\x03\x04" + bytes(200), "pickle"),
            (b"GGUF" + b"\x03" * 200, "GGUF"),
            ((5).to_bytes(8, "little") + b"[1,2]", "header"),
            ((5).to_bytes(8, "little") + b"{oops", "header"),
            ((13).to_bytes(8, "little") + b'{"a":{"x":1}}', "header"),
            ((200_000_000).to_bytes(8, "little") + bytes(100), "cut short"),
        ],
    )
    def test_what_failed_downloads_leave_is_named(self, tmp_path: Path, content: bytes, reason: str) -> None:
        path = tmp_path / "model.safetensors"
        path.write_bytes(content)
        with pytest.raises(CheckpointError, match=reason) as caught:
            TensorFiles(path)
        assert str(path) in caught.value.message
        assert caught.value.code == "checkpoint_corrupt"

    @settings(deadline=None, max_examples=30)
    @given(kept=st.floats(0, 0.999))
    def test_a_cut_file_is_refused_wherever_it_is_cut(self, tmp_path_factory, kept: float) -> None:
        path = saved(
            tmp_path_factory.mktemp("cut"), "m.safetensors", {"a": torch.zeros(50), "b": torch.ones(7)}
        )
        whole = path.read_bytes()
        path.write_bytes(whole[: int(len(whole) * kept)])
        with pytest.raises(CheckpointError):
            TensorFiles(path)

    def test_offsets_that_lie_are_refused(self, tmp_path: Path) -> None:
        header = json.dumps({"a": {"dtype": "F32", "shape": [9], "data_offsets": [0, 8]}}).encode()
        path = tmp_path / "m.safetensors"
        path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(8))
        with pytest.raises(CheckpointError, match="not a valid"):
            TensorFiles(path)

    def test_renaming_reads_nothing_until_asked(self, tmp_path: Path) -> None:
        tensors = TensorFiles(saved(tmp_path, "m.safetensors", {"p.a": torch.ones(2), "p.b": torch.ones(1)}))
        ours = Renamed(tensors, {"a": "p.a"})
        assert list(ours) == ["a"]
        assert ours.shapes == {"a": (2,)}
        assert ours["a"].tolist() == [1, 1]


class WithTable(nn.Module):
    """A layer, and a table that its constructor computes and no checkpoint holds."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 3)
        self.register_buffer("table", torch.arange(4.0) / 3, persistent=False)


class TestBuilder:
    def test_a_model_comes_back_as_it_was_saved(self, tmp_path: Path) -> None:
        net = model()
        path = saved(tmp_path, "m.safetensors", net.state_dict())
        again = build(lambda: WanTransformer(CONFIG), TensorFiles(path))
        assert not again.training
        assert all(torch.equal(a, b) for a, b in zip(net.parameters(), again.parameters(), strict=True))
        with torch.no_grad():
            exact = net(latent(), TIMES, net.condition(**inputs()))
            torch.testing.assert_close(again(latent(), TIMES, again.condition(**inputs())), exact)

    def test_dtype_is_of_the_weights_not_of_tables(self) -> None:
        weights = {"layer.weight": torch.ones(3, 2), "layer.bias": torch.ones(3)}
        built = build(WithTable, weights, dtype=torch.bfloat16)
        assert built.layer.weight.dtype == torch.bfloat16
        torch.testing.assert_close(built.table, torch.arange(4.0) / 3)
        assert "table" not in built.state_dict()
        assert build(WithTable, {n: w.half() for n, w in weights.items()}).layer.bias.dtype == torch.float16

    def test_no_memory_is_taken_before_the_weights_arrive(self) -> None:
        seen = []

        def make() -> nn.Module:
            seen.append(nn.Linear(10**6, 10**6))  # four terabytes
            return nn.Linear(1, 1)

        build(make, nn.Linear(1, 1).state_dict())
        assert seen[0].weight.is_meta
        assert not torch.empty(1).is_meta

    def test_every_difference_is_listed(self) -> None:
        state = model().state_dict()
        for i in range(7):
            state[f"extra.{i}"] = torch.ones(1)
        del state["head.head.bias"]
        state["patch_embedding.bias"] = torch.ones(5)
        with pytest.raises(CheckpointError) as caught:
            build(lambda: WanTransformer(CONFIG), state, source="other.safetensors")
        message = caught.value.message
        assert message.startswith("other.safetensors")
        assert "1 missing (head.head.bias)" in message
        assert "7 unexpected (extra.0, extra.1, extra.2, extra.3, extra.4, ...)" in message
        assert "1 of another shape (patch_embedding.bias (5,) instead of (48,))" in message


def parameters() -> dict[str, torch.Tensor]:
    return {
        "blocks.0.ffn.0.weight": noise(6, 4, seed=0),
        "blocks.0.ffn.0.bias": noise(6, seed=1),
        "blocks.0.self_attn.q.weight": noise(4, 4, seed=2),
        "blocks.0.modulation": noise(1, 6, 4, seed=3),
        "patch_embedding.weight": noise(4, 3, 1, 2, 2, seed=4),
    }


def pair(
    module: str, names: tuple[str, str] = ("lora_down", "lora_up"), out: int = 6, into: int = 4, rank: int = 2
):
    down, up = names
    return {
        f"{module}.{down}.weight": noise(rank, into, seed=5),
        f"{module}.{up}.weight": noise(out, rank, seed=6),
    }


class TestLora:
    EXPECTED = noise(6, 2, seed=6) @ noise(2, 4, seed=5)

    @pytest.mark.parametrize(
        "prefix",
        ["", "diffusion_model.", "model.diffusion_model.", "transformer.", "pipe.dit.", "base_model.model."],
    )
    @pytest.mark.parametrize(
        "names", [("lora_down", "lora_up"), ("lora_A", "lora_B"), ("lora_A.default", "lora_B.default")]
    )
    def test_spellings(self, prefix: str, names: tuple[str, str]) -> None:
        weights, before = parameters(), parameters()
        assert merge_lora(weights, pair(f"{prefix}blocks.0.ffn.0", names), 0.5) == ("blocks.0.ffn.0.weight",)
        torch.testing.assert_close(
            weights["blocks.0.ffn.0.weight"], before["blocks.0.ffn.0.weight"] + 0.5 * self.EXPECTED
        )

    @pytest.mark.parametrize("prefix", ["lora_unet_", "lora_unet__"])
    def test_flat_names(self, prefix: str) -> None:
        adapter = pair(f"{prefix}blocks_0_self_attn_q", out=4)
        assert merge_lora(parameters(), adapter) == ("blocks.0.self_attn.q.weight",)

    @pytest.mark.parametrize(("compat", "factor"), [(Compat.FIXED, 1.5), (Compat.OFFICIAL, 1.0)])
    def test_alpha(self, compat: Compat, factor: float) -> None:
        adapter = pair("blocks.0.ffn.0") | {"blocks.0.ffn.0.alpha": torch.tensor(3.0)}
        weights = parameters()
        merge_lora(weights, adapter, compat=compat)
        change = weights["blocks.0.ffn.0.weight"] - parameters()["blocks.0.ffn.0.weight"]
        torch.testing.assert_close(change, factor * self.EXPECTED, atol=1e-6, rtol=1e-5)

    def test_differences_of_weights_biases_modulations_and_convolutions(self) -> None:
        adapter = {
            "blocks.0.ffn.0.diff": torch.ones(6, 4),
            "blocks.0.ffn.0.diff_b": torch.ones(6),
            "blocks.0.diff_m": torch.ones(1, 6, 4),
            "patch_embedding.lora_down.weight": torch.ones(1, 3, 1, 2, 2),
            "patch_embedding.lora_up.weight": torch.ones(4, 1, 1, 1, 1),
        }
        weights = parameters()
        changed = merge_lora(weights, adapter, 2.0)
        assert len(changed) == 4
        for name in changed:
            torch.testing.assert_close(weights[name], parameters()[name] + 2)

    def test_sums_are_rounded_once(self) -> None:
        weights = {name: tensor.bfloat16() for name, tensor in parameters().items()}
        merge_lora(weights, pair("blocks.0.ffn.0"))
        expected = parameters()["blocks.0.ffn.0.weight"].bfloat16().float() + self.EXPECTED
        assert torch.equal(weights["blocks.0.ffn.0.weight"], expected.bfloat16())

    @pytest.mark.parametrize(
        ("extra", "named"),
        [
            (pair("blocks.9.ffn.0"), "blocks.9.ffn.0"),
            ({"blocks.0.ffn.0.dora_scale": torch.ones(6)}, "dora_scale"),
            ({"blocks.0.self_attn.q.lora_up.weight": torch.ones(4, 2)}, "self_attn.q"),
            ({"blocks.0.self_attn.q.alpha": torch.ones(())}, "self_attn.q"),
            ({"blocks.0.self_attn.q.diff_b": torch.ones(4)}, "self_attn.q"),
            (pair("blocks.0.self_attn.q", out=5), "self_attn.q"),
            (pair("blocks.0.ffn.0", ("lora_A", "lora_B"), out=4, into=6), "(6, 4)"),
            ({"blocks.0.modulation.diff": torch.ones(4)}, "modulation"),
        ],
    )
    def test_a_key_that_fits_nothing_changes_nothing(
        self, extra: dict[str, torch.Tensor], named: str
    ) -> None:
        weights = parameters()
        adapter = {"blocks.0.ffn.0.diff_b": torch.ones(6)} | extra
        with pytest.raises(CheckpointError, match=r"odd\.safetensors") as caught:
            merge_lora(weights, adapter, source="odd.safetensors")
        assert named in caught.value.message
        assert all(torch.equal(tensor, weights[name]) for name, tensor in parameters().items())

    def test_no_update_at_all(self) -> None:
        with pytest.raises(CheckpointError, match="LoRA"):
            merge_lora(parameters(), {})


class TestQuantisation:
    @settings(deadline=None, max_examples=30)
    @given(
        rows=st.integers(1, 5), columns=st.integers(1, 9), scale=st.floats(1e-6, 1e4), seed=st.integers(0, 99)
    )
    def test_the_error_is_half_a_step_at_most(self, rows: int, columns: int, scale: float, seed: int) -> None:
        weight = noise(rows, columns, seed=seed) * scale
        stored, _ = quantise_int8({"l.weight": weight})
        again = Dequantised(stored)["l.weight"]
        step = weight.abs().amax(dim=1, keepdim=True) / 127
        assert ((again - weight).abs() <= 0.5001 * step + 1e-12).all()

    def test_a_file_comes_back(self, tmp_path: Path) -> None:
        state = {
            "l.weight": noise(3, 4, seed=0),
            "l.bias": noise(3, seed=1),
            "zero.weight": torch.zeros(2, 2),
        }
        conv = {"c.weight": noise(2, 3, 1, 3, 3, seed=2)}
        stored, kinds = quantise_int8(state | conv, select=lambda name, tensor: tensor.dim() > 1)
        path = saved(tmp_path, "m.safetensors", stored)
        path.with_suffix(".json").write_text(json.dumps(kinds))
        weights = Dequantised(TensorFiles(path), read_kinds(path))
        assert set(weights) == set(state | conv)
        assert len(weights) == 4
        assert weights.shapes == {name: tuple(tensor.shape) for name, tensor in (state | conv).items()}
        assert torch.equal(weights["l.bias"], state["l.bias"])
        assert not weights["zero.weight"].any()
        torch.testing.assert_close(weights["c.weight"], conv["c.weight"], atol=0.02, rtol=0)

    def test_plain_checkpoints_pass_through(self) -> None:
        state = model().state_dict()
        assert dict(Dequantised(state)) == state

    def test_only_linear_weights_are_chosen_by_default(self) -> None:
        stored, kinds = quantise_int8(model().state_dict())
        assert "patch_embedding.weight" in stored
        assert "blocks.0.modulation" in stored
        assert "blocks.0.norm3.weight" in stored
        assert "blocks.0.ffn.2" in kinds
        assert stored["blocks.0.ffn.2.weight._data"].dtype == torch.int8

    def test_a_map_that_disagrees_is_refused(self) -> None:
        stored, kinds = quantise_int8({"l.weight": torch.ones(2, 2)})
        for wrong in (
            {"l": {"weights": "qfloat8_e4m3fn", "activations": "none"}},
            {"l": {"weights": "qint8", "activations": "qint8"}},
            {},
            kinds | {"m": kinds["l"]},
        ):
            with pytest.raises(CheckpointError, match="disagree"):
                Dequantised(stored, wrong)
        del stored["l.weight._scale"]
        with pytest.raises(CheckpointError, match=r"l\.weight\._scale"):
            Dequantised(stored)

    @pytest.mark.parametrize("text", ["[]", "{", '{"a": 1}'])
    def test_a_damaged_map(self, tmp_path: Path, text: str) -> None:
        path = tmp_path / "m.safetensors"
        assert read_kinds(path) is None
        path.with_suffix(".json").write_text(text)
        with pytest.raises(CheckpointError, match="map"):
            read_kinds(path)
