"""What stands before and after the blocks: picture features, the time, and the way back to a velocity."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from infinite_talk.models.dit.config import DiTConfig
from infinite_talk.ops.norms import LayerNorm, layer_norm
from infinite_talk.ops.rope import BASE


class ImageEmbedding(nn.Module):
    """CLIP features of the reference picture ``(B, L, clip_dim)`` -> context ``(B, L, D)``."""

    def __init__(self, config: DiTConfig) -> None:
        super().__init__()
        self.proj = nn.Sequential(
            LayerNorm(config.clip_dim, eps=1e-5),
            nn.Linear(config.clip_dim, config.clip_dim),
            nn.GELU(),
            nn.Linear(config.clip_dim, config.dim),
            LayerNorm(config.dim, eps=1e-5),
        )

    def forward(self, image: Tensor) -> Tensor:
        out: Tensor = self.proj(image)
        return out


class Head(nn.Module):
    """Tokens -> patches of velocity, float32."""

    def __init__(self, config: DiTConfig) -> None:
        super().__init__()
        self.eps = config.eps
        self.head = nn.Linear(config.dim, math.prod(config.patch_size) * config.out_dim)
        self.modulation = modulation_table(2, config.dim)

    def forward(self, x: Tensor, e: Tensor) -> Tensor:
        """``x`` (B, N, D), time embedding ``e`` (B, D) float32 -> (B, N, patch * out_dim)."""
        shift, scale = (self.modulation.float() + e[:, None]).unsqueeze(2).unbind(1)
        with torch.autocast(x.device.type, enabled=False):
            return linear_float32(self.head, layer_norm(x.float(), self.eps) * (1 + scale) + shift)


def modulation_table(rows: int, dim: int) -> nn.Parameter:
    """Untrained modulation ``(1, rows, D)``. On the meta device, which has no numbers, none are drawn: torch would load
    its compiler for that."""
    values = torch.empty(1, rows, dim)
    return nn.Parameter(values if values.is_meta else values.normal_() / dim**0.5)


def sinusoid(timestep: Tensor, width: int) -> Tensor:
    """Cosines, then sines of ``timestep`` (B,) at ``width / 2`` frequencies; float64 inside, float32 out."""
    half = width // 2
    exponents = torch.arange(half, dtype=torch.float64, device=timestep.device) / half
    angles = timestep.double()[:, None] * BASE**-exponents
    return torch.cat((angles.cos(), angles.sin()), dim=-1).float()


def linear_float32(layer: nn.Module, x: Tensor) -> Tensor:
    """Apply a linear layer in float32 whatever its dtype. One that a file has packed unpacks to that of ``x``."""
    if isinstance(layer, nn.Linear):
        return F.linear(x.float(), layer.weight.float(), layer.bias.float())
    out: Tensor = layer(x.float())
    return out
