"""Sums in workflows: expressions of numbers, evaluated without ever running code from the file."""

from __future__ import annotations

import ast
import math
import operator
from collections.abc import Callable, Mapping
from typing import Any, Final

from infinite_talk.errors import UsageError
from infinite_talk.nodes.declare import Inputs, choice, integer, link, number, words

Number = int | float
MAX_LENGTH: Final = 2000
_MAX_POWER: Final = 1024
_OPERATIONS: Final[Mapping[type[ast.operator], Callable[[Any, Any], Any]]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
}
_COMPARISONS: Final[Mapping[type[ast.cmpop], Callable[[Any, Any], bool]]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}
_FUNCTIONS: Final[Mapping[str, Callable[..., Any]]] = {
    "min": min,
    "max": max,
    "round": round,
    "abs": abs,
    "int": int,
    "float": float,
    "floor": math.floor,
    "ceil": math.ceil,
    "sqrt": math.sqrt,
    "sum": lambda *values: sum(values),
}


def evaluate(expression: str, names: Mapping[str, Number]) -> Number:
    """The value of an expression such as ``round(a * 25) + 1``.

    Args:
        expression: numbers, names, ``+ - * / // % **``, comparisons, ``and``, ``or``, ``not``, ``x if c else y``, and
            the functions min, max, round, abs, int, float, floor, ceil, sqrt, sum.
        names: the values of its names.

    Raises:
        UsageError: anything else, a name without a value, or a division by zero.
    """
    if len(expression) > MAX_LENGTH:
        raise UsageError(f"An expression of {len(expression)} characters; at most {MAX_LENGTH} are read.")
    try:
        value = _value(ast.parse(expression.strip(), mode="eval").body, names)
        if not isinstance(value, (int, float)) or not math.isfinite(value):
            raise ValueError("no finite number")
    except (SyntaxError, ValueError, ArithmeticError, TypeError, RecursionError, MemoryError) as error:
        known = ", ".join(f"{name}={value}" for name, value in names.items())
        raise UsageError(f"The expression {expression!r} ({known}) has no value: {error}.") from error
    return value


def _value(node: ast.expr, names: Mapping[str, Number]) -> Any:  # noqa: ANN401
    match node:
        case ast.Constant(value=bool() | int() | float() as value):
            return value
        case ast.Name(id=name) if name in names:
            return names[name]
        case ast.Name(id=name):
            raise ValueError(f"{name} has no value")
        case ast.BinOp(left=left, op=ast.Pow(), right=right):
            return _power(_value(left, names), _value(right, names))
        case ast.BinOp(left=left, op=sign, right=right) if type(sign) in _OPERATIONS:
            return _OPERATIONS[type(sign)](_value(left, names), _value(right, names))
        case ast.UnaryOp(op=ast.USub(), operand=one):
            return -_value(one, names)
        case ast.UnaryOp(op=ast.UAdd(), operand=one):
            return _value(one, names)
        case ast.UnaryOp(op=ast.Not(), operand=one):
            return not _value(one, names)
        case ast.BoolOp(op=sign, values=values):
            return (all if isinstance(sign, ast.And) else any)(_value(one, names) for one in values)
        case ast.Compare(left=left, ops=[sign], comparators=[right]) if type(sign) in _COMPARISONS:
            return _COMPARISONS[type(sign)](_value(left, names), _value(right, names))
        case ast.IfExp(test=test, body=body, orelse=other):
            return _value(body if _value(test, names) else other, names)
        case ast.Call(func=ast.Name(id=name), args=values, keywords=[]) if name in _FUNCTIONS:
            return _FUNCTIONS[name](*(_value(one, names) for one in values))
    raise ValueError(f"{ast.unparse(node)} is not understood")


def _power(base: Number, exponent: Number) -> Number:
    """Small enough not to fill the memory."""
    if abs(exponent) > _MAX_POWER or abs(base) > 1e12:  # far beyond any size
        raise ValueError("a power too large")
    value: Number = base**exponent
    return value


def _both(value: Number) -> tuple[int, float]:
    return int(value), float(value)


class SimpleMath:
    """``SimpleMath+``: a, b, c in an expression."""

    RETURN_TYPES = ("INT", "FLOAT")
    FUNCTION = "execute"
    CATEGORY = "essentials/utilities"

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:  # noqa: N802 - ComfyUI's name
        """The expression and its numbers."""
        return {
            "required": {"value": words("", multiline=False)},
            "optional": {name: link("*", default=0.0) for name in "abc"},
        }

    def execute(
        self, value: str, a: Number = 0.0, b: Number = 0.0, c: Number = 0.0, d: Number = 0.0
    ) -> tuple[int, float]:
        """Its value, rounded to the nearest whole number and as it is."""
        result = evaluate(value, {"a": a, "b": b, "c": c, "d": d})
        return round(result), float(result)


