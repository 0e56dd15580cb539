"""Formats of packed weights: round trips, products against their slow twins, and the layouts of others."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from infinite_talk.errors import CapabilityError
from infinite_talk.ops.linear import Packed, PackedLinear, fast8
from infinite_talk.ops.linear import nf4 as nf4_module
from infinite_talk.ops.linear.fast8 import (
    FP8_E4M3FN_FAST,
    FP8_E5M2_FAST,
    INT8_FAST,
    PLAIN_E4M3FN_FAST,
    PLAIN_E5M2_FAST,
)
from infinite_talk.ops.linear.float8 import PLAIN_E4M3FN, PLAIN_E5M2
from infinite_talk.ops.linear.mxfp4 import MXFP4
from infinite_talk.ops.linear.nf4 import NF4
from infinite_talk.ops.linear.nibbles import E2M1, join, look_up, swapped, to_e2m1
from infinite_talk.ops.linear.nvfp4 import NVFP4, NVFP4_FAST, from_tiles, to_nvfp4, to_tiles
from infinite_talk.ops.linear.rows import rows_to_float8, rows_to_int8
from infinite_talk.ops.linear.scaled import FP8_E4M3FN, FP8_E5M2, INT8, Scaled
from tests.unit.tiny_dit import noise

WEIGHTS_ONLY = (PLAIN_E4M3FN, PLAIN_E5M2, FP8_E4M3FN, FP8_E5M2, INT8, NF4, MXFP4, NVFP4)
FAST = (PLAIN_E4M3FN_FAST, PLAIN_E5M2_FAST, FP8_E4M3FN_FAST, FP8_E5M2_FAST, INT8_FAST, NVFP4_FAST)
FORMATS = WEIGHTS_ONLY + FAST
# Relative error of a packed normal weight: e4m3 has 3 bits of mantissa, e5m2 two; int8 of a row of normal
# numbers has steps of 1/30 deviation; 4 bits are 4 bits.
WEIGHT_ERROR = {
    **dict.fromkeys(("fp8_e4m3fn", "fp8_e4m3fn_scaled"), 0.03),
    **dict.fromkeys(("fp8_e5m2", "fp8_e5m2_scaled"), 0.06),
    "int8": 0.012,
    "nf4": 0.1,
    "fp4_experimental": 0.14,
    "fp4_scaled": 0.11,
}

by_name = pytest.mark.parametrize("kind", FORMATS, ids=lambda kind: kind.name)


def packed(kind, out: int, into: int, seed: int = 0) -> Packed:
    return Packed(kind, (out, into), kind.pack(noise(out, into, seed=seed)))


def relative(found: Tensor, expected: Tensor) -> float:
    return float((found.float() - expected.float()).norm() / expected.float().norm())


@by_name
def test_a_packed_weight_is_close_and_small(kind) -> None:
    weight = noise(48, 128, seed=1)
    kept = packed(kind, 48, 128, seed=1)
    error = relative(kept.unpack(), weight)
    bound = WEIGHT_ERROR[kind.name.removesuffix("_fast")]
    assert bound / 3 < error < bound
    four = "4" in kind.name.removeprefix("fp8_e4m3fn") and "fp8" not in kind.name
    assert kept.nbytes < weight.numel() * (0.6 if four else 1.05)


@by_name
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_a_layer_multiplies_with_its_unpacked_weight(kind, dtype: torch.dtype) -> None:
    kept, x, bias = packed(kind, 32, 64), noise(2, 5, 64, seed=2).to(dtype), noise(32, seed=3).to(dtype)
    layer = PackedLinear(kept, bias, dtype)
    out = layer(x)
    assert out.dtype == dtype
    assert out.shape == (2, 5, 32)
    exact = x.float() @ kept.unpack().T + bias.float()
    # Fast formats round the activations as well.
    bound = 0.12 if kind is NVFP4_FAST else 0.04 if kind in FAST else 0.006
    assert relative(out, exact) < bound
    assert relative(layer.weight, kept.unpack()) < 0.005


@pytest.mark.parametrize("kind", FAST, ids=lambda kind: kind.name)
def test_a_fast_product_is_its_slow_twin(kind) -> None:
    kept, x, bias = packed(kind, 48, 96), noise(70, 96, seed=2), noise(48, seed=3)
    fast = kind.linear(x, kept.parts, kept.shape, bias)
    slow = kind.emulate(x, kept.parts, kept.shape, bias)
    print(f"{kind.name}: max {(fast - slow).abs().max():.2e}, mean {(fast - slow).abs().mean():.2e}")
    torch.testing.assert_close(fast, slow, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("kind", [k for k in FAST if "fp8" in k.name], ids=lambda kind: kind.name)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("rows", [1, 40])
def test_the_float8_kernel_is_its_slow_twin(kind, dtype, rows: int, monkeypatch) -> None:
    """The processor has the operator too, slowly; on GPUs ``tests/gpu/test_precision.py`` runs it."""
    kept, x, bias = packed(kind, 48, 96), noise(2, rows, 96, seed=2).to(dtype), noise(48, seed=3)
    slow = kind.linear(x, kept.parts, kept.shape, bias)
    monkeypatch.setattr(fast8, "has_float8", lambda device: True)
    fast = kind.linear(x, kept.parts, kept.shape, bias)
    assert fast.dtype == dtype
    assert relative(fast, slow) < 0.004
    whole = {name: part[:1] if name == "scale" else part for name, part in kept.parts.items()}
    fast = kind.linear(x, whole, kept.shape, None)
    monkeypatch.undo()
    assert relative(fast, kind.linear(x, whole, kept.shape, None)) < 0.004


@pytest.mark.parametrize("rows", [1, 40])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_the_int8_kernel_is_its_slow_twin(dtype: torch.dtype, rows: int, monkeypatch) -> None:
    """Every processor has the operator, the older ones slowly, so there the twin is taken."""
    kept, x, bias = packed(INT8_FAST, 48, 96), noise(2, rows, 96, seed=2).to(dtype), noise(48, seed=3)
    monkeypatch.setattr(fast8, "has_int8", lambda device: False)
    slow = INT8_FAST.linear(x, kept.parts, kept.shape, bias)
    monkeypatch.setattr(fast8, "has_int8", lambda device: True)
    fast = INT8_FAST.linear(x, kept.parts, kept.shape, bias)
    assert fast.dtype == dtype
    torch.testing.assert_close(fast, slow, atol=1e-4, rtol=1e-4 if dtype == torch.float32 else 0.008)


@settings(max_examples=60)
@given(
    kind=st.sampled_from(FORMATS),
    out=st.integers(1, 40),
    into=st.integers(1, 70),
    lead=st.sampled_from([(), (0,), (1,), (17,), (2, 3), (1, 0, 4), (2, 1, 3)]),
    stride=st.sampled_from(["plain", "transposed", "every other", "shifted"]),
    dtype=st.sampled_from([torch.float32, torch.bfloat16, torch.float16]),
)
def test_no_size_or_stride_is_refused(kind, out, into, lead, stride, dtype) -> None:
    kept = packed(kind, out, into)
    x = noise(*lead, into, seed=5).to(dtype)
    if stride == "transposed" and x.dim() > 1:
        x = x.transpose(0, -1).contiguous().transpose(0, -1)
    elif stride == "every other":
        x = torch.stack([x, x], dim=-1)[..., 0]
    elif stride == "shifted":
        x = torch.cat([x.new_zeros(1), x.flatten()])[1:].view(x.shape)
    bias = noise(out, seed=6)
    found = kind.linear(x, kept.parts, kept.shape, bias)
    assert found.shape == (*lead, out)
    assert found.dtype == dtype
    exact = x.float() @ kept.unpack().T + bias
    size = float(x.float().norm(dim=-1).max()) * float(kept.unpack().norm(dim=-1).max()) if x.numel() else 0
    assert ((found.float() - exact).abs() <= 0.2 * size + 0.02 * exact.abs() + 1e-3).all()


@by_name
def test_zeros_stay_zeros_and_odd_rows_harm_no_other(kind) -> None:
    weight = noise(16, 64, seed=0)
    weight[3] = 0
    kept = Packed(kind, (16, 64), kind.pack(weight))
    assert not kept.unpack()[3].any()
    x = noise(4, 64, seed=1)
    x[1] = 0
    x[2] *= 1e-35
    found = kind.linear(x, kept.parts, kept.shape, None)
    assert torch.isfinite(found).all()
    assert not found[1].any()
    assert found[2].abs().max() < 1e-30
    all_zero = Packed(kind, (16, 64), kind.pack(torch.zeros(16, 64)))
    assert not all_zero.unpack().any()


@by_name
@pytest.mark.parametrize("odd", [float("nan"), float("inf")])
def test_what_is_not_finite_shows(kind, odd: float) -> None:
    kept, x = packed(kind, 16, 64), noise(3, 64, seed=1)
    x[1, 7] = odd
    found = kind.linear(x, kept.parts, kept.shape, None)
    assert not torch.isfinite(found[1]).any()
    if kind is not NVFP4_FAST:  # it has one scale for all rows
        assert torch.isfinite(found[[0, 2]]).all()


@pytest.mark.parametrize("kind", (PLAIN_E4M3FN, PLAIN_E5M2), ids=lambda kind: kind.name)
def test_a_weight_beyond_plain_float8_is_refused_with_advice(kind) -> None:
    weight = torch.ones(4, 4)
    weight[1, 2] = -torch.finfo(kind.dtype).max * 1.2
    with pytest.raises(CapabilityError, match=r"1 of its numbers.*scaled"):
        kind.pack(weight)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@settings(max_examples=40)
@given(exponent=st.integers(-12, 4), seed=st.integers(0, 99))
def test_no_activation_saturates(dtype: torch.dtype, exponent: int, seed: int) -> None:
    x = (noise(7, 33, seed=seed) * 10.0**exponent).clamp(-6e4, 6e4).to(dtype)
    for coded, scale, step in ((*rows_to_float8(x), 2**-4), (*rows_to_int8(x), 0)):
        again = coded.float() * scale
        error = (again - x.float()).abs()
        largest = x.float().abs().amax(dim=1, keepdim=True)
        # Half a step of the format, the smallest step at the lower end, and bfloat16's rounding of the factor.
        assert (
            error <= step * 1.07 * x.float().abs() + largest * (2**-9 / 448 if step else 0.504 / 127)
        ).all()


class TestFourBits:
    def test_codes_are_the_nearest_number_and_halfway_goes_to_the_even_one(self) -> None:
        x = torch.linspace(-6, 6, 4801)
        numbers = torch.tensor(E2M1)
        found = numbers[to_e2m1(x)]
        assert torch.equal((found - x).abs(), (numbers[None] - x[:, None]).abs().amin(dim=1))
        halfway = torch.tensor([0.25, 0.75, 1.25, 1.75, 2.5, 3.5, 5.0])
        assert numbers[to_e2m1(halfway)].tolist() == [0, 1, 1, 2, 2, 4, 4]
        assert numbers[to_e2m1(-halfway)].tolist() == [0, -1, -1, -2, -2, -4, -4]

    def test_the_earlier_code_is_in_the_lower_half(self) -> None:
        data = join(torch.tensor([[1, 2, 15, 7]]))
        assert data.tolist() == [[0x21, 0x7F]]
        assert look_up(data, E2M1, torch.float32).tolist() == [[0.5, 1.0, -6.0, 6.0]]
        assert swapped(data).tolist() == [[0x12, 0xF7]]

    def test_a_block_scale_is_a_power_of_two_that_cuts_nothing(self) -> None:
        for largest in (6.0, 6.0001, 7.9, 12.0, 1e-3, 3.7e4, 1e-20):
            parts = MXFP4.pack(torch.full((1, 32), largest))
            scale = float(parts["scale"].float())
            assert torch.frexp(torch.tensor(scale)).mantissa == 0.5
            assert largest <= 6 * scale < 2 * largest * 1.0001

    def test_tiles_are_undone(self) -> None:
        for rows, columns in ((128, 4), (1, 1), (200, 9), (384, 12)):
            scale = torch.randint(0, 120, (rows, columns), dtype=torch.uint8).view(torch.float8_e4m3fn)
            tiles = to_tiles(scale)
            assert tiles.numel() % 512 == 0
            assert torch.equal(from_tiles(tiles, rows, columns).view(torch.uint8), scale.view(torch.uint8))

    def test_the_place_of_a_scale_in_its_tile(self) -> None:
        plain = torch.zeros(256, 8, dtype=torch.uint8)
        plain[128 + 32 * 3 + 5, 4 + 2] = 1  # second tile down, second across: i = 3, j = 5, c = 2
        tiles = to_tiles(plain.view(torch.float8_e4m3fn)).view(torch.uint8)
        assert tiles.nonzero().item() == 512 * 3 + 16 * 5 + 4 * 3 + 2


class TestOthersLayouts:
    """Packages that know the same formats; a machine without them skips."""

    def test_nvfp4_like_comfy_kitchen(self) -> None:
        kitchen = pytest.importorskip("comfy_kitchen.backends.eager.quantization")
        weight = noise(160, 192, seed=3)
        largest = weight.abs().amax()
        ours = to_nvfp4(weight, largest)
        for hi_first in (False, True):
            data, scale = kitchen.quantize_nvfp4(weight, ours["whole"].squeeze(), hi_first=hi_first)
            assert torch.equal(swapped(ours["data"]) if hi_first else ours["data"], data)
            assert torch.equal(to_tiles(ours["scale"]).view(torch.uint8), scale.view(torch.uint8).flatten())
            theirs = kitchen.dequantize_nvfp4(
                data, ours["whole"].squeeze(), scale, torch.float32, hi_first=hi_first
            )
            torch.testing.assert_close(NVFP4.unpack(ours, (160, 192), torch.float32), theirs)

    def test_nvfp4_like_torchao(self) -> None:
        nvfp4 = pytest.importorskip("torchao.prototype.mx_formats.nvfp4_tensor")
        weight = noise(160, 192, seed=3)
        ours = to_nvfp4(weight, weight.abs().amax())
        scale, data = nvfp4.nvfp4_quantize(weight, per_tensor_scale=ours["whole"].squeeze())
        assert torch.equal(ours["scale"].view(torch.uint8), scale.view(torch.uint8))
        # It multiplies by a reciprocal, so a number on a border may differ.
        assert (ours["data"] != data).float().mean() < 1e-3
        utils = pytest.importorskip("torchao.prototype.mx_formats.utils")
        assert torch.equal(
            to_tiles(ours["scale"]).view(torch.uint8),
            utils.to_blocked(scale).view(torch.uint8).flatten(),
        )

    def test_mxfp4_like_torchao(self) -> None:
        mx = pytest.importorskip("torchao.prototype.mx_formats.mx_tensor")
        weight = noise(64, 96, seed=3)
        ours = MXFP4.pack(weight)
        theirs = mx.to_dtype(
            ours["data"].contiguous(), ours["scale"], torch.float4_e2m1fn_x2, 32, torch.float32
        )
        torch.testing.assert_close(MXFP4.unpack(ours, (64, 96), torch.float32), theirs.view(64, 96))

    def test_nf4_like_torchao(self) -> None:
        nf4 = pytest.importorskip("torchao.quantization.quantize_.workflows.nf4.nf4_tensor")
        weight = noise(64, 128, seed=3)
        theirs = nf4.to_nf4(weight, block_size=64, scaler_block_size=16)
        torch.testing.assert_close(torch.tensor(nf4_module.CODEBOOK), theirs.nf4.float(), atol=1e-4, rtol=0)
        ours = NF4.unpack(NF4.pack(weight), (64, 128), torch.float32)
        # Theirs packs the scales too, which costs it a little.
        assert relative(ours, theirs.get_original_weight()) < 0.02


def test_a_file_with_one_scale_for_a_weight_runs_in_all_of_its_products() -> None:
    kind = Scaled("fp8 of a file", torch.float8_e4m3fn, 448.0, rows=False)
    weight, x = noise(32, 64, seed=0), noise(20, 64, seed=1)
    parts = kind.pack(weight)
    assert parts["scale"].shape == (1, 1)
    exact = x @ kind.unpack(parts, (32, 64), torch.float32).T
    torch.testing.assert_close(kind.linear(x, parts, (32, 64), None), exact)
    assert relative(FP8_E4M3FN_FAST.linear(x, parts, (32, 64), None), exact) < 0.04
    whole = INT8.pack(weight) | {"scale": torch.full((1, 1), 0.02)}
    exact = x @ INT8.unpack(whole, (32, 64), torch.float32).T
    assert relative(INT8_FAST.linear(x, whole, (32, 64), None), exact) < 0.02


@by_name
def test_a_layer_is_one_graph(kind) -> None:
    """``torch.compile`` sees through the packing; a graph break would be an error."""
    torch._dynamo.reset()  # each format is a version of the same code, and there is a limit to those
    layer = PackedLinear(packed(kind, 32, 64), noise(32, seed=1), torch.float32)
    compiled = torch.compile(layer, backend="eager", fullgraph=True)
    x = noise(40, 64, seed=2)
    torch.testing.assert_close(compiled(x), layer(x))
