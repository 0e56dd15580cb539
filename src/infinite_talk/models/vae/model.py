"""The causal video autoencoder of Wan2.1, as plain modules under the checkpoint's own names.

Every layer looks only backwards in time, so a video can be processed at once (training, speed) or piece by
piece with a memory of the last frames (bounded memory, first frames early); both give the same numbers.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from infinite_talk.models.vae.config import VAEConfig
from infinite_talk.models.vae.layers import (
    CausalConv3d,
    Chain,
    ChannelNorm,
    Downsample,
    FrameAttention,
    Memory,
    ResidualBlock,
    SiLU,
    Upsample,
)


class Encoder(nn.Module):
    """Folded pictures ``(B, 3 patch^2, F, H, W)`` to moments ``(B, 2 z, T, h, w)``."""

    def __init__(self, config: VAEConfig) -> None:
        super().__init__()
        widths = [config.dim * factor for factor in (1, *config.dim_mult)]
        self.conv1 = CausalConv3d(config.picture_channels, widths[0], 3)
        self.downsamples = Chain()
        for level, (inputs, outputs) in enumerate(pairwise(widths)):
            for block in range(config.num_res_blocks):
                self.downsamples.append(ResidualBlock(inputs if block == 0 else outputs, outputs))
            if level < len(config.temporal_downsample):
                self.downsamples.append(Downsample(outputs, time=config.temporal_downsample[level]))
        self.middle = _middle(widths[-1])
        self.head = Chain(ChannelNorm(widths[-1]), SiLU(), CausalConv3d(widths[-1], 2 * config.z_dim, 3))

    def forward(self, x: Tensor, memory: Memory | None = None) -> Tensor:
        for part in (self.conv1, self.downsamples, self.middle, self.head):
            x = part(x, memory)
        return x


class Decoder(nn.Module):
    """Latents ``(B, z, T, h, w)`` to folded pictures ``(B, 3 patch^2, F, H, W)``."""

    def __init__(self, config: VAEConfig) -> None:
        super().__init__()
        widths = [config.dim * factor for factor in reversed(config.dim_mult)]
        doubles_time = tuple(reversed(config.temporal_downsample))
        self.conv1 = CausalConv3d(config.z_dim, widths[0], 3)
        self.middle = _middle(widths[0])
        self.upsamples = Chain()
        inputs = widths[0]
        for level, outputs in enumerate(widths):
            for _ in range(config.num_res_blocks + 1):
                self.upsamples.append(ResidualBlock(inputs, outputs))
                inputs = outputs
            if level < len(doubles_time):
                self.upsamples.append(Upsample(outputs, time=doubles_time[level]))
                inputs = outputs // 2
        self.head = Chain(
            ChannelNorm(widths[-1]), SiLU(), CausalConv3d(widths[-1], config.picture_channels, 3)
        )

    def forward(self, x: Tensor, memory: Memory | None = None) -> Tensor:
        for part in (self.conv1, self.middle, self.upsamples, self.head):
            x = part(x, memory)
        return x


def _middle(channels: int) -> Chain:
    return Chain(
        ResidualBlock(channels, channels), FrameAttention(channels), ResidualBlock(channels, channels)
    )


class VideoVAE(nn.Module):
    """Videos to normalised latents and back.

    A video of ``F = 1 + n * temporal_stride`` frames has ``T = 1 + n`` latent frames; frames beyond the last
    such number are dropped, as in the Wan2.1 reference. Latents are normalised: ``(mu - mean) / std``.
    """

    def __init__(self, config: VAEConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = Encoder(config)
        self.conv1 = CausalConv3d(2 * config.z_dim, 2 * config.z_dim, 1)
        self.conv2 = CausalConv3d(config.z_dim, config.z_dim, 1)
        self.decoder = Decoder(config)

    @property
    def dtype(self) -> torch.dtype:
        """Of the weights, and of all that is between videos and latents; those stay float32."""
        return self.conv1.weight.dtype

    def encode(self, video: Tensor) -> Tensor:
        """Normalised latent ``(B, z, T, h, w)``, float32, of ``video`` ``(B, 3, F, H, W)`` in [-1, 1]."""
        return self.normalise(self.encode_moments(video)[0])

    def encode_moments(self, video: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and logarithm of the variance of the latent, before normalisation; float32, for training."""
        return self._moments(self._whole_groups(video), None)

    def encode_chunks(self, video: Tensor) -> Iterator[Tensor]:
        """Yield the latent of ``encode`` frame by frame: of 1, then ``temporal_stride`` video frames."""
        memory = Memory()
        video = self._whole_groups(video)
        stride = self.config.temporal_stride
        for frames in video.tensor_split(tuple(range(1, video.shape[2], stride)), dim=2):
            yield self.normalise(self._moments(frames, memory)[0])

    def decode(self, latent: Tensor) -> Tensor:
        """Video ``(B, 3, F, H, W)`` in [-1, 1], float32, of a normalised latent ``(B, z, T, h, w)``."""
        return self.decode_raw(latent).clamp(-1, 1)

    def decode_raw(self, latent: Tensor) -> Tensor:
        """As ``decode``, but values outside [-1, 1] are left as they come: gradients flow there too."""
        return self._pictures(latent, None)

    def decode_chunks(self, latent: Tensor, latents_per_chunk: int = 1) -> Iterator[Tensor]:
        """Yield the frames of ``decode`` piece by piece; from single latent frames 1, 4, 4, ..."""
        memory = Memory()
        for piece in torch.split(latent, latents_per_chunk, dim=2):
            yield self._pictures(piece, memory).clamp(-1, 1)

    def normalise(self, mu: Tensor) -> Tensor:
        """A latent as the encoder gives it, to the scale that diffusion works in."""
        mean, std = self._statistics(mu)
        return (mu - mean) / std

    def denormalise(self, latent: Tensor) -> Tensor:
        """The inverse of ``normalise``."""
        mean, std = self._statistics(latent)
        return latent * std + mean

    def _statistics(self, like: Tensor) -> tuple[Tensor, Tensor]:
        # Taken from the configuration at each use: a buffer would be one more key in the checkpoint.
        mean, std = like.new_tensor([self.config.mean, self.config.std])[:, None, :, None, None, None]
        return mean, std

    def _whole_groups(self, video: Tensor) -> Tensor:
        stride = self.config.temporal_stride
        return video[:, :, : 1 + (video.shape[2] - 1) // stride * stride]

    def _moments(self, video: Tensor, memory: Memory | None) -> tuple[Tensor, Tensor]:
        folded = _fold(video, self.config.patch).to(self.dtype, memory_format=torch.channels_last_3d)
        mu, logvar = self.conv1(self.encoder(folded, memory)).float().chunk(2, dim=1)
        return mu, logvar

    def _pictures(self, latent: Tensor, memory: Memory | None) -> Tensor:
        z = self.denormalise(latent).to(self.dtype, memory_format=torch.channels_last_3d)
        folded = self.decoder(self.conv2(z), memory).float()
        return _unfold(folded, self.config.patch)


def _fold(video: Tensor, patch: int) -> Tensor:
    """``(B, 3, F, H, W)`` to ``(B, 3 patch^2, F, H / patch, W / patch)``."""
    if patch == 1:
        return video
    return functional.pixel_unshuffle(video.transpose(1, 2), patch).transpose(1, 2)


def _unfold(video: Tensor, patch: int) -> Tensor:
    """The inverse of ``_fold``."""
    if patch == 1:
        return video
    return functional.pixel_shuffle(video.transpose(1, 2), patch).transpose(1, 2)