class MathExpression:
    """``MathExpression|pysssss``: the same with other names."""

    RETURN_TYPES = ("INT", "FLOAT")
    FUNCTION = "evaluate"
    CATEGORY = "utils"

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:  # noqa: N802
        """The expression and its numbers."""
        return {
            "required": {"expression": words("", multiline=True)},
            "optional": {name: link("INT,FLOAT,IMAGE,LATENT") for name in "abc"},
        }

    def evaluate(
        self,
        expression: str,
        a: Any = None,  # noqa: ANN401 - a number, or pictures whose sides the expression asks for
        b: Any = None,  # noqa: ANN401
        c: Any = None,  # noqa: ANN401
    ) -> tuple[int, float]:
        """Its value, cut to a whole number and as it is; ``a.width`` and ``a.height`` are a picture's sides."""
        names: dict[str, Number] = {}
        for name, value in (("a", a), ("b", b), ("c", c)):
            shape = getattr(value, "shape", None)
            if shape is not None and len(shape) > 2:  # pictures [B, H, W, C]
                names |= {f"{name}_width": int(shape[2]), f"{name}_height": int(shape[1])}
            elif value is not None:
                names[name] = value
        for name in "abc":
            for side in ("width", "height"):
                expression = expression.replace(f"{name}.{side}", f"{name}_{side}")
        return _both(evaluate(expression, names))


class ImpactInt:
    """A whole number of the Impact pack."""

    RETURN_TYPES = ("INT",)
    FUNCTION = "doit"
    CATEGORY = "ImpactPack/Logic"

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:  # noqa: N802
        """The number."""
        return {"required": {"value": integer(0, -(2**63), 2**63 - 1)}}

    def doit(self, value: int) -> tuple[int]:
        """The number."""
        return (value,)


class ImpactFloat:
    """A number of the Impact pack."""

    RETURN_TYPES = ("FLOAT",)
    FUNCTION = "doit"
    CATEGORY = "ImpactPack/Logic"

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:  # noqa: N802
        """The number."""
        return {"required": {"value": number(1.0, -3.4e38, 3.4e38)}}

    def doit(self, value: float) -> tuple[float]:
        """The number."""
        return (value,)


class SimpleCalculatorKJ:
    """``SimpleCalculatorKJ``: an expression of a and b."""

    RETURN_TYPES = ("FLOAT", "INT")
    FUNCTION = "calculate"
    CATEGORY = "KJNodes/misc"

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:  # noqa: N802
        """The expression and its numbers."""
        return {
            "required": {"expression": words("a + b", multiline=True)},
            "optional": {name: link("INT,FLOAT", default=0.0) for name in "ab"},
        }

    def calculate(self, expression: str, a: Number = 0.0, b: Number = 0.0) -> tuple[float, int]:
        """Its value as it is and cut to a whole number."""
        result = evaluate(expression, {"a": a, "b": b})
        return float(result), int(result)


class IntToFloat:
    """``CM_IntToFloat`` and its kin: the same number as another type."""

    RETURN_TYPES = ("FLOAT",)
    FUNCTION = "op"
    CATEGORY = "math"

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:  # noqa: N802
        """The number."""
        return {"required": {"a": integer(0)}}

    def op(self, a: int) -> tuple[float]:
        """The number."""
        return (float(a),)


class FloatToInt:
    """``CM_FloatToInt``: cut to a whole number."""

    RETURN_TYPES = ("INT",)
    FUNCTION = "op"
    CATEGORY = "math"

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:  # noqa: N802
        """The number."""
        return {"required": {"a": number(0.0)}}

    def op(self, a: float) -> tuple[int]:
        """The whole part."""
        return (int(a),)


class IntBinaryOperation:
    """``CM_IntBinaryOperation``: two whole numbers."""

    RETURN_TYPES = ("INT",)
    FUNCTION = "op"
    CATEGORY = "math"
    _SIGNS: Final = {"Add": "a + b", "Sub": "a - b", "Mul": "a * b", "Div": "a // b", "Mod": "a % b"}

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:  # noqa: N802
        """What is done, and the numbers."""
        return {"required": {"op": choice(list(cls._SIGNS)), "a": integer(0), "b": integer(0)}}

    def op(self, op: str, a: int, b: int) -> tuple[int]:
        """The result; a division is rounded down."""
        return (int(evaluate(self._SIGNS[op], {"a": a, "b": b})),)
