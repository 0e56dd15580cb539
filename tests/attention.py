"""The attentions of the model as test cases, and how far an answer is from the definition."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from infinite_talk.ops.attention import AttentionCallable, eager


@dataclass(frozen=True)
class Case:
    """One attention: ``queries`` tokens look at ``keys``."""

    name: str
    batch: int
    heads: int
    queries: int
    keys: int
    head_dim: int

    def __str__(self) -> str:
        return self.name

    def tensors(
        self, dtype: torch.dtype, device: torch.device, seed: int = 0
    ) -> tuple[Tensor, Tensor, Tensor]:
        """q, k, v as the model has them: heads split off a row of tokens. Rather peaked, like a trained model's."""
        generator = torch.Generator(device).manual_seed(seed)

        def tokens(length: int, scale: float) -> Tensor:
            shape = (self.batch, length, self.heads, self.head_dim)
            return (torch.randn(shape, generator=generator, device=device) * scale).to(dtype).transpose(1, 2)

        return tokens(self.queries, 1.5), tokens(self.keys, 1.5), tokens(self.keys, 1.0)


def model_cases(tokens_per_frame: int, frames: int, heads: int, head_dim: int) -> list[Case]:
    """What one block does: self, text, image and, frame by frame, the speech of one and of two people."""
    tokens = tokens_per_frame * frames
    return [
        Case("self", 1, heads, tokens, tokens, head_dim),
        Case("self of two samples", 2, heads, tokens, tokens, head_dim),
        Case("text", 1, heads, tokens, 512, head_dim),
        Case("image", 1, heads, tokens, 257, head_dim),
        Case("speech", frames, heads, tokens_per_frame, 32, head_dim),
        Case("speech of two people", frames, heads, tokens_per_frame, 64, head_dim),
        Case("speech of two samples", 2 * frames, heads, tokens_per_frame, 32, head_dim),
    ]


@dataclass(frozen=True)
class Errors:
    """Distance from the definition in float32, on the same rounded inputs."""

    relative: float
    largest: float
    mean: float

    def __str__(self) -> str:
        return f"relative {self.relative:.2e}, largest {self.largest:.2e}, mean {self.mean:.2e}"


def errors(attend: AttentionCallable, q: Tensor, k: Tensor, v: Tensor) -> Errors:
    """Run a kernel and compare, a few heads at a time, because the definition holds all scores."""
    found = attend(q, k, v)
    assert found.dtype == q.dtype and found.shape == (*q.shape[:3], v.shape[3])
    few = max(1, (1 << 31) // (q.shape[0] * q.shape[2] * k.shape[2] * 4))
    parts = [eager(*(x[:, i : i + few].float() for x in (q, k, v))) for i in range(0, q.shape[1], few)]
    expected = torch.cat(parts, dim=1)
    apart = (found.float() - expected).abs()
    return Errors(float(apart.norm() / expected.norm()), float(apart.max()), float(apart.mean()))


def strided(x: Tensor, *, offset: int, gap: int, innermost: int = 1) -> Tensor:
    """The values of ``x`` at odd places of a larger storage.

    Args:
        offset: elements before the first one.
        gap: elements between the rows of the last dimension.
        innermost: stride of the last dimension.
    """
    *outer, width = x.shape
    strides, step = [innermost], width * innermost + gap
    for size in reversed(outer):
        strides.insert(0, step)
        step *= size
    storage = torch.full((offset + step,), float("nan"), dtype=x.dtype, device=x.device)
    return torch.as_strided(storage, x.shape, strides, offset).copy_(x)
