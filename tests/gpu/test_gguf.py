"""GGUF's formats on a GPU: the numbers of the CPU, products like the slow twin's, little memory, compiled too."""

from __future__ import annotations

import pytest
import torch

from infinite_talk.ops.linear import Packed, PackedLinear
from infinite_talk.ops.linear.gguf import FORMATS
from infinite_talk.weights.reader import check_finite
from tests.dialects import random_blocks

DEVICE = torch.device("cuda")
KINDS = sorted(FORMATS)
pytestmark = pytest.mark.gpu


def packed(kind: str, rows: int, columns: int) -> Packed:
    data = torch.from_numpy(random_blocks(kind, rows, columns))
    return Packed(FORMATS[kind], (rows, columns), {"data": data})


@pytest.mark.parametrize("kind", KINDS)
def test_numbers_are_those_of_the_cpu(kind: str) -> None:
    weight = packed(kind, 64, 1024)
    there = weight.to(DEVICE)
    check_finite("w", there)
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        assert torch.equal(there.unpack(dtype).cpu(), weight.unpack(dtype))


@pytest.mark.parametrize("kind", [kind for kind in KINDS if FORMATS[kind].encode is not None])
def test_packs_like_the_cpu(kind: str) -> None:
    weight = torch.randn(64, 512, generator=torch.Generator().manual_seed(0))
    there, here = FORMATS[kind].pack(weight.to(DEVICE))["data"].cpu(), FORMATS[kind].pack(weight)["data"]
    # A division may round the other way in the last bit, and a number exactly between two codes with it.
    assert (there != here).float().mean() < 1e-3


@pytest.mark.parametrize("kind", ["Q8_0", "Q4_K", "Q5_K", "Q2_K"])
def test_a_layer_of_the_published_width(kind: str) -> None:
    """In pieces, so that next to the operands only a fraction of the plain weight is ever there."""
    weight = packed(kind, 13824, 5120).to(DEVICE)
    x = torch.randn(1024, 5120, device=DEVICE, dtype=torch.bfloat16)
    expected = torch.nn.functional.linear(x, weight.unpack(torch.bfloat16))
    layer = PackedLinear(weight, None, torch.bfloat16)
    layer(x)
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    got = layer(x)
    torch.cuda.synchronize()
    peak = torch.cuda.max_memory_allocated() - before - got.nbytes
    torch.testing.assert_close(got, expected, rtol=2e-2, atol=2e-2 * float(expected.abs().max()))
    assert (
        peak < 160e6
    )  # the plain weight would be 142 MB in bf16 and 283 MB in the float32 it is computed in


@pytest.mark.parametrize("kind", ["Q8_0", "Q4_K", "Q6_K", "IQ4_XS"])
def test_compiled(kind: str) -> None:
    layer = PackedLinear(packed(kind, 256, 1024).to(DEVICE), None, torch.bfloat16)
    x = torch.randn(64, 1024, device=DEVICE, dtype=torch.bfloat16)
    compiled = torch.compile(layer, fullgraph=True)
    torch.testing.assert_close(compiled(x), layer(x), rtol=2e-2, atol=1e-1)
