"""Policies: what is packed and what is kept, which hardware runs what, and how far off each precision is."""

from __future__ import annotations

import json

import pytest
import torch
from torch import Tensor, nn

from infinite_talk.errors import CapabilityError, CheckpointError, UsageError
from infinite_talk.models.dit import WanTransformer
from infinite_talk.ops.linear import Packed, PackedLinear
from infinite_talk.ops.linear.fast8 import FP8_E4M3FN_FAST
from infinite_talk.ops.linear.float8 import PLAIN_E4M3FN
from infinite_talk.ops.linear.mxfp4 import MXFP4
from infinite_talk.ops.linear.nvfp4 import NVFP4
from infinite_talk.ops.linear.scaled import FP8_E4M3FN, FP8_E5M2, INT8, Scaled
from infinite_talk.settings import Quantization
from infinite_talk.weights.builder import build
from infinite_talk.weights.precision import (
    FORMATS,
    KEPT,
    POLICIES,
    is_packed,
    policy_for,
    same_parts,
    why_kept,
)
from tests.golden import golden_dir
from tests.unit.tiny_dit import CONFIG, model, noise

HOPPER, AMPERE, BLACKWELL = (9, 0), (8, 0), (12, 0)
PACKING = [q for q, kind in FORMATS.items() if kind is not None]
NAME = "blocks.0.ffn.0.weight"


def with_policy(quantization: Quantization, state: dict[str, Tensor], **options: object) -> WanTransformer:
    return build(lambda: WanTransformer(CONFIG), state, policy=POLICIES[quantization], **options)


class TestWhatIsPacked:
    def test_every_name_has_a_policy_and_every_need_a_way_out(self) -> None:
        assert set(POLICIES) == set(Quantization)
        for name, policy in POLICIES.items():
            assert policy.name is name
            assert (policy.needs is not None) == name.endswith("_fast")
            if policy.needs is not None:
                instead = POLICIES[policy.needs.instead]
                assert instead.needs is None
                assert same_parts(policy.format, instead.format)
                assert instead.bits == policy.bits

    @pytest.mark.parametrize("quantization", PACKING)
    def test_bits_of_a_weight(self, quantization: Quantization) -> None:
        kept = POLICIES[quantization].store("blocks.0.ffn.0.weight", noise(16, 5120, seed=0), None)
        assert 8 * kept.nbytes / (16 * 5120) == pytest.approx(POLICIES[quantization].bits, abs=0.01)

    def test_linear_layers_of_blocks_and_nothing_else(self) -> None:
        made = with_policy(Quantization.INT8, model().state_dict())
        kinds = {name: type(module) for name, module in made.named_modules()}
        packed = {name for name, kind in kinds.items() if kind is PackedLinear}
        plain = {name for name, kind in kinds.items() if kind is nn.Linear}
        assert packed
        assert all(name.startswith("blocks.") for name in packed)
        assert not any(name.startswith("blocks.") for name in plain)

    def test_each_kept_weight_has_its_reason(self) -> None:
        for name, tensor in model().state_dict().items():
            assert is_packed(name, tuple(tensor.shape)) == (why_kept(name) is None), name
        named = {
            next(k for k, why in KEPT.items() if why == why_kept(n))
            for n in model().state_dict()
            if why_kept(n)
        }
        assert {KEPT[key] for key in named} == set(KEPT.values())

    def test_the_published_model(self) -> None:
        manifest = golden_dir().parent / "manifests" / "infinitetalk_dit_14b.json"
        if not manifest.is_file():
            pytest.skip("the lists of published keys are not beside the project")
        shapes = {
            n: tuple(e["shape"] if isinstance(e, dict) else e)
            for n, e in json.loads(manifest.read_text()).items()
        }
        packed = {name for name, shape in shapes.items() if is_packed(name, shape)}
        assert len(packed) == 40 * (4 + 6 + 3 + 2)
        assert all((why_kept(name) is None) == (name in packed) for name in shapes)
        # Kernels take multiples of 16 and 32.
        assert all(size % 32 == 0 for name in packed for size in shapes[name])


