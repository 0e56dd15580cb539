"""What compilers are told about functions, without loading one."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

Function = TypeVar("Function", bound=Callable[..., object])


def constant(function: Function) -> Function:
    """Have a compiler call ``function`` while it compiles, and keep the result.

    The mark of ``torch.compiler.assume_constant_result``, which imports the compiler: a quarter of the time that this
    program takes to start.
    """
    function._dynamo_marked_constant = True  # type: ignore[attr-defined]
    return function
