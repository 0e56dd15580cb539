"""Operations of a transformer block that take a shorter way than the obvious one, in plain torch."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from infinite_talk.models.dit import concatenate
from infinite_talk.models.dit.speech import SpeechAttention
from infinite_talk.ops.attention import eager
from infinite_talk.ops.fused import EAGER
from infinite_talk.ops.linear import Float8Rows
from infinite_talk.ops.rope import Rotation, rotate
from tests.fused import Tokens, apart
from tests.unit.tiny_dit import CONFIG, TIMES, inputs, latent, model

CPU = torch.device("cpu")


def direct(
    x: Tensor, k: Tensor, v: Tensor, ask: nn.Linear, answer: nn.Linear, turn: Rotation | None
) -> Tensor:
    """The speech attention of every token, as it is written down."""
    q = torch.unflatten(ask(x), -1, (k.shape[1], -1))
    q = q if turn is None else rotate(q, turn)
    found: Tensor = answer(eager(q.transpose(1, 2), k, v).transpose(1, 2).flatten(2))
    return found


@settings(max_examples=30, deadline=None)
@given(
    groups=st.integers(1, 4), rows=st.integers(1, 9), heads=st.integers(1, 4), keys=st.integers(1, 9),
    turned=st.booleans(), bias=st.booleans(), seed=st.integers(0, 99),
)  # fmt: skip
@torch.no_grad()
def test_carrying_the_keys_to_the_tokens_changes_nothing(
    groups: int, rows: int, heads: int, keys: int, turned: bool, bias: bool, seed: int
) -> None:
    width = 8 * heads
    drawn = Tokens(groups, rows, width, heads, torch.float32, CPU, seed)
    k, v = (drawn.draw(groups, keys, heads, 8, seed=i).transpose(1, 2) for i in (1, 2))
    ask, answer = (drawn.linear(width, i, bias=bias) for i in (3, 5))
    turn = drawn.rotation(groups) if turned else None
    x = drawn.draw(groups, rows, width, seed=7)
    found = EAGER.grouped_attention(x, k, v, ask, answer, turn)
    assert apart(found, direct(x, k, v, ask, answer, turn)) < 1e-5


@pytest.mark.parametrize("people", [1, 2])
@torch.no_grad()
def test_the_short_way_is_taken_where_it_is_less_work(people: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pass gives the same numbers with every speech attention the long way."""
    given_ = inputs(people=people)
    made = model()
    condition = made.condition(**given_)
    short = made(latent(), TIMES, condition)
    monkeypatch.setattr(SpeechAttention, "_few", lambda *_: False)
    assert apart(made(latent(), TIMES, condition), short) < 1e-5
    assert not torch.equal(made(latent(), TIMES, condition), short), "it was not taken"


def test_tokens_outnumber_keys_at_full_size() -> None:
    layer = SpeechAttention(CONFIG, eager, EAGER)
    keys = torch.empty(1, 40, 32, 128, device="meta")
    assert layer._few(1560, keys) and not layer._few(40, keys)
    assert not layer._few(1560, torch.empty(1, 40, 128, 128, device="meta"))


@pytest.mark.parametrize("people", [1, 2])
@torch.no_grad()
def test_branches_share_what_is_the_same(people: int) -> None:
    """With and without speech, one prompt and another: the answers are those of separate passes, bit by bit."""
    made, given_ = model(), inputs(people=people)
    silent = given_ | {"speech": None, "token_masks": None}
    other = given_ | {"text": [torch.randn_like(text) for text in given_["text"]]}
    conditions = [made.condition(**case) for case in (given_, other, silent)]
    found = made.forward_branches(latent(), TIMES, conditions)
    for answer, condition in zip(found, conditions, strict=True):
        assert torch.equal(answer, made(latent(), TIMES, condition))
    assert people > 1 or len(concatenate(conditions).blocks) == CONFIG.num_layers


@torch.no_grad()
def test_narrow_answers_stand_for_the_plain_ones() -> None:
    """Float8Rows of norm, sum and GELU are within the rounding of three bits of mantissa."""
    drawn = Tokens(2, 5, 64, 2, torch.bfloat16, CPU)
    x, other = drawn.tokens(1), drawn.tokens(2)
    scale, shift, layer = drawn.modulation(3), drawn.modulation(4), drawn.linear(48, 5)
    for found, expected in (
        (EAGER.norm(x, scale, shift, 1e-6, narrow=True), EAGER.norm(x, scale, shift, 1e-6)),
        (EAGER.total(x, other, narrow=True), x + other),
        (EAGER.gelu(layer, x, narrow=True), F.gelu(layer(x), approximate="tanh")),
    ):
        assert isinstance(found, Float8Rows) and isinstance(expected, Tensor)
        assert found.shape == expected.shape and apart(found, expected) < 0.04