class TestFilesAndPolicies:
    def test_disabled_keeps_what_the_file_has(self) -> None:
        weight = Packed(INT8, (8, 8), INT8.pack(noise(8, 8, seed=0)))
        for off in (Quantization.DISABLED, Quantization.GGUF):
            assert POLICIES[off].store(NAME, weight, torch.bfloat16) is weight
            plain = noise(8, 8, seed=0)
            assert POLICIES[off].store(NAME, plain, torch.bfloat16) is plain

    def test_plain_float8_in_a_file_stays_small(self) -> None:
        eight = noise(8, 8, seed=0).to(torch.float8_e4m3fn)
        kept = POLICIES[Quantization.DISABLED].store(NAME, eight, torch.bfloat16)
        assert isinstance(kept, Packed)
        assert kept.format == PLAIN_E4M3FN
        assert kept.parts["data"] is eight
        assert POLICIES[Quantization.DISABLED].store("head.head.weight", eight, torch.bfloat16) is eight

    def test_the_same_parts_are_taken_over(self) -> None:
        of_a_file = Scaled("fp8 of a file", torch.float8_e4m3fn, 448.0, rows=False)
        weight = Packed(of_a_file, (8, 8), of_a_file.pack(noise(8, 8, seed=0)))
        for quantization, kind in (
            (Quantization.FP8_E4M3FN_SCALED, FP8_E4M3FN),
            (Quantization.FP8_E4M3FN_SCALED_FAST, FP8_E4M3FN_FAST),
        ):
            kept = POLICIES[quantization].store(NAME, weight, None)
            assert isinstance(kept, Packed)
            assert kept.format == kind
            assert kept.parts is weight.parts

    @pytest.mark.parametrize("quantization", PACKING)
    def test_another_format_is_unpacked_and_packed_again(self, quantization: Quantization) -> None:
        weight = Packed(INT8, (16, 64), INT8.pack(noise(16, 64, seed=0)))
        kept = POLICIES[quantization].store(NAME, weight, None)
        assert isinstance(kept, Packed)
        assert kept.format == FORMATS[quantization]
        assert (kept.unpack() - weight.unpack()).norm() < 0.15 * weight.unpack().norm()

    def test_what_is_kept_is_unpacked(self) -> None:
        weight = Packed(INT8, (8, 8), INT8.pack(noise(8, 8, seed=0)))
        found = POLICIES[Quantization.NF4].store("text_embedding.0.weight", weight, torch.bfloat16)
        assert isinstance(found, Tensor)
        torch.testing.assert_close(found, weight.unpack(torch.bfloat16))

    @pytest.mark.parametrize("odd", [float("nan"), float("-inf")])
    @pytest.mark.parametrize("quantization", PACKING)
    def test_weights_that_are_not_finite_are_refused_by_name(self, quantization, odd: float) -> None:
        weight = noise(8, 32, seed=0)
        weight[2, 3] = odd
        with pytest.raises(CheckpointError, match=NAME) as caught:
            POLICIES[quantization].store(NAME, weight, None)
        assert caught.value.code == "checkpoint_corrupt"

    @pytest.mark.parametrize("name", [NAME, "head.head.weight", "blocks.0.norm3.bias"])
    def test_what_the_file_has_is_looked_at_too(self, name: str) -> None:
        plain = noise(8, 8, seed=0).to(torch.bfloat16)
        plain[1, 2] = float("nan")
        with pytest.raises(CheckpointError, match=name):
            POLICIES[Quantization.DISABLED].store(name, plain, torch.bfloat16)

    @pytest.mark.parametrize(
        ("kind", "part", "code"),
        [
            (FP8_E4M3FN, "data", 0x7F),
            (FP8_E4M3FN, "data", 0xFF),
            (FP8_E5M2, "data", 0x7C),  # infinity
            (FP8_E5M2, "data", 0xFD),
            (MXFP4, "scale", 0xFF),
            (NVFP4, "scale", 0x7F),
        ],
    )
    def test_packed_weights_of_a_file_are_looked_at(self, kind, part: str, code: int) -> None:
        weight = Packed(kind, (16, 64), dict(kind.pack(noise(16, 64, seed=0))))
        off = POLICIES[Quantization.DISABLED]
        assert off.store(NAME, weight, None) is weight
        weight.parts[part].view(torch.uint8)[3, 1] = code
        with pytest.raises(CheckpointError, match=NAME):
            off.store(NAME, weight, None)

    def test_a_scale_that_is_not_finite_is_refused(self) -> None:
        weight = Packed(INT8, (8, 8), dict(INT8.pack(noise(8, 8, seed=0))))
        weight.parts["scale"][3] = float("inf")
        with pytest.raises(CheckpointError, match=NAME):
            POLICIES[Quantization.INT8].store(NAME, weight, None)

    @pytest.mark.parametrize("quantization", [Quantization.DISABLED, Quantization.FP8_E4M3FN_SCALED])
    def test_a_weight_beyond_float16_is_refused_for_fp16_alone(self, quantization) -> None:
        weight = noise(8, 32, seed=0).to(torch.bfloat16)
        weight[0, 0] = -70000.0
        for dtype in (torch.bfloat16, torch.float32, None):
            POLICIES[quantization].store(NAME, weight, dtype)
        with pytest.raises(CapabilityError, match=rf"{NAME}.*fp16 ends at 65504.*bf16"):
            POLICIES[quantization].store(NAME, weight, torch.float16)

    def test_weights_that_do_not_fit_are_refused_by_name(self) -> None:
        weight = noise(8, 32, seed=0) * 1000
        with pytest.raises(CapabilityError, match=rf"{NAME}.*fp8_e4m3fn.*scaled"):
            POLICIES[Quantization.FP8_E4M3FN].store(NAME, weight, None)
        POLICIES[Quantization.FP8_E4M3FN_SCALED].store(NAME, weight, None)


