"""Attention kernels, rotary embedding and norms against their slow twins."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from infinite_talk.errors import CapabilityError
from infinite_talk.ops.attention import attention_named, eager, sdpa
from infinite_talk.ops.norms import LayerNorm, RMSNorm
from infinite_talk.ops.rope import (
    frequencies,
    grid_rotation,
    line_rotation,
    rotate,
    rotate_complex,
    rotate_real,
)
from tests.unit.tiny_dit import noise


@pytest.mark.parametrize("name", ["sdpa", "eager"])
@pytest.mark.parametrize(("queries", "keys"), [(7, 7), (5, 11), (1, 1)])
def test_kernels_agree_with_the_definition(name: str, queries: int, keys: int) -> None:
    q, k, v = noise(2, 3, queries, 8, seed=0), noise(2, 3, keys, 8, seed=1), noise(2, 3, keys, 8, seed=2)
    for b in range(2):
        for h in range(3):
            for i in range(queries):
                weights = torch.exp(k[b, h] @ q[b, h, i] / 8**0.5)
                expected = (weights[:, None] * v[b, h]).sum(0) / weights.sum()
                torch.testing.assert_close(
                    attention_named(name)(q, k, v)[b, h, i], expected, atol=1e-5, rtol=1e-5
                )


def test_eager_keeps_the_dtype() -> None:
    x = noise(1, 1, 4, 8, seed=0).bfloat16()
    assert eager(x, x, x).dtype == torch.bfloat16


def test_kernels_by_name() -> None:
    assert attention_named("auto") is sdpa
    assert attention_named("eager") is eager
    with pytest.raises(CapabilityError, match="eager"):
        attention_named("telepathy")
    with pytest.raises(CapabilityError, match="Hopper"):
        attention_named("flash_attn_3")


def as_complex(x: torch.Tensor) -> torch.Tensor:
    return torch.view_as_complex(x.double().unflatten(-1, (-1, 2)).contiguous())


@pytest.mark.parametrize("width", [12, 16, 32, 44, 128])
def test_grid_rotation_is_multiplication_by_complex_numbers(width: int) -> None:
    grid = (2, 3, 4)
    x = noise(1, 24, 2, width, seed=0)
    turned = as_complex(x)
    across = 2 * (width // 6)
    expected = []
    for n in range(24):
        t, h, w = n // 12, n // 4 % 3, n % 4
        angles = [
            p * 10000 ** (-2 * j / share)
            for p, share in ((t, width - 2 * across), (h, across), (w, across))
            for j in range(share // 2)
        ]
        expected.append(
            turned[:, n] * torch.polar(torch.ones(width // 2).double(), torch.tensor(angles).double())
        )
    expected_real = torch.view_as_real(torch.stack(expected, dim=1)).flatten(-2).float()
    torch.testing.assert_close(rotate(x, grid_rotation(grid, width)), expected_real, atol=1e-5, rtol=0)


@settings(deadline=None, max_examples=40)
@given(start=st.floats(-50, 50), distance=st.floats(-20, 20), seed=st.integers(0, 99))
def test_rotated_products_depend_on_distance_alone(start: float, distance: float, seed: int) -> None:
    q, k = noise(1, 1, 1, 16, seed=seed), noise(1, 1, 1, 16, seed=seed + 1000)

    def product(at: float) -> torch.Tensor:
        there, here = line_rotation(torch.tensor([at + distance]), 16), line_rotation(torch.tensor([at]), 16)
        return (rotate(q, here) * rotate(k, there)).sum()

    torch.testing.assert_close(product(start), product(0.0), atol=2e-3, rtol=1e-3)
    torch.testing.assert_close(rotate(q, line_rotation(torch.tensor([start]), 16)).norm(), q.norm())


def test_line_rotation_of_position_one_turns_by_the_frequencies() -> None:
    rotation = line_rotation(torch.tensor([1.0]), 8)
    torch.testing.assert_close(rotation.cos[0].double(), frequencies(8).cos(), atol=1e-6, rtol=0)
    torch.testing.assert_close(rotation.sin[0].double(), frequencies(8).sin(), atol=1e-6, rtol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("weights", [torch.float32, torch.bfloat16])
def test_norms_compute_in_float32_and_keep_the_dtype(dtype: torch.dtype, weights: torch.dtype) -> None:
    x = (noise(3, 32, seed=0) * 40 + 100).to(dtype)
    layer, rms = LayerNorm(32, eps=1e-6).to(weights), RMSNorm(32, 1e-6).to(weights)
    torch.nn.init.uniform_(layer.weight), torch.nn.init.uniform_(rms.weight)
    wide = x.double()
    mean, var = wide.mean(-1, keepdim=True), wide.var(-1, keepdim=True, unbiased=False)
    expected = {
        layer: (wide - mean) / (var + 1e-6).sqrt() * layer.weight.double(),
        rms: wide / (wide.square().mean(-1, keepdim=True) + 1e-6).sqrt() * rms.weight.double(),
    }
    tolerance = 1e-4 if dtype == weights == torch.float32 else 0.02
    for norm, value in expected.items():
        assert norm(x).dtype == dtype
        torch.testing.assert_close(norm(x).double(), value, atol=tolerance, rtol=tolerance)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_complex_rotation_is_the_real_one(dtype: torch.dtype) -> None:
    x = noise(2, 60, 3, 16, seed=4).to(dtype)
    for rotation in (grid_rotation((3, 4, 5), 16), line_rotation(torch.rand(2, 60) * 30, 16)):
        torch.testing.assert_close(rotate_complex(x, rotation), rotate_real(x, rotation), atol=1e-6, rtol=0)
