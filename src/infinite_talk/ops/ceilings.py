"""The bare kernels that nothing built on them can outrun: for measurements of what a machine can do."""

from __future__ import annotations

from collections.abc import Callable

import torch

from infinite_talk.ops.linear.fast8 import has_float8

Call = Callable[[], object]


def product(rows: int, inputs: int, outputs: int, dtype: torch.dtype, device: torch.device) -> Call:
    """``(rows, inputs) x (inputs, outputs)`` in ``dtype``. Operands are random: a card's power depends on them."""
    x = torch.randn(rows, inputs, device=device, dtype=dtype)
    weight = torch.randn(outputs, inputs, device=device, dtype=dtype).t()
    out = torch.empty(rows, outputs, device=device, dtype=dtype)
    return lambda: torch.mm(x, weight, out=out)


def float8_product(rows: int, inputs: int, outputs: int, device: torch.device) -> Call | None:
    """The same of e4m3 operands with a scale for each row, bfloat16 out; ``None`` where a device has none."""
    if not has_float8(device):
        return None
    x = torch.randn(rows, inputs, device=device).to(torch.float8_e4m3fn)
    weight = torch.randn(outputs, inputs, device=device).to(torch.float8_e4m3fn).t()
    left, right = torch.ones(rows, 1, device=device), torch.ones(1, outputs, device=device)
    return lambda: torch._scaled_mm(
        x, weight, scale_a=left, scale_b=right, out_dtype=torch.bfloat16, use_fast_accum=True
    )


def copy(size: int, device: torch.device) -> Call:
    """``size`` bytes from one place of the device's memory to another."""
    source = torch.ones(size, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return lambda: target.copy_(source)
