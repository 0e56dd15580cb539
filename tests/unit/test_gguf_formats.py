"""GGUF's block formats: numbers like those of the gguf library, products like those of the whole weight."""

from __future__ import annotations

import gguf
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from infinite_talk.errors import CapabilityError, CheckpointError
from infinite_talk.ops.linear import Packed, PackedLinear
from infinite_talk.ops.linear import gguf as formats
from infinite_talk.ops.linear.gguf import FORMATS, Blocks
from infinite_talk.settings import Quantization
from infinite_talk.weights.precision import Policy
from infinite_talk.weights.reader import check_finite
from tests.dialects import random_blocks

KINDS = sorted(FORMATS)
WRITABLE = [name for name in KINDS if FORMATS[name].encode is not None]


def packed(kind: str, rows: int = 6, columns: int = 512, seed: int = 0) -> Packed:
    data = torch.from_numpy(random_blocks(kind, rows, columns, seed))
    return Packed(FORMATS[kind], (rows, columns), {"data": data})


@pytest.mark.parametrize("kind", KINDS)
def test_numbers_and_sizes_are_those_of_the_library(kind: str) -> None:
    type_ = gguf.GGMLQuantizationType[kind]
    known = FORMATS[kind]
    assert known.number == type_.value
    assert (known.block, known.nbytes) == tuple(gguf.GGML_QUANT_SIZES[type_])


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 2**31), rows=st.integers(1, 5), blocks=st.integers(1, 3))
def test_unpacked_bit_by_bit_like_the_library(kind: str, seed: int, rows: int, blocks: int) -> None:
    columns = blocks * FORMATS[kind].block
    weight = packed(kind, rows, columns, seed)
    expected = gguf.quants.dequantize(weight.parts["data"].numpy(), gguf.GGMLQuantizationType[kind])
    assert np.array_equal(weight.unpack().numpy(), expected)
    half = weight.unpack(torch.bfloat16)
    assert half.dtype == torch.bfloat16
    assert torch.equal(half, torch.from_numpy(expected).bfloat16())  # rounded once, from float32


@pytest.mark.parametrize("kind", WRITABLE)
def test_packed_like_the_library(kind: str) -> None:
    generator = torch.Generator().manual_seed(3)
    weight = torch.randn(8, 256, generator=generator)
    weight[1, :32] = 0
    weight[2, 32:64] = -0.25
    parts = FORMATS[kind].pack(weight)
    expected = gguf.quants.quantize(weight.numpy(), gguf.GGMLQuantizationType[kind])
    assert np.array_equal(parts["data"].numpy(), expected)


@pytest.mark.parametrize(
    ("kind", "bound"), [("Q8_0", 0.0045), ("Q5_0", 0.04), ("Q5_1", 0.03), ("Q4_0", 0.08), ("Q4_1", 0.06)]
)
@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**31), size=st.floats(0.01, 100))
def test_a_packed_weight_comes_back(kind: str, bound: float, seed: int, size: float) -> None:
    """The bound is half a step of a block, relative to the largest number of the block, and float16's rounding."""
    weight = torch.randn(3, 64, generator=torch.Generator().manual_seed(seed)) * size
    known = FORMATS[kind]
    again = known.unpack(known.pack(weight), (3, 64), torch.float32)
    cut, back = weight.reshape(-1, 32), again.reshape(-1, 32)
    spread = (cut.amax(1) - cut.amin(1)).maximum(cut.abs().amax(1))[:, None]
    assert ((back - cut).abs() <= bound * spread + 1e-6).all()


@pytest.mark.parametrize("kind", ["Q4_K", "Q2_K", "IQ4_XS"])
def test_formats_that_are_only_read_say_what_to_write(kind: str) -> None:
    with pytest.raises(CapabilityError, match="Q8_0"):
        FORMATS[kind].pack(torch.zeros(1, 256))


def test_rows_that_no_block_divides_are_refused() -> None:
    with pytest.raises(CapabilityError, match="33"):
        FORMATS["Q8_0"].pack(torch.zeros(2, 33))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_product_in_pieces_is_that_of_the_whole_weight(
    kind: str, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    weight = packed(kind, rows=7)
    x = torch.randn(2, 3, 512, generator=torch.Generator().manual_seed(1)).to(dtype)
    bias = torch.randn(7, generator=torch.Generator().manual_seed(2))
    whole = weight.unpack(dtype)
    expected = torch.nn.functional.linear(x, whole, bias.to(dtype))
    monkeypatch.setattr(formats, "_PIECE", 2 * 512)  # two rows at a time, one in the last piece
    assert torch.equal(weight.unpack(dtype), whole)
    got = weight.format.linear(x, weight.parts, weight.shape, bias)
    assert got.dtype == dtype
    close = 1e-4 if dtype == torch.float32 else 1e-2
    torch.testing.assert_close(got, expected, rtol=close, atol=close)


def test_a_layer_is_compiled_without_a_break() -> None:
    layer = PackedLinear(packed("Q4_K"), torch.ones(6), torch.float32)
    x = torch.randn(2, 512, generator=torch.Generator().manual_seed(1))
    compiled = torch.compile(layer, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(x), layer(x))


def test_a_policy_of_gguf_keeps_the_blocks_and_another_packs_them_again() -> None:
    weight = packed("Q4_K")
    name = "blocks.0.ffn.0.weight"
    assert Policy(Quantization.GGUF, None).store(name, weight, torch.bfloat16) is weight
    again = Policy(Quantization.GGUF, FORMATS["Q8_0"]).store(name, weight, torch.bfloat16)
    assert isinstance(again, Packed)
    assert again.format == FORMATS["Q8_0"]
    step = float(weight.unpack().abs().amax()) / 127
    torch.testing.assert_close(again.unpack(), weight.unpack(), atol=step, rtol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_every_scale_that_is_no_number_is_found(kind: str) -> None:
    known: Blocks = FORMATS[kind]
    weight = packed(kind)
    check_finite("w", weight)
    for place in known.halves:
        for bad in (float("nan"), float("inf"), float("-inf")):
            data = weight.parts["data"].clone()
            start = 3 * known.nbytes + place
            data.reshape(-1)[start : start + 2] = torch.tensor([bad], dtype=torch.float16).view(torch.uint8)
            broken = Packed(known, weight.shape, {"data": data})
            assert not broken.unpack().isfinite().all()
            with pytest.raises(CheckpointError, match="NaN"):
                check_finite("w", broken)
