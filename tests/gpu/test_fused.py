"""Triton kernels of the transformer against their twins in plain torch, in float32 and at the published widths."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from infinite_talk.memory.workspace import block_workspace
from infinite_talk.models.dit import DiTConfig, WanTransformer
from infinite_talk.ops.attention import eager, sdpa
from infinite_talk.ops.attention.flash8 import narrowed, narrowed_slowly
from infinite_talk.ops.fused import EAGER, FusedOps, fused_ops
from infinite_talk.ops.linear import Float8Rows
from infinite_talk.ops.rope import rotate
from tests.fused import Tokens, apart, plain

CUDA = torch.device("cuda")
pytestmark = pytest.mark.gpu
BOUND = {torch.bfloat16: 3e-3, torch.float16: 4e-4, torch.float32: 1e-6}
NARROW = 0.03
"""Of rounding to three bits of mantissa."""
DTYPES = pytest.mark.parametrize("dtype", BOUND, ids=str)


def ops() -> FusedOps:
    found, note = fused_ops(CUDA)
    assert found.name == "triton", note
    return found


def shapes(dtype: torch.dtype) -> list[Tokens]:
    sizes = ((2, 300, 5120, 40), (3, 5, 96, 3))  # few: Triton compiles for each width
    return [Tokens(*size, dtype, CUDA) for size in sizes]


def close(found: object, expected: Tensor, dtype: torch.dtype, *, narrow: bool = False) -> None:
    assert isinstance(found, Float8Rows) == narrow
    assert apart(found, expected) < (NARROW if narrow else BOUND[dtype])  # type: ignore[arg-type]


@DTYPES
@pytest.mark.parametrize("narrow", [False, True])
@torch.no_grad()
def test_norms_and_sums(dtype: torch.dtype, narrow: bool) -> None:
    for drawn in shapes(dtype):
        for factor, shift in (
            (drawn.vector(1), drawn.vector(2)),
            (drawn.modulation(1), drawn.modulation(2)),
        ):
            x, update = drawn.tokens(3), drawn.tokens(4)
            wide = (factor.float(), shift.float(), 1e-6)
            found = ops().norm(x, factor, shift, 1e-6, narrow=narrow)
            close(found, plain(EAGER.norm(x.float(), *wide)), dtype, narrow=narrow)
            for amount in (None, drawn.modulation(5)):
                total, normed = EAGER.add_norm(x.float(), update.float(), amount, *wide)
                for own in (False, True):
                    mine = x.clone() if own else x
                    y, h = ops().add_norm(mine, update, amount, factor, shift, 1e-6, narrow=narrow, own=own)
                    close(y, total, dtype)
                    close(h, plain(normed), dtype, narrow=narrow)
                    assert torch.equal(x, drawn.tokens(3)) and (y.data_ptr() == mine.data_ptr()) == own
        found = ops().add(x, update, drawn.modulation(5))
        close(found, EAGER.add(x.float(), update.float(), drawn.modulation(5)), dtype)


@DTYPES
@torch.no_grad()
def test_turned_queries(dtype: torch.dtype) -> None:
    for drawn in shapes(dtype):
        for rotation in (None, drawn.rotation(), drawn.rotation(drawn.batch)):
            expected = EAGER.rms_rotate(drawn.tokens(1).float(), drawn.rms().float(), drawn.heads, rotation)
            close(ops().rms_rotate(drawn.tokens(1), drawn.rms(), drawn.heads, rotation), expected, dtype)


@DTYPES
@torch.no_grad()
def test_gelu_and_totals(dtype: torch.dtype) -> None:
    for drawn in shapes(dtype):
        x, other, layer = drawn.tokens(1) / 3, drawn.tokens(2), drawn.linear(4 * drawn.width, 3)
        bias = layer.bias.float()
        expected = F.gelu(F.linear(x.float(), layer.weight.float(), bias), approximate="tanh")
        tolerance = torch.float16 if dtype == torch.float32 else dtype  # TF32 may be on
        for like in (layer, nn.Sequential(layer)):  # with and without the epilogue of the product
            close(ops().gelu(like, x), expected, tolerance)
            close(ops().gelu(like, x, narrow=True), expected, dtype, narrow=True)
        close(ops().total(x.clone(), other), x.float() + other.float(), dtype)
        x, other = x.contiguous(), other.contiguous()
        close(ops().total(x, other, narrow=True), x.float() + other.float(), dtype, narrow=True)
        close(ops().total(x, None, narrow=True), x.float(), dtype, narrow=True)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize(
    ("groups", "rows", "keys", "heads"), [(1, 1, 1, 1), (3, 70, 32, 5), (2, 200, 64, 5), (5, 63, 9, 3)]
)
@torch.no_grad()
def test_speech_attention(
    dtype: torch.dtype, groups: int, rows: int, keys: int, heads: int, turned: bool
) -> None:
    """Few shapes: Triton compiles for each number of heads and keys."""
    width = 128 * heads
    drawn = Tokens(groups, rows, width, heads, dtype, CUDA)
    k, v = (drawn.draw(groups, keys, heads, 128, seed=i).transpose(1, 2) for i in (1, 2))
    ask, answer = drawn.linear(width, 3), drawn.linear(width, 5)
    x, turn = drawn.tokens(7) / 3, drawn.rotation(groups) if turned else None
    q = torch.unflatten(F.linear(x.float(), ask.weight.float(), ask.bias.float()), -1, (heads, -1))
    q = (q if turn is None else rotate(q, turn)).transpose(1, 2)
    found = eager(q, k.float(), v.float()).transpose(1, 2).flatten(2)
    expected = F.linear(found, answer.weight.float(), answer.bias.float())
    assert apart(ops().grouped_attention(x, k, v, ask, answer, turn), expected) < 2 * BOUND[dtype]


@pytest.mark.parametrize("centre", [False, True])
@torch.no_grad()
def test_heads_in_8_bits(centre: bool) -> None:
    draw = torch.Generator(CUDA).manual_seed(0)
    channels = 5 * torch.randn(64, device=CUDA, generator=draw)
    for length in (2, 31, 1500):
        x = (torch.randn(2, length, 3, 64, device=CUDA, generator=draw) + channels).bfloat16()
        (data, scale, mean), (expected, expected_scale, expected_mean) = (
            of(x, centre=centre) for of in (narrowed, narrowed_slowly)
        )
        torch.testing.assert_close(scale, expected_scale)
        assert (mean is None) == (not centre)
        if mean is not None:
            assert expected_mean is not None
            torch.testing.assert_close(mean, expected_mean, atol=1e-5, rtol=1e-5)
        assert apart(data.float(), expected.float()) < 2e-3  # a rounding may fall to the other side


@pytest.mark.parametrize("rows", [None, 1560, 400])
@pytest.mark.parametrize("people", [1, 2])
@torch.no_grad()
def test_the_memory_formula(people: int, rows: int | None) -> None:
    """A block of the published width at work holds what the planner counts with, within a twentieth of a pass."""
    config, grid = DiTConfig(num_layers=1), (9, 60, 104)
    torch.manual_seed(0)
    model = WanTransformer(config, sdpa, ops()).to(CUDA, torch.bfloat16)
    model.rows_at_once = rows
    condition = model.condition(
        text=torch.randn(1, 512, 4096, device=CUDA),
        image=torch.randn(1, 257, 1280, device=CUDA),
        speech=torch.randn(1, people, 33, 5, 12, 768, device=CUDA),
        token_masks=torch.rand(people + 1, *grid[1:], device=CUDA).round(),
        reference=torch.randn(1, 20, *grid, device=CUDA),
    )
    tokens = condition.grid[0] * condition.grid[1] * condition.grid[2]
    x = torch.randn(1, tokens, config.dim, device=CUDA, dtype=torch.bfloat16)
    e0 = torch.randn(1, 6, config.dim, device=CUDA)
    block, own = model.blocks[0], condition.blocks[0]
    block(x, e0, condition, own)
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    block(x, e0, condition, own)
    found = torch.cuda.max_memory_allocated() - before
    planned = block_workspace(config, tokens, 2, rows, people=people, fused=True)
    assert 0.9 * found < planned < 1.15 * found, (found / 2**20, planned / 2**20)


@pytest.mark.parametrize("people", [1, 2])
@torch.no_grad()
def test_a_whole_pass(people: int) -> None:
    """One block of the published width, in pieces and at once, against the same in float32 and plain torch."""
    config = DiTConfig(num_layers=1)
    torch.manual_seed(0)
    slow = WanTransformer(config, eager).to(CUDA)
    slow.init_weights()
    for parameter in slow.parameters():
        parameter.data = parameter.data.bfloat16().float()
    slow.head.head.weight.data.normal_(std=0.02)
    fast = WanTransformer(config, eager, ops()).to(CUDA, torch.bfloat16)
    fast.load_state_dict(slow.state_dict())
    grid = (2, 16, 24)
    given_ = {
        "text": torch.randn(1, 512, 4096, device=CUDA),
        "image": torch.randn(1, 257, 1280, device=CUDA),
        "speech": torch.randn(1, people, 5, 5, 12, 768, device=CUDA),
        "token_masks": torch.rand(people + 1, *grid[1:], device=CUDA).round(),
        "reference": torch.randn(1, 20, *grid, device=CUDA),
    }
    latent, time = torch.randn(1, 16, *grid, device=CUDA), torch.tensor([500.0], device=CUDA)
    expected = slow(latent, time, slow.condition(**given_))
    for rows in (None, 100):
        fast.rows_at_once = rows
        assert apart(fast(latent, time, fast.condition(**given_)), expected) < 0.02
