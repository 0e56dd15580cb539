"""Layers of the causal video autoencoder, able to run on a whole sequence or on piece after piece.

Activations are ``(B, C, F, H, W)`` in the ``channels_last_3d`` memory format: frame by frame work then sees
``(B * F, C, H, W)`` in ``channels_last`` without a copy, and on a CPU a 3x3x3 convolution is faster.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from infinite_talk.ops import causal_conv, codec
from infinite_talk.ops.causal_conv import sum_of_frames
from infinite_talk.ops.codec import PAST


class Memory(dict[nn.Module, Tensor]):
    """The last frames that each temporal layer has seen; starts empty, one per sequence."""


def to_frames(x: Tensor) -> Tensor:
    """``(B, C, F, H, W)`` to ``(B * F, C, H, W)``."""
    return x.transpose(1, 2).flatten(0, 1)


def from_frames(x: Tensor, batch: int) -> Tensor:
    """``(B * F, C, H, W)`` back to ``(B, C, F, H, W)``."""
    return x.reshape(batch, -1, *x.shape[1:]).transpose(1, 2)


def with_past(layer: nn.Module, x: Tensor, memory: Memory | None) -> Tensor:
    """Put the two frames before ``x`` in front of it: those remembered, or zeros at the beginning."""
    before = None if memory is None else memory.get(layer)
    if before is None:
        before = x.new_zeros(x.shape[0], x.shape[1], PAST, *x.shape[3:])
        before = before.contiguous(memory_format=torch.channels_last_3d)
    x = torch.cat([before, x], dim=2)
    if memory is not None:
        memory[layer] = x[:, :, -PAST:].clone()  # a copy, or the view would keep the whole piece alive
    return x


class CausalConv3d(nn.Conv3d):
    """Convolution that sees the present frame and, with a temporal size of 3, the two frames before it."""

    def __init__(self, inputs: int, outputs: int, size: int | tuple[int, int, int]) -> None:
        time, height, width = (size, size, size) if isinstance(size, int) else size
        super().__init__(inputs, outputs, (time, height, width), padding=(0, height // 2, width // 2))

    def forward(self, x: Tensor, memory: Memory | None = None) -> Tensor:
        on_cpu = causal_conv.suits(x)
        if self.kernel_size[0] == 1:
            if on_cpu and self.kernel_size == (1, 1, 1):
                return causal_conv.along_channels(x, self.weight, self.bias)
            return super().forward(x)
        x = with_past(self, x, memory)
        if on_cpu:  # sample by sample, so that a batch has the numbers of its samples
            videos = [
                causal_conv.filtered_in_time(to_frames(one), self.weight, self.bias)
                for one in torch.split(x, 1)
            ]
            return from_frames(torch.cat(videos) if len(videos) > 1 else videos[0], len(x))
        if by_frames(x):
            return from_frames(sum_of_frames(to_frames(x), self.weight, self.bias), 1)
        return super().forward(x)


def by_frames(x: Tensor) -> bool:
    """Whether flat convolutions are the faster way for ``x`` ``(B, C, F, H, W)``.

    On a CPU torch gives a convolution in three dimensions to oneDNN only when the input is batched or
    B * C * F * H exceeds 20480; its own kernel is up to 6 times slower. Flat convolutions know no such limit.
    """
    return x.device.type == "cpu" and x.shape[0] == 1 and x.shape[:4].numel() <= 20480


class ChannelNorm(nn.Module):
    """Scale the channel vector of each place to length sqrt(C), then each channel by ``gamma``."""

    def __init__(self, channels: int, *, pictures: bool = False) -> None:
        super().__init__()
        self.root = channels**0.5
        self.gamma = nn.Parameter(torch.ones(channels, 1, 1) if pictures else torch.ones(channels, 1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        precision = torch.promote_types(x.dtype, torch.float32)
        length = torch.linalg.vector_norm(x, dim=1, keepdim=True, dtype=precision)
        scale = self.root / length.clamp_min(1e-12)
        normal: Tensor = x * scale.to(x.dtype)
        gamma = self.gamma.to(x.dtype)
        return normal * gamma if torch.is_grad_enabled() else normal.mul_(gamma)


class SiLU(nn.Module):
    """SiLU that overwrites its input, always a fresh output of a norm, when no gradient is wanted."""

    def forward(self, x: Tensor) -> Tensor:
        return functional.silu(x, inplace=not torch.is_grad_enabled())


class Chain(nn.Sequential):
    """Layers one after another; those that look back in time are handed the memory."""

    def forward(self, x: Tensor, memory: Memory | None = None) -> Tensor:
        for layer in self:
            x = layer(x, memory) if isinstance(layer, TEMPORAL) else layer(x)
        return x


def norm_then_conv(
    norm: nn.Module, conv: nn.Module, x: Tensor, memory: Memory | None, shortcut: Tensor | None = None
) -> Tensor:
    """Norm, SiLU and a causal 3x3x3 convolution by the kernels of ``ops/codec``, added to ``shortcut``."""
    assert isinstance(norm, ChannelNorm) and isinstance(conv, CausalConv3d) and conv.bias is not None
    padded = codec.norm_silu_pad(x, norm.gamma, None if memory is None else memory.get(conv))
    del x  # no longer needed, unless by the caller
    if memory is not None:
        memory[conv] = padded[:, :, -PAST:].clone()
    return codec.convolved(padded, conv.weight, conv.bias, shortcut)


class Head(Chain):
    """Norm, SiLU and the last convolution."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(ChannelNorm(inputs), SiLU(), CausalConv3d(inputs, outputs, 3))

    def forward(self, x: Tensor, memory: Memory | None = None) -> Tensor:
        if codec.fused(x):
            return norm_then_conv(self[0], self[2], x, memory)
        return super().forward(x, memory)


