"""Merging at load: what the policy keeps is the form of ``W + delta``, rounded once; in every precision."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch import Tensor

from infinite_talk.errors import CapabilityError, CheckpointError
from infinite_talk.models.dit import WanTransformer
from infinite_talk.ops.linear import Packed, PackedLinear
from infinite_talk.ops.linear.float8 import PLAIN_E4M3FN
from infinite_talk.ops.linear.lora import LoRALinear
from infinite_talk.ops.linear.mxfp4 import MXFP4
from infinite_talk.ops.linear.nf4 import NF4
from infinite_talk.ops.linear.nvfp4 import NVFP4
from infinite_talk.ops.linear.scaled import FP8_E4M3FN, INT8
from infinite_talk.settings import LoRA, Quantization
from infinite_talk.weights.builder import build
from infinite_talk.weights.lora import Merging, attach, merge_lora, open_lora, read_adapter
from infinite_talk.weights.lora.adapter import Adapter
from infinite_talk.weights.precision import FORMATS, Policy
from infinite_talk.weights.reader import TensorFiles
from tests.unit.lora.files import DIALECTS, Random, merged_by_hand, plain_model, random_lora, saved, written
from tests.unit.tiny_dit import CONFIG, TIMES, inputs, latent, noise

SHAPES = {name: tuple(tensor.shape) for name, tensor in plain_model().state_dict().items()}
LINEAR = "blocks.0.ffn.0.weight"
FILE_FORMATS = (FP8_E4M3FN, INT8, PLAIN_E4M3FN, NF4, MXFP4, NVFP4)


def adapter_of(lora: Random, strength: float = 1.0) -> Adapter:
    return read_adapter(written(lora, lambda name: name), strength=strength)


def same(one: Tensor | Packed, other: Tensor | Packed) -> None:
    if isinstance(one, Packed):
        assert isinstance(other, Packed)
        assert (one.format, one.shape) == (other.format, other.shape)
        for name, part in one.parts.items():
            assert torch.equal(part.float(), other.parts[name].float()), name
    else:
        assert isinstance(other, Tensor)
        assert one.dtype == other.dtype
        assert torch.equal(one, other)


def packed(kind, weight: Tensor) -> Packed:
    return Packed(kind, (weight.shape[0], weight.shape[1]), kind.pack(weight))


@torch.no_grad()
def predicted(model: WanTransformer) -> Tensor:
    return model(latent(), TIMES, model.condition(**inputs()))


class TestWeights:
    LORAS = ((random_lora(1, rank=3), 0.7), (random_lora(2, rank=5, alpha=None), -1.3))

    def merging(self, policy: Policy | None, **how) -> Merging:
        return Merging([adapter_of(lora, s) for lora, s in self.LORAS], policy, SHAPES, **how)

    def delta(self, name: str) -> Tensor:
        return sum(s * lora.delta(name) for lora, s in self.LORAS)

    @pytest.mark.parametrize("kind", Quantization)
    @pytest.mark.parametrize(
        "name", [LINEAR, "head.head.weight", "blocks.0.norm3.bias", "blocks.1.modulation"]
    )
    def test_a_plain_weight_in_every_precision(self, kind: Quantization, name: str) -> None:
        policy = Policy(kind, FORMATS[kind])
        weight = noise(*SHAPES[name], seed=3).bfloat16()
        found = self.merging(policy).store(name, weight, torch.float32)
        same(found, policy.store(name, weight.float() + self.delta(name), torch.float32))

    @pytest.mark.parametrize("stored", FILE_FORMATS, ids=lambda kind: kind.name)
    @pytest.mark.parametrize(
        "kind", [Quantization.DISABLED, Quantization.INT8, Quantization.FP8_E4M3FN_SCALED_FAST]
    )
    def test_a_packed_weight(self, stored, kind: Quantization) -> None:
        """It takes additions on its way into another format; in its own it is left for run time."""
        policy = Policy(kind, FORMATS[kind])
        value = packed(stored, noise(*SHAPES[LINEAR], seed=3))
        merging = self.merging(policy)
        found = merging.store(LINEAR, value, torch.bfloat16)
        as_it_is = policy.store(LINEAR, value, torch.bfloat16)
        if as_it_is.parts is value.parts:
            same(found, as_it_is)
            assert [adapter.touches for adapter in merging.rest] == [(LINEAR,)] * 2
            assert [adapter.strength for adapter in merging.rest] == [0.7, -1.3]
            assert not any(adapter.merge for adapter in merging.rest)
            assert merging.notes[0].startswith("1 weights stay packed")
        else:
            same(found, packed(policy.format, value.unpack() + self.delta(LINEAR)))
            assert merging.rest == merging.notes == ()

    def test_why_a_packed_weight_takes_no_additions(self) -> None:
        """Rounded to the steps on which it lies already, it keeps hardly anything of a small one."""
        weight, small = 0.02 * noise(256, 256, seed=1), 0.001 * noise(256, 256, seed=2)

        def rounded(matrix: Tensor) -> Tensor:
            return packed(NF4, matrix).unpack()

        def arrives(change: Tensor) -> float:
            return float((change * small).sum() / (small * small).sum())

        assert arrives(rounded(weight + small) - rounded(weight)) > 0.9
        assert arrives(rounded(rounded(weight) + small) - rounded(weight)) < 0.3

    def test_a_packed_weight_of_what_is_kept(self) -> None:
        name = "text_embedding.2.weight"
        value = packed(INT8, noise(*SHAPES[name], seed=3))
        expected = value.unpack() + self.delta(name)
        policy = Policy(Quantization.NF4, NF4)
        torch.testing.assert_close(self.merging(policy).store(name, value, torch.float32), expected)
        for as_it_is in (None, Policy(Quantization.DISABLED, None)):
            merging = self.merging(as_it_is)
            assert merging.store(name, value, torch.float32) is value
            assert {adapter.touches for adapter in merging.rest} == {(name,)}

    def test_a_plain_float8_weight_is_a_packed_one(self) -> None:
        weight = noise(*SHAPES[LINEAR], seed=3).to(torch.float8_e4m3fn)
        merging = self.merging(Policy(Quantization.DISABLED, None))
        same(merging.store(LINEAR, weight, torch.bfloat16), Packed(PLAIN_E4M3FN, (64, 48), {"data": weight}))
        assert len(merging.rest) == 2

    def test_without_a_dtype_a_weight_keeps_its_own(self) -> None:
        weight = noise(*SHAPES[LINEAR], seed=3).bfloat16()
        found = self.merging(None).store(LINEAR, weight, None)
        same(found, (weight.float() + self.delta(LINEAR)).bfloat16())

    def test_what_no_adapter_touches_is_left_to_the_policy(self) -> None:
        weight = noise(48, 48, seed=1)
        policy = Policy(Quantization.INT8, INT8)
        name = "blocks.0.self_attn.v.weight"
        same(self.merging(policy).store(name, weight, None), policy.store(name, weight, None))
        assert self.merging(None).store(name, weight, None) is weight

    def test_strength_zero_is_an_exact_no_op(self) -> None:
        broken = written(random_lora(), lambda name: name) | {
            "blocks.0.ffn.0.lora_up.weight": torch.full((64, 3), torch.nan)
        }
        weight = noise(*SHAPES[LINEAR], seed=1)
        assert (
            Merging([read_adapter(broken, strength=0.0)], None, SHAPES).store(LINEAR, weight, None) is weight
        )

    DORA = written(random_lora(3), lambda name: name) | {
        "blocks.0.ffn.0.dora_scale": torch.full((64, 1), 5.0)
    }

    @pytest.mark.parametrize("stored", [INT8, NF4], ids=lambda kind: kind.name)
    def test_a_dora_is_merged_into_packed_weights_all_the_same(self, stored) -> None:
        value = packed(stored, noise(*SHAPES[LINEAR], seed=3))
        dora = read_adapter(self.DORA, strength=0.5)
        merging = Merging([dora, adapter_of(random_lora(1))], None, SHAPES, fallback=INT8)
        wide = value.unpack()
        expected = wide + (0.5 * dora.additions[LINEAR][0].delta.of(wide) + random_lora(1).delta(LINEAR))
        same(merging.store(LINEAR, value, torch.bfloat16), packed(stored, expected))
        assert merging.rest == ()
        assert f"unpacked from {stored.name} and packed again as {stored.name}" in merging.notes[0]

    @dataclass(frozen=True)
    class ReadOnly:
        """A format without a packer."""

        name: str = "Q2_X"

        def pack(self, weight: Tensor) -> Mapping[str, Tensor]:
            raise CapabilityError("read only")

        def unpack(self, parts: Mapping[str, Tensor], shape: tuple[int, int], dtype: torch.dtype) -> Tensor:
            return parts["data"].to(dtype)

        def linear(
            self, x: Tensor, parts: Mapping[str, Tensor], shape: tuple[int, int], bias: Tensor | None
        ) -> Tensor:
            raise NotImplementedError

    def test_a_dora_on_a_format_that_can_be_read_only(self) -> None:
        value = Packed(self.ReadOnly(), (64, 48), {"data": noise(64, 48, seed=1)})
        dora = read_adapter(self.DORA)
        merging = Merging([dora], Policy(Quantization.GGUF, None), SHAPES, fallback=INT8)
        wide = value.unpack()
        expected = wide + dora.additions[LINEAR][0].delta.of(wide)
        same(merging.store(LINEAR, value, torch.bfloat16), packed(INT8, expected))
        assert "unpacked from Q2_X and packed again as int8" in merging.notes[0]
        with pytest.raises(CapabilityError, match=r"blocks\.0\.ffn\.0\.weight.*read only"):
            Merging([dora], None, SHAPES).store(LINEAR, value, torch.bfloat16)

    def test_a_sum_beyond_the_format(self) -> None:
        large = self.DORA | {"blocks.0.ffn.0.dora_scale": torch.full((64, 1), 1e5)}
        value = packed(PLAIN_E4M3FN, noise(64, 48, seed=1))
        with pytest.raises(CapabilityError, match=r"blocks\.0\.ffn\.0\.weight.*scaled") as caught:
            Merging([read_adapter(large)], None, SHAPES, fallback=INT8).store(LINEAR, value, None)
        assert caught.value.code == "out_of_range"

    def test_nan_in_an_adapter_is_named(self) -> None:
        tensors = {
            "blocks.0.ffn.0.lora_A.weight": torch.ones(1, 48),
            "blocks.0.ffn.0.lora_B.weight": torch.full((64, 1), torch.inf),
        }
        with pytest.raises(CheckpointError, match=r"bad\.safetensors.*blocks\.0\.ffn\.0\.weight"):
            Merging([read_adapter(tensors, source="bad.safetensors")], None, SHAPES).store(
                LINEAR, noise(64, 48, seed=1), None
            )


class Unread(Mapping[str, Tensor]):
    """Weights that nobody may read."""

    shapes = SHAPES

    def __getitem__(self, name: str) -> Tensor:
        raise AssertionError(f"{name} was read")

    def __iter__(self) -> Iterator[str]:
        return iter(SHAPES)

    def __len__(self) -> int:
        return len(SHAPES)


class TestBuild:
    def test_a_file_through_the_builder_is_the_slow_twin(self, tmp_path: Path) -> None:
        """Two adapters of two dialects from disk, into a model from disk."""
        one, two = random_lora(1), random_lora(2, rank=6, speech=False)
        base = saved(tmp_path, plain_model().state_dict())
        (tmp_path / "a").mkdir()
        (tmp_path / "b").mkdir()
        loras = [
            open_lora(LoRA(path=saved(tmp_path / "a", DIALECTS["kohya"](one), torch.bfloat16), strength=0.5)),
            open_lora(
                LoRA(path=saved(tmp_path / "b", DIALECTS["diffusers"](two), torch.float32), strength=1.5)
            ),
        ]
        made = build(lambda: WanTransformer(CONFIG), TensorFiles(base), policy=Merging(loras, None, SHAPES))
        twin = merged_by_hand([(one, 0.5), (two, 1.5)])
        torch.testing.assert_close(predicted(made), predicted(twin))
        assert (predicted(made) - predicted(plain_model())).abs().max() > 0.01

    @pytest.mark.parametrize("kind", [Quantization.INT8, Quantization.NF4, Quantization.FP4_SCALED])
    def test_packed_once_is_the_merged_model_packed(self, kind: Quantization) -> None:
        lora, policy = random_lora(), Policy(kind, FORMATS[kind])
        state = plain_model().state_dict()
        made = build(
            lambda: WanTransformer(CONFIG),
            state,
            policy=Merging([adapter_of(lora)], policy, SHAPES),
            dtype=torch.float32,
        )
        twin = build(
            lambda: WanTransformer(CONFIG),
            merged_by_hand([(lora, 1.0)]).state_dict(),
            policy=policy,
            dtype=torch.float32,
        )
        assert isinstance(made.blocks[0].ffn[0], PackedLinear)
        assert torch.equal(predicted(made), predicted(twin))

    def test_the_same_as_merging_in_place(self) -> None:
        lora, parameters = random_lora(), plain_model()
        merge_lora(dict(parameters.named_parameters()), written(lora, lambda name: name), 0.8)
        made = build(
            lambda: WanTransformer(CONFIG),
            plain_model().state_dict(),
            policy=Merging([adapter_of(lora, 0.8)], None, SHAPES),
        )
        assert all(torch.equal(a, b) for a, b in zip(made.parameters(), parameters.parameters(), strict=True))

    @pytest.mark.parametrize("stored", [FP8_E4M3FN, NF4], ids=lambda kind: kind.name)
    def test_a_packed_file_is_built_and_what_is_left_attached(self, stored) -> None:
        lora, state = random_lora(), plain_model().state_dict()
        blocks = [
            n for n, t in state.items() if n.startswith("blocks") and n.endswith("weight") and t.dim() == 2
        ]
        state |= {name: packed(stored, state[name]) for name in blocks}
        merging = Merging([adapter_of(lora, 0.5)], Policy(Quantization.DISABLED, None), SHAPES)
        made = build(lambda: WanTransformer(CONFIG), state, policy=merging, dtype=torch.float32)
        attach(made, merging.rest)
        assert isinstance(made.blocks[0].ffn[0], LoRALinear)
        assert not isinstance(made.text_embedding[2], LoRALinear)
        plain = {name: t.unpack() if isinstance(t, Packed) else t for name, t in state.items()}
        for name in lora.names:
            plain[name] = plain[name] + 0.5 * lora.delta(name)
        twin = build(lambda: WanTransformer(CONFIG), plain)
        torch.testing.assert_close(predicted(made), predicted(twin), atol=1e-4, rtol=1e-4)

    def test_one_that_does_not_fit_stops_before_anything_is_read(self) -> None:
        with pytest.raises(CheckpointError, match="without a target"):
            build(
                lambda: WanTransformer(CONFIG),
                Unread(),
                policy=Merging(
                    [read_adapter({"blocks.7.ffn.0.diff_b": torch.ones(64)})], None, Unread.shapes
                ),
            )
