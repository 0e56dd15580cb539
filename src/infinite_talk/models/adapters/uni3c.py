"""Uni3C: a small transformer beside the large one, which follows a guide video and adds to the first blocks.

Layers and names: ``WanControlNet`` of Uni3C (github.com/ewrfcas/Uni3C, Apache-2.0) for Wan2.1-I2V-14B, without what
it learned about masks and cameras, which the node pack never uses either.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from infinite_talk.models.keymap import Entry, KeyMap
from infinite_talk.models.shapes import Shapes, count_layers, matrix
from infinite_talk.ops.attention import AttentionCallable, sdpa
from infinite_talk.ops.norms import LayerNorm, RMSNorm
from infinite_talk.ops.rope import Rotation, grid_rotation, rotate

_HEAD_DIM = 64


@dataclass(frozen=True, slots=True)
class Uni3CConfig:
    """Sizes; the defaults are the published ones."""

    in_dim: int = 36  # noisy latent (16), its mask (4), guide (16)
    patch_dim: int = 5120
    dim: int = 1024
    ffn_dim: int = 8192
    time_dim: int = 5120  # of the transformer's time embedding
    out_dim: int = 5120  # width of the transformer
    num_heads: int = 16
    num_layers: int = 20


class _Modulated(nn.Module):
    """A norm with shift, scale and gate from the time embedding (CogVideoX)."""

    def __init__(self, config: Uni3CConfig) -> None:
        super().__init__()
        self.linear = nn.Linear(config.time_dim, 3 * config.dim)
        self.norm = LayerNorm(config.dim, eps=1e-5)

    def forward(self, x: Tensor, e: Tensor) -> tuple[Tensor, Tensor]:
        """``x`` (B, N, D) normed and modulated, and the gate (B, 1, D)."""
        shift, scale, gate = self.linear(F.silu(e))[:, None].chunk(3, dim=-1)
        return self.norm(x) * (1 + scale) + shift, gate


class _Attention(nn.Module):
    def __init__(self, config: Uni3CConfig, attention: AttentionCallable) -> None:
        super().__init__()
        self.heads, self.attention = config.num_heads, attention
        self.norm_q = RMSNorm(config.dim, 1e-6)
        self.norm_k = RMSNorm(config.dim, 1e-6)
        self.to_q = nn.Linear(config.dim, config.dim)
        self.to_k = nn.Linear(config.dim, config.dim)
        self.to_v = nn.Linear(config.dim, config.dim)
        self.to_out = nn.ModuleList([nn.Linear(config.dim, config.dim)])

    def forward(self, x: Tensor, rotation: Rotation) -> Tensor:
        q, k, v = (
            torch.unflatten(part, -1, (self.heads, -1))
            for part in (self.norm_q(self.to_q(x)), self.norm_k(self.to_k(x)), self.to_v(x))
        )
        turned = (rotate(q, rotation).transpose(1, 2), rotate(k, rotation).transpose(1, 2))
        out: Tensor = self.to_out[0](self.attention(*turned, v.transpose(1, 2)).transpose(1, 2).flatten(2))
        return out


class _Block(nn.Module):
    def __init__(self, config: Uni3CConfig, attention: AttentionCallable) -> None:
        super().__init__()
        self.norm1 = _Modulated(config)
        self.self_attn = _Attention(config, attention)
        self.norm2 = _Modulated(config)
        self.ffn = nn.Sequential(
            nn.Linear(config.dim, config.ffn_dim),
            nn.GELU(approximate="tanh"),
            nn.Linear(config.ffn_dim, config.dim),
        )

    def forward(self, x: Tensor, e: Tensor, rotation: Rotation) -> Tensor:
        """``x`` (B, N, D), time embedding ``e`` (B, time_dim)."""
        normed, gate = self.norm1(x, e)
        x = x + gate * self.self_attn(normed, rotation)
        normed, gate = self.norm2(x, e)
        out: Tensor = x + gate * self.ffn(normed)
        return out


class Uni3C(nn.Module):
    """Guide and noisy latent to what the transformer's first blocks are given.

    Args:
        attention: kernel of its self-attention, see ``ops/attention``.
    """

    def __init__(self, config: Uni3CConfig, attention: AttentionCallable = sdpa) -> None:
        super().__init__()
        self.config = config
        self.proj_in = nn.Linear(config.patch_dim, config.dim)
        self.controlnet_blocks = nn.ModuleList(_Block(config, attention) for _ in range(config.num_layers))
        self.proj_out = nn.ModuleList(nn.Linear(config.dim, config.out_dim) for _ in range(config.num_layers))
        self.controlnet_patch_embedding = nn.Conv3d(
            config.in_dim, config.patch_dim, (1, 2, 2), stride=(1, 2, 2)
        )

    @property
    def dtype(self) -> torch.dtype:
        """Of the tokens. Norms are never packed, so theirs tells."""
        first = cast("_Block", self.controlnet_blocks[0])
        return first.norm1.norm.weight.dtype

    def states(self, latent: Tensor, mask: Tensor, guide: Tensor, e: Tensor) -> Iterator[Tensor]:
        """What is added after each of the first blocks, one ``(B, N, out_dim)`` after another.

        They are made when they are asked for: all of them would be 6.7 GB at 32,760 tokens.

        Args:
            latent: noisy, ``(B, 16, T, h, w)``.
            mask: which frames are known, ``(B, 4, T, h, w)``, as the transformer is told.
            guide: the encoded guide video, ``(B, in_dim - 20, T, h, w)``.
            e: the transformer's time embedding, ``(B, time_dim)``.
        """
        frames, height, width = latent.shape[2:]
        x = torch.cat((latent.float(), mask.float(), guide.float()), dim=1)
        patches = self.controlnet_patch_embedding
        x = F.conv3d(x, patches.weight.float(), cast("Tensor", patches.bias).float(), patches.stride)
        x = self.proj_in(x.flatten(2).transpose(1, 2).to(self.dtype))
        grid = (frames, height // 2, width // 2)
        rotation = grid_rotation(grid, self.config.dim // self.config.num_heads, x.device)
        e = e.to(x.dtype)
        for block, out in zip(self.controlnet_blocks, self.proj_out, strict=True):
            x = block(x, e, rotation)
            yield out(x)


def recognises(shapes: Shapes) -> bool:
    """Whether these are the names of this adapter."""
    return "controlnet_patch_embedding.weight" in shapes


def config_of(shapes: Shapes) -> Uni3CConfig:
    """The sizes.

    Raises:
        CheckpointError: a tensor that tells one is missing or has another number of axes.
    """
    patch_dim, in_dim, *_ = matrix(shapes, "controlnet_patch_embedding.weight", 5)
    dim = matrix(shapes, "proj_in.weight")[0]
    return Uni3CConfig(
        in_dim=in_dim,
        patch_dim=patch_dim,
        dim=dim,
        ffn_dim=matrix(shapes, "controlnet_blocks.0.ffn.0.weight")[0],
        time_dim=matrix(shapes, "controlnet_blocks.0.norm1.linear.weight")[1],
        out_dim=matrix(shapes, "proj_out.0.weight")[0],
        num_heads=max(dim // _HEAD_DIM, 1),
        num_layers=count_layers(shapes, "controlnet_blocks."),
    )


MASKS = tuple(
    f"controlnet_mask_embedding.{layer}.{kind}"
    for layer in ("mask_proj.0", "mask_proj.1", "mask_zero_proj")
    for kind in ("weight", "bias")
)
"""Weights for masks and camera rays, which published files hold and nobody feeds."""


def names(config: Uni3CConfig) -> tuple[str, ...]:
    """All weights that are read, as published."""
    with torch.device("meta"):
        return tuple(Uni3C(config).state_dict())


def dialects(config: Uni3CConfig) -> tuple[KeyMap, ...]:
    """The published names are ours; ``MASKS`` are passed over."""
    entries = {name: Entry(name) for name in names(config)}
    return (KeyMap("uni3c", entries, ignored=MASKS, part="guide adapter"),)
