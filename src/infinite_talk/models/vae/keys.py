"""Names of the video autoencoder's weights in published checkpoints, and what shapes tell of the model.

The official names are ours. They number the layers of the encoder and of the decoder through; diffusers has
the same numbers in the encoder, and counts levels and layers of a level in the decoder.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import isqrt

import torch

from infinite_talk.errors import CheckpointError
from infinite_talk.models.keymap import Entry, KeyMap, choose
from infinite_talk.models.shapes import Shapes, count_layers, matrix
from infinite_talk.models.vae.config import WAN_MEAN, WAN_STD, VAEConfig
from infinite_talk.models.vae.model import VideoVAE

DTYPE = torch.float16
"""On a GPU. The official program runs float32; rounding goes into the pictures, and through the motion frames
into the next window, so 10 bits of mantissa and not the 7 of bfloat16. Sums are float32. Every convolution of a
block sees values that a norm has bounded; the stream beside them could leave the range of 16 bits, which
``Rooms`` sees and answers in float32. On a CPU float32."""

_PREFIXES = ("", "model.")
_BLOCK = {
    "residual.0.": "norm1.",
    "residual.2.": "conv1.",
    "residual.3.": "norm2.",
    "residual.6.": "conv2.",
    "shortcut.": "conv_shortcut.",
}
"""Inside a residual block: ours -> diffusers'."""
_ELSEWHERE = {
    "conv1.": "conv_in.",
    "middle.0.": "mid_block.resnets.0.",
    "middle.1.": "mid_block.attentions.0.",
    "middle.2.": "mid_block.resnets.1.",
    "head.0.": "norm_out.",
    "head.2.": "conv_out.",
    "downsamples.": "down_blocks.",
}
"""Inside the encoder or the decoder: ours -> diffusers'."""
_OUTSIDE = {"conv1.": "quant_conv.", "conv2.": "post_quant_conv."}
"""Beside them: ours -> diffusers'."""


def key_map(config: VAEConfig, stored: Iterable[str]) -> KeyMap:
    """The dialect that a checkpoint speaks."""
    return choose(dialects(config), stored)


def dialects(config: VAEConfig) -> tuple[KeyMap, ...]:
    """The official one (Kijai's and ComfyUI's too), the same below ``model.``, and diffusers'."""
    with torch.device("meta"):
        names = list(VideoVAE(config).state_dict())
    level = config.num_res_blocks + 2  # layers of a level in the decoder: blocks, and the step to the next
    named = [("official", {name: prefix + name for name in names}) for prefix in _PREFIXES]
    named += [("diffusers", {name: _diffusers(name, level) for name in names})]
    return tuple(
        KeyMap(dialect, {ours: Entry(stored) for ours, stored in table.items()}, part="video autoencoder")
        for dialect, table in named
    )


def recognises(shapes: Shapes) -> bool:
    """Whether these are the names of a Wan video autoencoder, in any dialect; Wan2.2's too."""
    return _official(shapes) is not None


def config_of(shapes: Shapes) -> VAEConfig:
    """Sizes of the autoencoder whose tensors have these shapes; latents are those of Wan2.1.

    Raises:
        CheckpointError: it is Wan2.2's, another one, or its tensors contradict each other.
    """
    here = _official(shapes) or {}
    z_dim = matrix(here, "conv2.weight", 5)[0]
    dim, pixels, *_ = matrix(here, "encoder.conv1.weight", 5)
    if z_dim != len(WAN_MEAN):
        kind = "the video autoencoder of Wan2.2" if z_dim == 48 else "a video autoencoder"
        raise CheckpointError(
            f"This is {kind} with {z_dim} latent channels; InfiniteTalk works on the {len(WAN_MEAN)} of Wan2.1. "
            "Take Wan2.1_VAE.pth or wan_2.1_vae.safetensors.",
            code="checkpoint_mismatch",
        )
    widths: list[int] = []
    halved: list[bool] = []
    blocks, width = 0, dim
    for layer in range(count_layers(here, "encoder.downsamples.")):
        place = f"encoder.downsamples.{layer}."
        if (convolution := f"{place}residual.6.weight") in here:
            blocks += not halved
            width = here[convolution][0]
        else:
            halved.append(f"{place}time_conv.weight" in here)
            widths.append(width)
    return VAEConfig(
        dim=dim,
        z_dim=z_dim,
        dim_mult=tuple(width // dim for width in (*widths, width)),
        num_res_blocks=blocks,
        temporal_downsample=tuple(halved),
        mean=WAN_MEAN,
        std=WAN_STD,
        patch=isqrt(pixels // 3),
    )


def _official(shapes: Shapes) -> dict[str, tuple[int, ...]] | None:
    """The shapes of what is outside the decoder's levels under official names, or ``None``."""
    for prefix in _PREFIXES:
        if all(len(shapes.get(f"{prefix}{name}.weight", ())) == 5 for name in ("conv2", "encoder.conv1")):
            return {name.removeprefix(prefix): tuple(shape) for name, shape in shapes.items()}
    if all(len(shapes.get(f"{name}.weight", ())) == 5 for name in ("post_quant_conv", "encoder.conv_in")):
        return {_from_diffusers(name): tuple(shape) for name, shape in shapes.items()}
    return None


def _diffusers(name: str, level: int) -> str:
    """Our name -> diffusers'. ``level``: layers of a level in the decoder."""
    half, _, inside = name.partition(".")
    if half not in ("encoder", "decoder"):
        return _renamed(name, _OUTSIDE)
    if inside.startswith("upsamples."):
        _, number, rest = inside.split(".", 2)
        place, layer = divmod(int(number), level)
        inside = f"up_blocks.{place}." + (
            f"upsamplers.0.{rest}" if layer == level - 1 else f"resnets.{layer}.{rest}"
        )
    inside = _renamed(inside, _ELSEWHERE)
    for ours, theirs in _BLOCK.items():
        inside = inside.replace(ours, theirs)
    return f"{half}.{inside}"


def _from_diffusers(name: str) -> str:
    """diffusers' name -> ours, but for the levels of the decoder."""
    half, _, inside = name.partition(".")
    if half not in ("encoder", "decoder"):
        return _renamed(name, {theirs: ours for ours, theirs in _OUTSIDE.items()})
    inside = _renamed(inside, {theirs: ours for ours, theirs in _ELSEWHERE.items()})
    # The convolutions and norms of a block: behind its number, not at the beginning.
    for ours, theirs in _BLOCK.items():
        inside = inside.replace("." + theirs, "." + ours)
    return f"{half}.{inside}"


def _renamed(name: str, beginnings: dict[str, str]) -> str:
    for old, new in beginnings.items():
        if name.startswith(old):
            return new + name.removeprefix(old)
    return name