class ResidualBlock(nn.Module):
    """Two causal convolutions beside a shortcut."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        # The places 1, 4 and 5 hold no weights; 5 is a dropout of 0 in the Wan checkpoints' numbering.
        self.residual = Chain(
            ChannelNorm(inputs),
            SiLU(),
            CausalConv3d(inputs, outputs, 3),
            ChannelNorm(outputs),
            SiLU(),
            nn.Identity(),
            CausalConv3d(outputs, outputs, 3),
        )
        self.shortcut = CausalConv3d(inputs, outputs, 1) if inputs != outputs else nn.Identity()

    def forward(self, x: Tensor, memory: Memory | None = None) -> Tensor:
        shortcut: Tensor = self.shortcut(x)
        if codec.fused(x):
            norm, _, conv, norm_after, _, _, conv_after = self.residual
            # One within the other, so that the map between them lives no longer than it is needed.
            return norm_then_conv(
                norm_after, conv_after, norm_then_conv(norm, conv, x, memory), memory, shortcut
            )
        residual: Tensor = self.residual(x, memory)
        return shortcut + residual


class FrameAttention(nn.Module):
    """Single-head attention among the places of each frame."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = ChannelNorm(channels, pictures=True)
        self.to_qkv = nn.Conv2d(channels, 3 * channels, 1)
        self.proj = nn.Conv2d(channels, channels, 1)
        nn.init.zeros_(self.proj.weight)  # a fresh network begins as if without attention

    def forward(self, x: Tensor) -> Tensor:
        frames = to_frames(x)
        places = self.to_qkv(self.norm(frames)).flatten(2).transpose(1, 2).unsqueeze(1)  # (B F, 1, H W, 3 C)
        query, key, value = places.chunk(3, dim=-1)
        mixed = functional.scaled_dot_product_attention(query, key, value).squeeze(1).transpose(1, 2)
        return x + from_frames(self.proj(mixed.reshape(frames.shape)), x.shape[0])


