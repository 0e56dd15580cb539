"""A reader of mouths: how far open, how wide and how rounded, from the frames of a drawn talking portrait.

A small convolutional net looks at the lower middle of the picture, where portraits of this family have
their mouth. It was trained on renders with known mouths (``training/train_reader.py``), blurred, compressed,
recoloured and shifted; how well it reads is recorded next to its weights. It knows drawn portraits only.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import files
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional

from infinite_talk.errors import CheckpointError

REGION = (0.44, 0.96, 0.22, 0.78)
"""Top, bottom, left, right of what the reader sees, as shares of the (square) picture."""
INPUT = (72, 80)
"""Height and width to which the region is resized."""
OPENING_SCALE = 0.15
WIDTH_SCALE = 0.30
"""Typical extremes, in picture heights, that bring the targets of training to about 1."""


@dataclass(frozen=True)
class MouthTrack:
    """What was read, frame by frame (F,)."""

    opening: NDArray[np.float32]  # height between the lips, in picture heights: 0 .. about 0.15
    width: NDArray[np.float32]  # from corner to corner, in picture heights: about 0.1 .. 0.3
    rounding: NDArray[np.float32]  # 0 spread .. 1 pursed


class MouthReader(nn.Module):
    """Region (B, 3, 72, 80) in [0, 1] to opening, width and rounding (B, 3), each scaled to about 0..1."""

    def __init__(self) -> None:
        super().__init__()
        channels = (3, 16, 24, 40, 56)
        layers: list[nn.Module] = []
        for before, after in pairwise(channels):
            layers += [nn.Conv2d(before, after, 3, 2, 1), nn.SiLU()]
            if after > 16:
                layers += [nn.Conv2d(after, after, 3, 1, 1, groups=8), nn.SiLU()]
        self.features = nn.Sequential(*layers)
        self.head = nn.Sequential(nn.Linear(56 * 5 * 5, 48), nn.SiLU(), nn.Linear(48, 3))

    def forward(self, region: Tensor) -> Tensor:
        centred = region - region.mean(dim=(1, 2, 3), keepdim=True)
        spread = centred.square().mean(dim=(1, 2, 3), keepdim=True).sqrt()
        values: Tensor = self.head(self.features(centred / (spread + 0.05)).flatten(1))
        return values


def mouth_region(frames: Tensor) -> Tensor:
    """The part of pictures (F, 3, H, W) in [0, 1] that the reader sees: (F, 3, 72, 80).

    A picture that is not square is read in its central square.
    """
    height, width = frames.shape[-2:]
    side = min(height, width)
    y, x = (height - side) // 2, (width - side) // 2
    top, bottom, left, right = (round(share * side) for share in REGION)
    part = frames[..., y + top : y + bottom, x + left : x + right]
    return functional.interpolate(part, INPUT, mode="bilinear", antialias=True, align_corners=False)


def load_reader(path: Path | None = None) -> MouthReader:
    """The shipped reader, or the one in another ``.safetensors`` file.

    Raises:
        CheckpointError: the file is missing or holds other weights.
    """
    place = path or Path(str(files("infinite_talk") / "bundled" / "lipsync" / "reader.safetensors"))
    reader = MouthReader()
    try:
        reader.load_state_dict({name: value.float() for name, value in load_file(place).items()})
    except (OSError, RuntimeError) as error:
        raise CheckpointError(
            f"{place} is not a mouth reader of this version: {error}. Install the package again.",
            code="reader_weights",
        ) from error
    return reader.eval().requires_grad_(requires_grad=False)


def save_reader(reader: MouthReader, path: Path) -> None:
    """Write half-precision weights."""
    state = {name: value.detach().half().contiguous().cpu() for name, value in reader.state_dict().items()}
    save_file(state, path, metadata={"format": "pt"})


def read_regions(regions: Tensor, reader: MouthReader) -> Tensor:
    """Opening, width (picture heights) and rounding (F, 3) of regions (F, 3, 72, 80), never negative."""
    values: Tensor = reader(regions)
    scale = values.new_tensor((OPENING_SCALE, WIDTH_SCALE, 1.0))
    return (values * scale).clamp(min=0.0, max=1.0)


@torch.inference_mode()
def read_mouth(frames: Tensor | NDArray[np.uint8], reader: MouthReader | None = None) -> MouthTrack:
    """Read the mouth in every frame (F, H, W, 3) uint8, a few at a time.

    Args:
        reader: one from `load_reader`, to load it once for many clips.
    """
    reader = reader or load_reader()
    device = next(reader.parameters()).device
    parts = []
    for part in torch.split(torch.as_tensor(frames), 64):
        pictures = part.to(device).permute(0, 3, 1, 2).float() / 255
        parts.append(read_regions(mouth_region(pictures), reader))
    values = torch.cat(parts).cpu().numpy() if parts else np.zeros((0, 3), np.float32)
    return MouthTrack(values[:, 0], values[:, 1], values[:, 2])


__all__ = [
    "MouthReader",
    "MouthTrack",
    "load_reader",
    "mouth_region",
    "read_mouth",
    "read_regions",
    "save_reader",
]
