"""Inputs for the fused operations of the transformer, and how far two answers are apart."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from infinite_talk.ops.linear import Activations, Float8Rows
from infinite_talk.ops.norms import RMSNorm
from infinite_talk.ops.rope import Rotation


@dataclass(frozen=True)
class Tokens:
    """Random tokens ``(batch, count, width)``, and what a block multiplies and adds to them."""

    batch: int
    count: int
    width: int
    heads: int
    dtype: torch.dtype
    device: torch.device
    seed: int = 0

    def draw(self, *shape: int, dtype: torch.dtype | None = None, seed: int = 0) -> Tensor:
        generator = torch.Generator().manual_seed(100 * self.seed + seed)
        return torch.randn(shape, generator=generator).to(self.device, dtype or self.dtype)

    def tokens(self, seed: int) -> Tensor:
        """Rows of a larger tensor, as a piece of the stream is."""
        whole = self.draw(self.batch, self.count + 3, self.width, seed=seed)
        return (3 * whole + 1)[:, 2 : 2 + self.count]

    def modulation(self, seed: int) -> Tensor:
        """One of a block's six: a sample's row lies six rows behind that of the sample before."""
        return self.draw(self.batch, 6, self.width, dtype=torch.float32, seed=seed)[:, 2:3]

    def vector(self, seed: int) -> Tensor:
        return self.draw(self.width, seed=seed)

    def rms(self) -> RMSNorm:
        norm = RMSNorm(self.width, 1e-6).to(self.device, self.dtype)
        norm.weight.data = self.vector(50)
        return norm

    def rotation(self, *batch: int) -> Rotation:
        shape = (*batch, self.count, self.width // self.heads // 2)
        angles = 10 * self.draw(*shape, dtype=torch.float32, seed=60)
        return Rotation(angles.cos(), angles.sin())

    def linear(self, out: int, seed: int, *, bias: bool = True) -> nn.Linear:
        layer = nn.Linear(self.width, out, bias=bias, device=self.device, dtype=self.dtype)
        layer.weight.data = self.draw(out, self.width, seed=seed) / self.width**0.5
        if bias:
            layer.bias.data = self.draw(out, seed=seed + 1)
        return layer


def plain(x: Activations) -> Tensor:
    return (x.plain() if isinstance(x, Float8Rows) else x).detach()


def apart(found: Activations, expected: Tensor) -> float:
    """Relative error; NaN where the two disagree on what is a number."""
    difference = plain(found).double() - expected.double()
    return float(difference.norm() / expected.double().norm())
