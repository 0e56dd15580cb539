"""A tiny decoder of Wan2.1 latents with the layers and names of TAEHV (github.com/madebyollin/taehv, MIT).

Flat convolutions, and blocks that also see the frame before. Nothing looks ahead, so pieces give the frames of
the whole. No encoder: motion frames and pictures go into a generation by the codec itself.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional

from infinite_talk.models.tiny_vae.config import TinyVAEConfig
from infinite_talk.models.vae.config import WAN_MEAN, WAN_STD

GROW = (7, 13, 19)
"""Where in the decoder's numbering time grows."""

Memory = dict[nn.Module, Tensor]
"""The last frame that each block has seen, ``(B, C, H, W)``; starts empty, one per sequence."""


class TinyVAE(nn.Module):
    """Normalised latents to videos; ``T`` latent frames become ``4 (T - 1) + 1`` frames."""

    def __init__(self, config: TinyVAEConfig) -> None:
        super().__init__()
        self.config = config
        first, second, third, last = config.widths
        layers: list[nn.Module] = [_SoftClamp(), _conv(config.z_dim, first), nn.ReLU()]
        for width, following, growth in zip(
            (first, second, third), (second, third, last), config.growth, strict=True
        ):
            layers += [_Block(width), _Block(width), _Block(width)]
            layers += [nn.Upsample(scale_factor=2), _Grow(width, growth), _conv(width, following, bias=False)]
        layers += [nn.ReLU(), _conv(last, 3 * config.patch**2)]
        self.decoder = nn.Sequential(*layers)

    @property
    def dtype(self) -> torch.dtype:
        """Of the weights, and of all that is between latents and videos; those are float32."""
        weight = self.decoder[1].weight
        assert isinstance(weight, Tensor)
        return weight.dtype

    def decode(self, latent: Tensor) -> Tensor:
        """Video ``(B, 3, F, H, W)`` in [-1, 1], float32, of a normalised latent ``(B, z, T, h, w)``."""
        return self._pictures(latent, {})[:, :, self._lead :]

    def decode_chunks(self, latent: Tensor, latents_per_chunk: int = 1) -> Iterator[Tensor]:
        """Yield the frames of ``decode`` piece by piece; from single latent frames 1, 4, 4, ..."""
        memory: Memory = {}
        lead = self._lead
        for piece in torch.split(latent, latents_per_chunk, dim=2):
            yield self._pictures(piece, memory)[:, :, lead:]
            lead = 0

    @property
    def _lead(self) -> int:
        """Frames before the first one: the first latent frame stands for one frame, and grows like the others."""
        return self.config.temporal_stride - 1

    def _pictures(self, latent: Tensor, memory: Memory) -> Tensor:
        """``(B, z, T, h, w)`` to ``(B, 3, 4 T, H, W)``."""
        if self.config.denormalise:
            mean, std = latent.new_tensor([WAN_MEAN, WAN_STD])[:, None, :, None, None, None]
            latent = latent * std + mean
        batch = len(latent)
        x = latent.to(self.dtype).transpose(1, 2).flatten(0, 1)  # (B T, z, h, w)
        x = x.contiguous(memory_format=torch.channels_last)
        for layer in self.decoder:
            x = layer(x, batch, memory) if isinstance(layer, _Block) else layer(x)
        pixels = functional.pixel_shuffle(x, self.config.patch).float().clamp(0, 1)  # (B 4 T, 3, H, W)
        video: Tensor = pixels.reshape(batch, -1, *pixels.shape[1:]).transpose(1, 2)
        return video * 2 - 1


class _SoftClamp(nn.Module):
    """Keeps latents within -3 and 3, gently."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(x / 3) * 3


class _Block(nn.Module):
    """Three convolutions of a frame and the one before it, beside a shortcut."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Sequential(
            _conv(2 * width, width), nn.ReLU(), _conv(width, width), nn.ReLU(), _conv(width, width)
        )

    def forward(self, x: Tensor, batch: int, memory: Memory) -> Tensor:
        """Frames ``(B F, C, H, W)``; before the first one there is what ``memory`` holds, or zeros."""
        frames = x.reshape(batch, -1, *x.shape[1:])  # (B, F, C, H, W)
        before = memory.get(self)
        first = torch.zeros_like(frames[:, :1]) if before is None else before[:, None]
        past = torch.cat([first, frames[:, :-1]], dim=1).flatten(0, 1)
        memory[self] = frames[:, -1].clone()  # a copy, or the view would keep the whole piece alive
        mixed: Tensor = self.conv(torch.cat([x, past], dim=1))
        return functional.relu(mixed + x)


class _Grow(nn.Module):
    """A frame becomes ``growth`` frames by one convolution of single pixels."""

    def __init__(self, width: int, growth: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width * growth, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        grown: Tensor = self.conv(x)  # (N, growth C, H, W)
        return grown.reshape(-1, *x.shape[1:])


def _conv(inputs: int, outputs: int, *, bias: bool = True) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, padding=1, bias=bias)
