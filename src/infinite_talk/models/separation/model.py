"""Mel-Band RoFormer (Wang, Lu, Won, 2023): a mask over the complex spectrum, from attention along time and bands.

Names of modules are those of the published file, so that its keys are ours. The rotary frequencies in it are the
formula's, rounded, and are computed here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from infinite_talk.models.separation.bands import mel_bands
from infinite_talk.models.separation.config import SeparatorConfig
from infinite_talk.ops.rope import Rotation, line_rotation, rotate

CHANNELS = 2
_COMPLEX = 2
"""Real and imaginary part."""
_WIDER = 4
"""Inner width of the networks of two layers / the stream's."""


class Norm(nn.Module):
    """``x / |x| * sqrt(d) * gamma`` over the last axis."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(dim))

    def forward(self, x: Tensor) -> Tensor:
        """Of the same shape."""
        out: Tensor = F.normalize(x, dim=-1) * (self.gamma * x.shape[-1] ** 0.5)
        return out


class Attention(nn.Module):
    """Self-attention with rotary positions, each head weighed by a gate of its own."""

    def __init__(self, config: SeparatorConfig) -> None:
        super().__init__()
        inner = config.heads * config.dim_head
        self.heads, self.dim_head = config.heads, config.dim_head
        self.norm = Norm(config.dim)
        self.to_qkv = nn.Linear(config.dim, 3 * inner, bias=False)
        self.to_gates = nn.Linear(config.dim, config.heads)
        self.to_out = nn.Sequential(nn.Linear(inner, config.dim, bias=False))

    def forward(self, x: Tensor, turn: Rotation) -> Tensor:
        """``(B, L, D)``."""
        x = self.norm(x)
        q, k, v = torch.unflatten(self.to_qkv(x), -1, (3, self.heads, self.dim_head)).unbind(
            2
        )  # (B, L, heads, d)
        q, k, v = (one.transpose(1, 2) for one in (rotate(q, turn), rotate(k, turn), v))
        heard = F.scaled_dot_product_attention(q, k, v).transpose(1, 2)
        out: Tensor = self.to_out((heard * self.to_gates(x).sigmoid()[..., None]).flatten(2))
        return out


class FeedForward(nn.Module):
    """Two layers, four times as wide inside."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        # Places 3 and 5 of the published list are dropouts, without weights.
        self.net = nn.Sequential(
            Norm(dim), nn.Linear(dim, _WIDER * dim), nn.GELU(), nn.Identity(), nn.Linear(_WIDER * dim, dim)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Of the same shape."""
        out: Tensor = self.net(x)
        return out


class Layer(nn.Module):
    """Attention and feed-forward along one axis, ``(B, L, D)``."""

    def __init__(self, config: SeparatorConfig) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.ModuleList([Attention(config), FeedForward(config.dim)])])
        self.norm = Norm(config.dim)

    def forward(self, x: Tensor, turn: Rotation) -> Tensor:
        """Of the same shape."""
        attention, feed_forward = cast("nn.ModuleList", self.layers[0])
        x = attention(x, turn) + x
        out: Tensor = self.norm(feed_forward(x) + x)
        return out


class BandSplit(nn.Module):
    """The numbers of each band become one token."""

    def __init__(self, dim: int, widths: Sequence[int]) -> None:
        super().__init__()
        self.widths = list(widths)
        self.to_features = nn.ModuleList(nn.Sequential(Norm(one), nn.Linear(one, dim)) for one in widths)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, T, sum of widths)`` -> ``(B, T, bands, D)``."""
        parts = torch.split(x, self.widths, dim=-1)
        return torch.stack([layer(part) for layer, part in zip(self.to_features, parts, strict=True)], dim=-2)


class MaskEstimator(nn.Module):
    """Each token becomes the mask of its band."""

    def __init__(self, dim: int, widths: Sequence[int]) -> None:
        super().__init__()
        hidden = _WIDER * dim
        self.to_freqs = nn.ModuleList(
            nn.Sequential(
                nn.Sequential(
                    nn.Linear(dim, hidden),
                    nn.Tanh(),
                    nn.Linear(hidden, hidden),
                    nn.Tanh(),
                    nn.Linear(hidden, 2 * one),
                ),
                nn.GLU(dim=-1),
            )
            for one in widths
        )

    def forward(self, x: Tensor) -> Tensor:
        """``(B, T, bands, D)`` -> ``(B, T, sum of widths)``."""
        parts = x.unbind(-2)
        return torch.cat([layer(part) for layer, part in zip(self.to_freqs, parts, strict=True)], dim=-1)


class MelBandRoFormer(nn.Module):
    """Stereo sound in, its voice out."""

    places: Tensor
    covering: Tensor
    window: Tensor

    def __init__(self, config: SeparatorConfig) -> None:
        super().__init__()
        self.config = config
        bands = mel_bands(config.bands, config.bins, config.rate)
        # Rows of a spectrum are bins, and in them the channels: bin 0 left, bin 0 right, bin 1 left, ...
        rows = [torch.from_numpy(band[:, None] * CHANNELS + np.arange(CHANNELS)) for band in bands]
        widths = [one.numel() * _COMPLEX for one in rows]
        self.layers = nn.ModuleList(
            nn.ModuleList([Layer(config), Layer(config)]) for _ in range(config.depth)
        )
        self.band_split = BandSplit(config.dim, widths)
        self.mask_estimators = nn.ModuleList([MaskEstimator(config.dim, widths)])
        places = torch.cat([one.flatten() for one in rows])
        self.register_buffer("places", places, persistent=False)
        count = torch.bincount(places, minlength=config.bins * CHANNELS)
        self.register_buffer("covering", count, persistent=False)
        self.register_buffer("window", torch.hann_window(config.n_fft), persistent=False)

    def forward(self, sound: Tensor) -> Tensor:
        """``(B, 2, S)`` at ``config.rate`` -> the voice, of the same shape; ``S`` is a multiple of ``config.hop``."""
        spectrum = self._spectrum(sound)  # (B, bins * 2, T) complex
        x = torch.view_as_real(spectrum[:, self.places])  # (B, places, T, 2)
        x = self.band_split(x.permute(0, 2, 1, 3).flatten(2))  # (B, T, bands, D)
        for axes in self.layers:
            time, band = cast("nn.ModuleList", axes)
            x = _along(time, x.transpose(1, 2), self.config.dim_head).transpose(1, 2)
            x = _along(band, x, self.config.dim_head)
        mask = torch.unflatten(self.mask_estimators[0](x), -1, (-1, _COMPLEX))  # (B, T, places, 2)
        mask = torch.view_as_complex(mask.transpose(1, 2).contiguous())
        # Where bands overlap, the mean of their masks.
        total = torch.zeros_like(spectrum).index_add_(1, self.places, mask)
        return self._sound(spectrum * (total / self.covering[:, None]), sound.shape[-1])

    def _spectrum(self, sound: Tensor) -> Tensor:
        c = self.config
        found = torch.stft(sound.flatten(0, 1), c.n_fft, c.hop, window=self.window, return_complex=True)
        return torch.unflatten(found, 0, (-1, CHANNELS)).transpose(1, 2).flatten(1, 2)

    def _sound(self, spectrum: Tensor, length: int) -> Tensor:
        c = self.config
        by_channel = torch.unflatten(spectrum, 1, (-1, CHANNELS)).transpose(1, 2).flatten(0, 1)
        sound = torch.istft(by_channel, c.n_fft, c.hop, window=self.window, length=length)
        return torch.unflatten(sound, 0, (-1, CHANNELS))


def _along(layer: nn.Module, x: Tensor, width: int) -> Tensor:
    """One layer along the axis before the last, ``(B, N, L, D)``."""
    turn = line_rotation(torch.arange(x.shape[2], device=x.device), width)
    return torch.unflatten(layer(x.flatten(0, 1), turn), 0, x.shape[:2])
