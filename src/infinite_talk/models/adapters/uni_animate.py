"""UniAnimate: pictures of poses become tokens that are added to the video's.

Layers, strides and names: ``dwpose_embedding`` and ``randomref_embedding_pose`` of UniAnimate-DiT
(github.com/ali-vilab/UniAnimate-DiT, Apache-2.0) for Wan2.1-I2V-14B. The file is a LoRA of the transformer that holds
these two networks as well.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from infinite_talk.models.keymap import Entry, KeyMap
from infinite_talk.models.shapes import Shapes, matrix

PREFIXES = ("", "pipe.dit.", "diffusion_model.")
"""Before the names, as published and as other programs write LoRA files."""
_NETWORKS = ("dwpose_embedding.", "randomref_embedding_pose.")
_LEAD = 3
"""Times the first pose is repeated before the sequence, so that it has a latent frame to itself as in the codec."""
_REACH = 2
"""Latent frames on either side that a latent frame's poses are mixed with; see ``UniAnimate.tokens``."""
_PIECE = 8
"""Latent frames that are embedded at a time: at 480 x 832 each needs about 50 MB in bfloat16 for every layer."""


@dataclass(frozen=True, slots=True)
class UniAnimateConfig:
    """Sizes; the defaults are the published ones."""

    dim: int = 5120  # width of the transformer
    channels: int = 16  # between the convolutions
    reference_dim: int = 20  # mask and latent channels of the transformer's reference picture


