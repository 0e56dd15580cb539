"""Tokens in pieces: the same numbers, less memory, and formulas that say how much."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from infinite_talk.denoise.denoiser import Plain
from infinite_talk.denoise.guidance import branches
from infinite_talk.memory.workspace import block_workspace, condition_bytes, conditions_bytes
from infinite_talk.models.dit import Condition, DiTConfig, WanTransformer, concatenate, speech
from infinite_talk.models.dit.blocks import Block
from infinite_talk.models.dit.condition import Context
from infinite_talk.models.dit.people import voice_rotation
from infinite_talk.ops.fused import eager
from infinite_talk.ops.pieces import by_pieces, cuts_of
from infinite_talk.ops.rope import grid_rotation, rotate_real
from infinite_talk.types import Guide
from tests.live import LiveBytes, peak_bytes
from tests.unit.tiny_dit import CONFIG, TIMES, inputs, latent, model


@given(groups=st.integers(1, 7), rows=st.integers(1, 9), at_once=st.none() | st.integers(1, 80))
def test_pieces_cover_all_rows_once_and_respect_groups(groups: int, rows: int, at_once: int | None) -> None:
    cuts = cuts_of(groups, rows, at_once)
    assert [i for cut in cuts for i in range(cut.start, cut.stop)] == list(range(groups * rows))
    for cut in cuts:
        assert at_once is None or cut.stop - cut.start <= at_once
        whole_groups = cut.start % rows == 0 and cut.stop % rows == 0
        assert whole_groups or cut.start // rows == (cut.stop - 1) // rows


def test_results_of_pieces_are_put_together() -> None:
    x = torch.randn(2, 10, 3)
    twice, first = by_pieces(lambda rows: (x[:, rows] * 2, x[:, rows, :1]), cuts_of(5, 2, 4))
    assert torch.equal(twice, x * 2) and torch.equal(first, x[..., :1])


@pytest.fixture(scope="module")
def net() -> WanTransformer:
    return model()


def answer(net: WanTransformer, people: int) -> Tensor:
    with torch.no_grad():
        return net(latent(), TIMES, net.condition(**inputs(people)))


@pytest.mark.parametrize("people", [1, 2])
@pytest.mark.parametrize("rows_at_once", [1, 5, 12, 24, 30, 1000])
def test_pieces_change_no_numbers(net: WanTransformer, people: int, rows_at_once: int) -> None:
    """Frames of 12 tokens: parts of a frame, one, two of three, all. Two samples at once."""
    expected = answer(net, people)
    pieces = copy.deepcopy(net)
    pieces.rows_at_once = rows_at_once
    # Products of another height may add up in another order.
    torch.testing.assert_close(answer(pieces, people), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("people", [1, 2])
def test_keys_and_values_made_anew_are_the_kept_ones(net: WanTransformer, people: int) -> None:
    lean = copy.deepcopy(net)
    lean.keep_keys_values = False
    assert torch.equal(answer(lean, people), answer(net, people))
    parts = [lean.condition(**inputs(people, batch=1, seed=seed)) for seed in (0, 7)]
    whole = [net.condition(**inputs(people, batch=1, seed=seed)) for seed in (0, 7)]
    joined = lean(latent(), TIMES, concatenate(parts))
    torch.testing.assert_close(joined, net(latent(), TIMES, concatenate(whole)), atol=1e-5, rtol=0)
    with pytest.raises(ValueError, match="kept"):
        concatenate([parts[0], whole[0]])


@pytest.mark.parametrize("kept", [True, False])
def test_the_size_of_a_condition(net: WanTransformer, kept: bool) -> None:
    lean, given = copy.deepcopy(net), inputs(2, batch=1)
    lean.keep_keys_values = kept
    with LiveBytes() as live, torch.no_grad():
        condition = lean.condition(**given)
        held = live.now
    tokens = condition.grid[0] * condition.grid[1] * condition.grid[2]
    planned = condition_bytes(CONFIG, tokens, condition.grid[0], 4, people=2, kept=kept)
    small = [condition.classes, *(condition.context.voices if condition.context else ())]
    assert planned == pytest.approx(held - sum(tensor.nbytes for tensor in small), rel=0.01)


@pytest.mark.parametrize("people", [1, 2])
@pytest.mark.parametrize("kept", [True, False])
@pytest.mark.parametrize(("text", "audio"), [(1, 1), (3, 1), (1, 2), (3, 2)])
def test_branches_keep_once_what_they_share(
    net: WanTransformer, people: int, kept: bool, text: float, audio: float
) -> None:
    lean, guide = copy.deepcopy(net), some_guide(people)
    lean.keep_keys_values = kept
    denoiser, asked = Plain(lean), branches(text, audio)
    with LiveBytes() as live, torch.no_grad():
        conditions = [denoiser.condition(guide, branch) for branch in asked]
        held = live.now
    first = conditions[0]
    grid = first.grid
    planned = conditions_bytes(
        *(CONFIG, grid[0] * grid[1] * grid[2], grid[0], 4),
        branches=len(asked),
        silent=sum(not branch.has_speech for branch in asked),
        people=people,
        kept=kept,
    )
    small = [] if people == 1 else [first.classes, *voice_rotation(people, CONFIG, torch.device("cpu"))]
    assert planned == pytest.approx(held - sum(tensor.nbytes for tensor in small), rel=0.01)


def some_guide(people: int) -> Guide:
    given = {name: value[0] for name, value in inputs(people, batch=1).items()}
    return Guide(**given, negative=given["text"].flip(0), motion=torch.empty(0))


WIDE = replace(CONFIG, dim=128, num_heads=4)


def measured(dtype: torch.dtype, ffn: int, people: int, rows_at_once: int | None) -> tuple[int, int]:
    """Peak of a block as a GPU would run it, and its formula."""
    config, grid = replace(WIDE, ffn_dim=ffn), (6, 8, 8)
    block = Block(config, lambda q, k, v: torch.empty_like(q), eager.EAGER).to(dtype)
    block.rows_at_once = rows_at_once
    draw = torch.Generator().manual_seed(0)
    tokens = grid[0] * grid[1] * grid[2]
    context = Context(
        *(torch.randn(1, n, config.dim, generator=draw).to(dtype) for n in (4, 4)),
        torch.randn(1, grid[0], people, config.output_dim, generator=draw).to(dtype),
        None,
    )
    classes = torch.rand(1, 64, people + 1) if people > 1 else None
    rotation = grid_rotation(grid, config.head_dim, torch.device("cpu"))
    condition = Condition((), context, torch.empty(1), rotation, classes, grid, people)
    x, e0 = torch.randn(1, tokens, config.dim).to(dtype), torch.randn(1, 6, config.dim)
    with torch.no_grad():
        own = block.keys_values(context)
    planned = block_workspace(config, tokens, dtype.itemsize, rows_at_once, people=people)
    return peak_bytes(lambda: block(x, e0, condition, own)), planned


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize("rows_at_once", [32, 64, 192, None])
@pytest.mark.parametrize(("ffn", "people"), [(384, 1), (1024, 1), (384, 2)])
def test_the_formula_of_a_block_is_what_it_takes(
    monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype, ffn: int, people: int, rows_at_once: int | None
) -> None:
    for room in (eager, speech):  # GPUs turn with real numbers
        monkeypatch.setattr(room, "rotate", rotate_real)
    peak, planned = measured(dtype, ffn, people, rows_at_once)
    assert 0.92 * peak < planned < 1.15 * peak


def test_a_window_at_480p_in_pieces_needs_less_than_half() -> None:
    """The figures of the docstring."""
    full = DiTConfig()
    gib = [block_workspace(full, 32760, 2, rows) / 2**30 for rows in (None, 4096)]
    assert [round(value, 1) for value in gib] == [3.1, 1.2]
    kept, made = (condition_bytes(full, 32760, 21, 2, kept=kept) / 2**30 for kept in (True, False))
    assert (round(kept, 2), round(made, 2)) == (1.43, 0.02)
    three = conditions_bytes(full, 32760, 21, 2, branches=3, silent=1) / 2**30
    assert round(three, 2) == 2.33  # where three times as much was kept before they shared it: 4.29
