"""Expressions are what Python says, and nothing of Python but numbers."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from infinite_talk import UsageError
from infinite_talk.nodes.helpers.arithmetic import (
    IntBinaryOperation,
    MathExpression,
    SimpleCalculatorKJ,
    SimpleMath,
    evaluate,
)


@given(st.integers(-50, 50), st.integers(1, 50), st.floats(-5, 5))
def test_sums_are_pythons(a, b, c):
    expression = (
        "round(a * 25 / b) + max(a, b) - abs(c) + (a // b) % 7 + (1 if a > b else -c) + min(b ** 2, 9)"
    )
    assert evaluate(expression, {"a": a, "b": b, "c": c}) == pytest.approx(eval(expression))


@pytest.mark.parametrize(
    "expression",
    ["", "a", "1/0", "__import__('os')", "(1).real", "[1]", "'a' * 9", "lambda: 1", "9 ** 9 ** 9", "2 ** 5000",
     "max(x for x in (1,))", "sqrt(-1)", "round(1, ndigits=2)",
     "1e999", "(" * 500 + "1" + ")" * 500, "1+" * 3000 + "1"],
)  # fmt: skip
def test_anything_else_is_refused(expression):
    with pytest.raises(UsageError):
        evaluate(expression, {})


def test_nodes_give_whole_and_real_numbers():
    assert SimpleMath().execute("a * b + 0.6", a=2, b=3) == (7, 6.6)
    assert MathExpression().evaluate("a.width / b", a=torch.zeros(1, 4, 7, 3), b=2) == (3, 3.5)
    assert SimpleCalculatorKJ().calculate("a - b", a=1, b=0.5) == (0.5, 0)
    assert IntBinaryOperation().op("Div", 7, 2) == (3,)
