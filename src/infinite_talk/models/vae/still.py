"""The latent of a picture with nothing but one colour behind it, for the work of a few frames.

The encoder looks back a fixed number of frames, layer by layer. Behind the picture every frame is the same, so what
a layer gives is the same again as soon as all that it looks back to is: the finest levels, which cost the most, after
a few frames. From there on what they gave last is given to the next level again. Of 81 frames Wan2.1's encoder works
on 17 at the full size of the picture, 25 at half, 45 at a quarter, and on all of them only at the latent's size.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from infinite_talk.models.vae.layers import CausalConv3d, Downsample, FrameAttention, Memory
from infinite_talk.models.vae.model import VideoVAE


@torch.inference_mode()
def encode_still(vae: VideoVAE, picture: Tensor, frames: int, colour: float) -> Tensor:
    """``encode_chunks`` of ``picture`` ``(B, 3, H, W)`` and ``frames - 1`` frames of ``colour``, to the last bit.

    Normalised latent ``(B, z, T, h, w)``, float32.
    """
    stride = vae.config.temporal_stride
    layers = layers_of(vae)
    constant = constant_from(layers, stride)
    memory, latents = Memory(), []
    first: Tensor = picture[:, :, None]
    held, start = torch.full_like(first, colour).expand(-1, -1, stride, -1, -1).contiguous(), 0
    for group in range(1 + (frames - 1) // stride):
        x = vae._folded(first if group == 0 else held) if start == 0 else held
        for number in range(start, len(layers)):
            layer = layers[number]
            x = layer(x) if isinstance(layer, FrameAttention) else layer(x, memory)
            if constant[number] == group:
                held, start = x, number + 1
        latents.append(x)
    return vae.normalise(torch.cat(latents, dim=2).float().chunk(2, dim=1)[0])


def layers_of(vae: VideoVAE) -> list[nn.Module]:
    """The encoder from folded pictures to moments, layer by layer."""
    encoder = vae.encoder
    return [encoder.conv1, *encoder.downsamples, *encoder.middle, encoder.head, vae.conv1]


def constant_from(layers: Sequence[nn.Module], frames: int) -> list[int]:
    """For each layer the first group from which on it gives the same again; group 0 is the picture alone.

    ``frames``: of a group before the first layer.
    """
    group, found = 1, []
    for layer in layers:
        group += -(-look_back(layer) // frames)
        found.append(group)
        if isinstance(layer, Downsample) and layer.time_conv is not None:
            frames //= 2
    return found


def look_back(layer: nn.Module) -> int:
    """How many frames before the present one a layer sees; its convolutions follow one another."""
    convolutions = [part for part in layer.modules() if isinstance(part, CausalConv3d)]
    halves = isinstance(layer, Downsample) and layer.time_conv is not None
    return sum(part.kernel_size[0] - 1 for part in convolutions) + halves
