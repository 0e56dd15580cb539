"""What a run of the nodes needs beside the model: counted by the planner."""

from __future__ import annotations

from dataclasses import replace

import pytest

from infinite_talk.memory import Work, full_sizes
from infinite_talk.memory.costs import denoise_need
from infinite_talk.types import Size

WORK = Work(size=Size(480, 832))
MODEL = full_sizes()
STREAM = 2.0 * 32_760 * 5120
"""Bytes of the tokens of a window, bfloat16."""


def needed(work: Work = WORK, *, joined: bool = False, rows: int | None = None) -> float:
    return denoise_need(replace(MODEL, joined=joined), work, rows, kept=True).bytes


@pytest.mark.parametrize(
    ("found", "more"),
    [
        (needed(joined=True), 2 * STREAM),  # queries and keys stay beside the values until they are rotated
        (needed(joined=True, rows=4096) - needed(rows=4096) + needed(), 2 * 2 * 4096 * 5120),
        (needed(replace(WORK, put=2.0)), 2 * STREAM),
        (needed(replace(WORK, beside=3e9)), 3e9),
    ],
    ids=["fused QKV", "fused QKV in pieces", "what extras hold", "weights of adapters"],
)
def test_what_stands_beside_the_model_is_counted(found: float, more: float) -> None:
    assert found - needed() == pytest.approx(more)


def test_each_view_has_conditions_of_its_own() -> None:
    """1.4 GiB and more for each stretch of a context; the plan then keeps no keys and values."""
    one, two, three = (needed(replace(WORK, views=count)) for count in (1, 2, 3))
    assert three - two == pytest.approx(two - one) and two - one > 1e9