class UniAnimate(nn.Module):
    """Poses ``(B, 3, F, H, W)`` in 0..1 to tokens; a pose of the reference picture to channels of its latent."""

    def __init__(self, config: UniAnimateConfig) -> None:
        super().__init__()
        self.config = config
        width = config.channels
        strides = ((1, 1, 1), (1, 1, 1), (1, 1, 1), (1, 2, 2), (2, 2, 2), (2, 2, 2))
        layers: list[nn.Module] = []
        for place, stride in enumerate(strides):
            layers += [nn.Conv3d(width if place else 3, width, 3, stride=stride, padding=1), nn.SiLU()]
        layers.append(nn.Conv3d(width, config.dim, (1, 2, 2), stride=(1, 2, 2)))
        self.dwpose_embedding = nn.Sequential(*layers)
        outputs = (*[width] * 5, config.reference_dim)
        layers = []
        for place, (outs, step) in enumerate(zip(outputs, (1, 1, 1, 2, 2, 2), strict=True)):
            layers += [nn.Conv2d(width if place else 3, outs, 3, stride=step, padding=1), nn.SiLU()]
        self.randomref_embedding_pose = nn.Sequential(*layers[:-1])

    @property
    def dtype(self) -> torch.dtype:
        """Of the weights; poses are brought to it."""
        first = self.dwpose_embedding[0].weight
        assert isinstance(first, Tensor)
        return first.dtype

    def tokens(self, poses: Tensor, first: int, latents: int) -> Tensor:
        """Tokens ``(B, T h w, D)`` of the latent frames ``first`` .. ``first + latents - 1``, T being ``latents``.

        After the last pose it stands still. A latent frame ``j`` sees the poses ``4 j - 7`` .. ``4 j + 7`` of the
        sequence with its repeated first pose (four convolutions of reach 1, then two that halve time), so that two
        latent frames to either side are embedded with it and cut off: the result is that of the whole sequence.

        Args:
            poses: ``(B, 3, F, H, W)`` in 0..1, H and W multiples of 16.
        """
        total = max(-(-(poses.shape[2] + _LEAD) // 4), first + latents)
        parts = []
        for start in range(first, first + latents, _PIECE):
            stop = min(start + _PIECE, first + latents)
            begin, end = max(start - _REACH, 0), min(stop + _REACH, total)
            places = (torch.arange(4 * begin, 4 * end) - _LEAD).clamp(0, poses.shape[2] - 1)
            piece = poses.index_select(2, places.to(poses.device))
            embedded = self.dwpose_embedding(piece.to(self._device, self.dtype))
            parts.append(embedded[:, :, start - begin : stop - begin])
        return torch.cat(parts, dim=2).flatten(2).transpose(1, 2)

    def reference(self, pose: Tensor) -> Tensor:
        """The pose ``(B, 3, H, W)`` of the reference picture as channels ``(B, 20, H / 8, W / 8)`` for its latent."""
        channels: Tensor = self.randomref_embedding_pose(pose.to(self._device, self.dtype))
        return channels

    @staticmethod
    def as_tokens(channels: Tensor, patches: Tensor) -> Tensor:
        """Channels ``(B, C, h, w)`` that are added to the reference picture's, as what they add to each of its tokens.

        Args:
            patches: the transformer's patch embedding ``(D, noisy + C, 1, 2, 2)``. It is linear, so that tokens can be
                added where the published program adds channels before it; then a share of the steps can have them.

        Returns:
            ``(B, h w / 4, D)``, the same in all latent frames.
        """
        weight = patches[:, -channels.shape[1] :, 0]
        embedded = F.conv2d(channels.to(weight.device, weight.dtype), weight, stride=weight.shape[2:])
        return embedded.flatten(2).transpose(1, 2)

    @property
    def _device(self) -> torch.device:
        return next(self.parameters()).device


def weight_count(config: UniAnimateConfig) -> int:
    """Numbers in the weights."""
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in UniAnimate(config).parameters())


def embedding_bytes(
    config: UniAnimateConfig,
    size: tuple[int, int],
    latents: int,
    dtype_bytes: int,
    *,
    reference: bool = False,
) -> int:
    """The most that ``tokens`` holds for a window, and what is made of its result afterwards.

    While a piece of ``f`` pictures is embedded: the pictures, a layer's input and output with c channels at their full
    size, ``f H W (3 + 2 c)`` numbers, and the tokens of the pieces before, which have a margin on either side. Then the
    last pictures, all pieces and the tokens put together; with a ``reference`` three streams of tokens: without it, its
    share at every latent frame, and the sum. At 480 x 832 with 21 latent frames in bfloat16: 1.6 GiB. Not counted: what
    the kernels of a convolution take for themselves.

    Args:
        size: height and width in pixels.
    """
    pixels, places = size[0] * size[1], size[0] * size[1] // 256
    stream = places * latents * config.dim
    pieces = stream + -(-latents // _PIECE) * 2 * _REACH * places * config.dim
    pictures = 4 * (min(latents, _PIECE) + 2 * _REACH) * pixels
    embedding = pictures * (3 + 2 * config.channels) + pieces
    together = 3 * pictures + pieces + stream
    return dtype_bytes * max(embedding, together, 3 * stream if reference else 0)


def recognises(shapes: Shapes) -> bool:
    """Whether a LoRA file holds these networks."""
    return any(_own(name) for name in shapes)


def split(stored: Iterable[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The names of these networks in a file, and the others, which are those of the LoRA."""
    names = tuple(stored)
    own = tuple(name for name in names if _own(name))
    return own, tuple(name for name in names if not _own(name))


def config_of(shapes: Shapes) -> UniAnimateConfig:
    """The sizes.

    Raises:
        CheckpointError: a tensor that tells one is missing or has too few axes.
    """
    bare = {_own(name) or name: shape for name, shape in shapes.items()}
    channels = matrix(bare, "dwpose_embedding.0.weight", 5)[0]
    return UniAnimateConfig(
        dim=matrix(bare, "dwpose_embedding.12.weight", 5)[0],
        channels=channels,
        reference_dim=matrix(bare, "randomref_embedding_pose.10.weight", 4)[0],
    )


def names(config: UniAnimateConfig) -> tuple[str, ...]:
    """All weights as published."""
    with torch.device("meta"):
        return tuple(UniAnimate(config).state_dict())


def dialects(config: UniAnimateConfig) -> tuple[KeyMap, ...]:
    """The published names behind each prefix."""
    ours = names(config)

    def prefixed(prefix: str) -> Mapping[str, Entry]:
        return {name: Entry(prefix + name) for name in ours}

    return tuple(KeyMap("unianimate", prefixed(prefix), part="pose adapter") for prefix in PREFIXES)


def _own(name: str) -> str | None:
    """The bare name of a tensor of these networks."""
    for prefix in PREFIXES:
        if name.startswith(prefix) and name.removeprefix(prefix).startswith(_NETWORKS):
            return name.removeprefix(prefix)
    return None
