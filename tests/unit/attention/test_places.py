"""Attention that depends on where tokens are, against its rules written out for each pair of tokens."""

from __future__ import annotations

import math

import pytest
import torch

from infinite_talk.ops.attention.masked import masked
from infinite_talk.ops.attention.radial import RadialAttention, radial_blocks
from infinite_talk.ops.attention.ultravico import UltraViCo


def sees(i: int, u: int, j: int, v: int, pixels: int, block: int, decay: float) -> bool:
    if j == 0:
        return True
    distance = abs(i - j)
    length = 2 ** pixels.bit_length() / 2 ** distance.bit_length()
    if length < block and distance % int(block / length) != 0:
        return False
    width = max(length * decay, block)
    if distance < 2:
        width = pixels if distance == 0 else pixels // 2
    return abs(u - v) <= width


def slow_blocks(grid: tuple[int, int, int], block: int, decay: float) -> torch.Tensor:
    frames, pixels = grid[0], grid[1] * grid[2]
    count = -(-frames * pixels // block)
    mask = torch.eye(count, dtype=torch.bool)
    for i in range(frames):
        for j in range(frames):
            seen = torch.zeros(count * block, count * block)
            for u in range(pixels):
                for v in range(pixels):
                    seen[i * pixels + u, j * pixels + v] = sees(i, u, j, v, pixels, block, decay)
            for a in range(count):
                for b in range(count):
                    by_key = seen[a * block : (a + 1) * block, b * block : (b + 1) * block].sum(0) / block
                    ever = (by_key > 0).sum()
                    if ever and (by_key > 1 / 3).sum() / ever > 0.6:
                        mask[a, b] = True
    return mask


@pytest.mark.parametrize(
    ("grid", "block", "decay"),
    [((5, 4, 4), 4, 0.2), ((4, 3, 5), 4, 1.0), ((9, 2, 4), 8, 0.5), ((2, 3, 3), 16, 0.2)],
)
def test_radial_blocks_are_those_of_the_rules(grid: tuple[int, int, int], block: int, decay: float) -> None:
    mask = radial_blocks(grid, block, decay)
    assert torch.equal(mask, slow_blocks(grid, block, decay))


def test_radial_attention_leaves_out_more_of_far_frames() -> None:
    grid, block = (9, 4, 8), 4
    mask, per_frame = radial_blocks(grid, block, 0.2), 8
    kept = [mask[:per_frame, f * per_frame : (f + 1) * per_frame].float().mean() for f in range(1, 9)]
    assert kept[0] > kept[3] > 0
    assert mask.float().mean() < 0.7
    assert mask[:, :per_frame].all()


@pytest.mark.parametrize("pieces", [(20, 48), (5, 21, 48), (48,)])
def test_radial_attention_is_masked_attention(pieces: tuple[int, ...]) -> None:
    grid, block = (4, 3, 4), 5
    q, k, v = torch.randn(3, 2, 3, 48, 8, generator=torch.Generator().manual_seed(0))
    mask = radial_blocks(grid, block, 0.2).repeat_interleave(block, 0).repeat_interleave(block, 1)[:48, :48]
    assert not mask.all()
    expected, kernel, start = masked(q, k, v, mask), RadialAttention(0.2, block), 0
    for stop in pieces:
        found = kernel(q[:, :, start:stop], k, v, slice(start, stop), grid)
        torch.testing.assert_close(found, expected[:, :, start:stop], atol=1e-6, rtol=0)
        start = stop


def test_ultravico_weakens_what_is_beyond_the_training() -> None:
    grid, trained, alpha, pixels = (6, 2, 2), 3, 0.6, 4
    q, k, v = 3 * torch.randn(3, 1, 2, 24, 8, generator=torch.Generator().manual_seed(0))
    expected = torch.empty_like(q)
    for head in range(2):
        for m in range(24):
            scores = []
            for n in range(24):
                score = float(q[0, head, m] @ k[0, head, n]) / math.sqrt(8)
                if abs(m - n) > pixels * trained / 2 and score > 0:
                    score *= alpha
                scores.append(-math.inf if m < pixels and n >= pixels * trained else score)
            expected[0, head, m] = torch.tensor(scores).softmax(0) @ v[0, head]
    kernel = UltraViCo(alpha, trained)
    for rows in (slice(0, 24), slice(5, 11)):
        found = kernel(q[:, :, rows], k, v, rows, grid)
        torch.testing.assert_close(found, expected[:, :, rows], atol=1e-5, rtol=0)


def test_ultravico_leaves_half_a_trained_window_alone() -> None:
    q, k, v = torch.randn(3, 1, 2, 40, 8, generator=torch.Generator().manual_seed(0))
    expected = torch.nn.functional.scaled_dot_product_attention(q, k, v)
    found = UltraViCo(0.1)(q, k, v, slice(0, 40), (10, 2, 2))
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)