def along_time(conv: nn.Conv3d, x: Tensor) -> Tensor:
    """A convolution in time alone."""
    if causal_conv.suits(x):
        return causal_conv.along_time(x, conv.weight, conv.bias, conv.stride[0])
    out: Tensor = conv(x)
    return out


class PadRightBottom(nn.Module):
    """One row of zeros below and one column to the right of ``(N, C, H, W)``."""

    def forward(self, x: Tensor) -> Tensor:
        return functional.pad(x, (0, 1, 0, 1))


class Double(nn.Module):
    """Repeat each pixel of ``(N, C, H, W)`` in both directions."""

    def forward(self, x: Tensor) -> Tensor:
        return functional.interpolate(x, scale_factor=2.0, mode="nearest")


class Downsample(nn.Module):
    """Halve the picture; with ``time`` also halve the frames after the first, which passes alone."""

    def __init__(self, channels: int, *, time: bool) -> None:
        super().__init__()
        self.resample = nn.Sequential(PadRightBottom(), nn.Conv2d(channels, channels, 3, stride=2))
        self.time_conv = nn.Conv3d(channels, channels, (3, 1, 1), stride=(2, 1, 1)) if time else None

    def forward(self, x: Tensor, memory: Memory | None = None) -> Tensor:
        x = from_frames(self.resample(to_frames(x)), x.shape[0])
        if self.time_conv is None:
            return x
        before = None if memory is None else memory.get(self)
        if memory is not None:
            memory[self] = x[:, :, -1:].clone()
        if before is not None:
            return along_time(self.time_conv, torch.cat([before, x], dim=2))
        if x.shape[2] == 1:
            return x
        return torch.cat([x[:, :, :1], along_time(self.time_conv, x)], dim=2)


class Upsample(nn.Module):
    """Double the picture and halve its channels; with ``time`` also double the frames after the first."""

    def __init__(self, channels: int, *, time: bool) -> None:
        super().__init__()
        self.resample = nn.Sequential(Double(), nn.Conv2d(channels, channels // 2, 3, padding=1))
        self.time_conv = nn.Conv3d(channels, 2 * channels, (3, 1, 1)) if time else None

    def forward(self, x: Tensor, memory: Memory | None = None) -> Tensor:
        if self.time_conv is not None:
            x = self._double_time(x, memory)
        frames, batch = to_frames(x), len(x)
        on_cpu, by_kernel = causal_conv.suits(x), codec.fused(x)
        if not (on_cpu or by_kernel):
            return from_frames(self.resample(frames), batch)
        conv = self.resample[1]
        assert isinstance(conv, nn.Conv2d) and conv.bias is not None
        of_doubled = codec.doubled if by_kernel else codec.doubled_by_places
        return from_frames(of_doubled(frames, conv.weight, conv.bias), batch)

    def _double_time(self, x: Tensor, memory: Memory | None) -> Tensor:
        if memory is not None and self in memory:
            return self._doubled(x, memory)
        # The first frame of a video stands for itself alone, and the convolution in time never sees it:
        # to the frames after it, the past is zeros.
        first, rest = x[:, :, :1], x[:, :, 1:]
        doubled = self._doubled(rest, memory)
        return torch.cat([first, doubled], dim=2) if doubled.shape[2] else first

    def _doubled(self, x: Tensor, memory: Memory | None) -> Tensor:
        assert self.time_conv is not None
        seen = with_past(self, x, memory)
        if x.shape[2] == 0:
            return x
        # A pair's channels: all of its earlier frame, then all of its later one.
        pairs = along_time(self.time_conv, seen)  # (B, 2 C, F, H, W)
        pairs = pairs.reshape(len(x), 2, -1, *x.shape[2:]).permute(0, 3, 1, 4, 5, 2)  # (B, F, 2, H, W, C)
        return pairs.flatten(1, 2).permute(0, 4, 1, 2, 3)


TEMPORAL = (CausalConv3d, Chain, ResidualBlock, Downsample, Upsample)
"""Layers whose ``forward`` takes a memory."""