class TestHardware:
    @pytest.mark.parametrize("quantization", list(Quantization))
    @pytest.mark.parametrize("capability", [None, (7, 0), AMPERE, (8, 9), HOPPER, BLACKWELL])
    def test_what_runs_is_said_when_it_is_something_else(self, quantization, capability) -> None:
        runs, note = policy_for(quantization, capability)
        assert (note is None) == (runs.name is quantization)
        assert runs.format is FORMATS[runs.name]
        if note:
            assert note.startswith(f"{quantization} needs")
            assert f"so {runs.name} runs" in note
            assert "\n" not in note
            with pytest.raises(CapabilityError, match=f"Choose {runs.name}"):
                policy_for(quantization, capability, strict=True)
        else:
            assert policy_for(quantization, capability, strict=True) == (runs, None)

    @pytest.mark.parametrize(
        ("asked", "capability", "runs"),
        [
            (Quantization.FP8_E4M3FN_SCALED_FAST, AMPERE, Quantization.FP8_E4M3FN_SCALED),
            (Quantization.FP8_E4M3FN_SCALED_FAST, (8, 9), Quantization.FP8_E4M3FN_SCALED_FAST),
            (Quantization.FP8_E5M2_FAST, None, Quantization.FP8_E5M2),
            (Quantization.FP4_SCALED_FAST, HOPPER, Quantization.FP4_SCALED),
            (Quantization.FP4_SCALED_FAST, BLACKWELL, Quantization.FP4_SCALED_FAST),
            (Quantization.INT8_FAST, None, Quantization.INT8_FAST),
            (Quantization.INT8_FAST, (7, 0), Quantization.INT8),
        ],
    )
    def test_examples(self, asked, capability, runs) -> None:
        assert policy_for(asked, capability)[0].name is runs

    def test_gguf_is_for_gguf_files(self) -> None:
        with pytest.raises(UsageError, match=r"\.gguf file"):
            policy_for(Quantization.GGUF, HOPPER, gguf=False)
        assert policy_for(Quantization.GGUF, None, gguf=True) == (POLICIES[Quantization.GGUF], None)
        runs, note = policy_for(Quantization.INT8, None, gguf=True)
        assert runs.name is Quantization.INT8
        assert note
        assert "rounds them twice" in note
