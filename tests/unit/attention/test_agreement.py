"""Every kernel of the registry against the definition, on every attention of the model."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

import pytest
import torch

from infinite_talk.ops.attention import KERNELS, eager
from infinite_talk.ops.attention.machine import here
from infinite_talk.ops.attention.registry import Unusable, ready
from tests.attention import Case, errors, model_cases

CPU = torch.device("cpu")
BOUNDS = {torch.float32: 2e-6, torch.bfloat16: 6e-3, torch.float16: 2e-3}
"""Relative error of an exact kernel: what the rounding of the answer and of the weights makes."""
ODD = [
    Case("one token", 1, 1, 1, 1, 8),
    Case("one key", 1, 2, 5, 1, 16),
    Case("odd lengths", 3, 5, 131, 67, 24),
    Case("a head of 128", 1, 2, 65, 129, 128),
]
CASES = [*model_cases(tokens_per_frame=48, frames=3, heads=3, head_dim=16), *ODD]


@pytest.mark.parametrize("name", KERNELS)
def test_a_kernel_agrees_with_the_definition(
    name: str, record_property: Callable[[str, object], None]
) -> None:
    kernel, beyond = KERNELS[name], []
    for case, dtype in product(CASES, BOUNDS):
        found = ready(kernel, here(CPU), dtype, case.head_dim)
        if isinstance(found, Unusable):
            pytest.skip(f"{name} {found.why}")
        apart = errors(found.attend, *case.tensors(dtype, CPU))
        record_property(f"{case}, {dtype}", str(apart))
        if not apart.relative < (BOUNDS[dtype] if kernel.exact else kernel.bound):
            beyond.append(f"{case}, {dtype}: {apart}")
    assert not beyond, "\n".join(beyond)


def test_the_definition_is_the_formula() -> None:
    """In float64 and word for word: the ground that everything else stands on."""
    q, k, v = Case("", 2, 3, 5, 7, 8).tensors(torch.float32, CPU)
    scores = (q.double()[:, :, :, None] * k.double()[:, :, None]).sum(dim=-1) / 8**0.5  # (B, heads, L, keys)
    weights = scores.exp() / scores.exp().sum(dim=-1, keepdim=True)
    expected = (weights[..., None] * v.double()[:, :, None]).sum(dim=3)
    torch.testing.assert_close(eager(q, k, v).double(), expected, atol=1e-6, rtol=1e-5)


def test_the_measure_sees_a_wrong_scale() -> None:
    """The test of the test: attention with another temperature is out of every bound."""
    apart = errors(lambda q, k, v: eager(q * 0.9, k, v), *CASES[0].tensors(torch.float32, CPU))
    assert apart.relative > max(kernel.bound for kernel in KERNELS.values() if kernel.exact)
