"""The causal video autoencoder of Wan2.1, as plain modules under the checkpoint's own names.

Every layer looks only backwards in time, so a video can be processed at once (training, speed) or piece by
piece with a memory of the last frames (bounded memory, first frames early); both give the same numbers.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise, product

import torch
from torch import Tensor, nn
from torch.nn import functional

from infinite_talk.models.vae.config import VAEConfig
from infinite_talk.models.vae.layers import (
    CausalConv3d,
    Chain,
    Downsample,
    FrameAttention,
    Head,
    Memory,
    ResidualBlock,
    Upsample,
)
from infinite_talk.models.vae.tiles import Span, decoder_reach, encoder_reach, spans


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
        self.head = Head(widths[-1], 2 * config.z_dim)

    def forward(self, x: Tensor, memory: Memory | None = None) -> Tensor:
        return self.finish(self.fall(x, memory), memory)

    def fall(self, x: Tensor, memory: Memory | None = None) -> Tensor:
        """Pictures to features at the resolution of the latent."""
        x = self.conv1(x, memory)
        features: Tensor = self.downsamples(x, memory)
        return features

    def finish(self, x: Tensor, memory: Memory | None = None) -> Tensor:
        """Features of whole frames to moments."""
        moments: Tensor = self.head(self.middle(x, memory), memory)
        return moments


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
        self.head = Head(widths[-1], config.picture_channels)

    def forward(self, x: Tensor, memory: Memory | None = None) -> Tensor:
        return self.rise(self.start(x, memory), memory)

    def start(self, x: Tensor, memory: Memory | None = None) -> Tensor:
        """Latents of whole frames to features of the same resolution."""
        features: Tensor = self.middle(self.conv1(x, memory), memory)
        return features

    def rise(self, x: Tensor, memory: Memory | None = None) -> Tensor:
        """Features to pictures."""
        pictures: Tensor = self.head(self.upsamples(x, memory), memory)
        return pictures


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

    def encode_chunks(self, video: Tensor, latents_per_chunk: int = 1) -> Iterator[Tensor]:
        """Yield the latent of ``encode`` piece by piece; single frames are of 1, then ``temporal_stride`` ones."""
        memory = Memory()
        for frames in self._groups(video, latents_per_chunk):
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

    def encode_pieces(self, video: Tensor, tile: int | None = None, latents_at_once: int = 1) -> Tensor:
        """As ``encode``, in the memory of a few frames; with ``tile``, in that of a few frames of a tile.

        Args:
            latents_at_once: latent frames of a piece.
            tile: pixels along a side of a tile, without what it shares with its neighbours.
        """
        if tile is None:
            return torch.cat(list(self.encode_chunks(video, latents_at_once)), dim=2)
        pieces, cell = self._groups(video, latents_at_once), self.config.spatial_stride
        cells = [size // cell for size in video.shape[3:]]
        features: Tensor | None = None
        for down, across in self._tiles(cells, tile, encoder_reach(self.config)):
            memory, first = Memory(), 0
            for frames in pieces:
                seen = frames[..., _pixels(down, cell), _pixels(across, cell)]
                found = self.encoder.fall(self._folded(seen), memory)
                if features is None:
                    latents = 1 + (video.shape[2] - 1) // self.config.temporal_stride
                    features = found.new_empty(*found.shape[:2], latents, *cells)
                last = first + found.shape[2]
                place = features[:, :, first:last, down.start : down.stop, across.start : across.stop]
                place.copy_(found[..., down.kept(1), across.kept(1)])
                first = last
        assert features is not None
        memory = Memory()
        finished = [
            self.normalise(self._moments_of(self.encoder.finish(_channels_last(one), memory))[0])
            for one in torch.split(features, latents_at_once, dim=2)
        ]
        return torch.cat(finished, dim=2)

    def decode_pieces(self, latent: Tensor, latents_at_once: int = 1, tile: int | None = None) -> Tensor:
        """As ``decode``, a few latent frames at a time; with ``tile``, also a part of the picture at a time.

        Args:
            latents_at_once: latent frames of a piece.
            tile: pixels along a side of a tile, without what it shares with its neighbours.
        """
        if latents_at_once >= latent.shape[2] and tile is None:
            return self.decode(latent)
        stride, cell = self.config.temporal_stride, self.config.spatial_stride
        B, _, T, h, w = latent.shape
        video = latent.new_empty(B, 3, 1 + (T - 1) * stride, h * cell, w * cell, dtype=torch.float32)
        if tile is None:
            _fill(video, self.decode_chunks(latent, latents_at_once))
            return video
        memory = Memory()
        pieces = [
            self.decoder.start(self._denormalised(one), memory)
            for one in torch.split(latent, latents_at_once, dim=2)
        ]
        memory.clear()
        for down, across in self._tiles([h, w], tile, decoder_reach(self.config)):
            part = video[..., _pixels(down, cell, kept=True), _pixels(across, cell, kept=True)]
            _fill(part, self._rising(pieces, down, across))
        return video

    def _rising(self, pieces: list[Tensor], down: Span, across: Span) -> Iterator[Tensor]:
        """The frames of one tile, piece by piece."""
        memory, cell = Memory(), self.config.spatial_stride
        for piece in pieces:
            seen = _channels_last(piece[..., down.first : down.last, across.first : across.last])
            found = _unfold(self.decoder.rise(seen, memory).float(), self.config.patch).clamp(-1, 1)
            yield found[..., down.kept(cell), across.kept(cell)]

    def _tiles(self, cells: Sequence[int], tile: int, reach: int) -> Iterator[tuple[Span, Span]]:
        size = tile // self.config.spatial_stride
        down, across = (spans(along, size, reach) for along in cells)
        return product(down, across)

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

    def _groups(self, video: Tensor, latents: int) -> tuple[Tensor, ...]:
        """Cut the frames into those of ``latents`` latent frames each; the first of all stands for one frame."""
        video, stride = self._whole_groups(video), self.config.temporal_stride
        first = 1 + (latents - 1) * stride
        return video.tensor_split(tuple(range(first, video.shape[2], latents * stride)), dim=2)

    def _moments(self, video: Tensor, memory: Memory | None) -> tuple[Tensor, Tensor]:
        return self._moments_of(self.encoder(self._folded(video), memory))

    def _folded(self, video: Tensor) -> Tensor:
        return _channels_last(_fold(video, self.config.patch).to(self.dtype))

    def _moments_of(self, moments: Tensor) -> tuple[Tensor, Tensor]:
        mu, logvar = self.conv1(moments).float().chunk(2, dim=1)
        return mu, logvar

    def _denormalised(self, latent: Tensor) -> Tensor:
        """A normalised latent as the decoder wants it."""
        z: Tensor = self.conv2(_channels_last(self.denormalise(latent).to(self.dtype)))
        return z

    def _pictures(self, latent: Tensor, memory: Memory | None) -> Tensor:
        folded = self.decoder(self._denormalised(latent), memory).float()
        return _unfold(folded, self.config.patch)


def _channels_last(x: Tensor) -> Tensor:
    return x.contiguous(memory_format=torch.channels_last_3d)


def _pixels(span: Span, cell: int, *, kept: bool = False) -> slice:
    """The pixels of a span in the whole picture: of all that is computed, or of what is kept."""
    first, last = (span.start, span.stop) if kept else (span.first, span.last)
    return slice(first * cell, last * cell)


def _fill(place: Tensor, pieces: Iterable[Tensor]) -> None:
    """Write pieces of frames one after another."""
    start = 0
    for piece in pieces:
        place[:, :, start : start + piece.shape[2]] = piece
        start += piece.shape[2]


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
