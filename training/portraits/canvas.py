"""The few drawing operations that all layers share.

A picture is (N, F, 3, H, W), a coverage or a coordinate plane is (N, F, H, W), numbers of a portrait are
(N, 1, 1, 1) or (N, F, 1, 1), colours (N, 1, 3, 1, 1). Shapes are signed distances in face units,
negative inside.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TypeVar

import torch
from torch import Tensor

from training.portraits.identity import Identity
from training.portraits.pose import Pose

_Record = TypeVar("_Record", Identity, Pose)


def spread(record: _Record) -> _Record:
    """The same record with its values shaped to broadcast against planes and pictures."""
    shaped = {}
    for field in fields(record):
        value = getattr(record, field.name)
        if isinstance(record, Pose):
            shaped[field.name] = value[:, :, None, None]
        elif value.ndim == 2:
            shaped[field.name] = value[:, None, :, None, None]
        elif value.ndim == 1:
            shaped[field.name] = value[:, None, None, None]
        else:
            shaped[field.name] = value
    return type(record)(**shaped)


@dataclass(frozen=True)
class Planes:
    """Coordinates of every pixel: of the picture, and of the layers of the head that move over each other."""

    x: Tensor  # picture, -1 left .. 1 right (1, 1, 1, W)
    y: Tensor  # picture, -1 top .. 1 bottom (1, 1, H, 1)
    body_x: Tensor
    body_y: Tensor
    head_x: Tensor  # outline of the face
    head_y: Tensor
    face_x: Tensor  # eyes and mouth
    face_y: Tensor
    nose_x: Tensor
    nose_y: Tensor
    hair_x: Tensor
    hair_y: Tensor
    pixel: Tensor  # width of a pixel in face units

    def cover(self, distance: Tensor, soft: float = 1.2) -> Tensor:
        """Share of a pixel inside a shape; ``soft`` is the width of the edge in pixels."""
        return (0.5 - distance / (self.pixel * soft)).clamp(0, 1)


PIVOT = 1.15  # the head turns about a point in the neck, face units below its centre


def planes(who: Identity, pose: Pose, size: int, crop: tuple[int, int, int, int] | None) -> Planes:
    """Coordinates for spread records; ``crop`` (y0, y1, x0, x1) in pixels of the whole picture."""
    y0, y1, x0, x1 = crop or (0, size, 0, size)
    if not (0 <= y0 < y1 <= size and 0 <= x0 < x1 <= size):
        raise ValueError(f"crop {crop} is not inside a picture of {size} pixels; give (y0, y1, x0, x1)")
    line = (torch.arange(size, device=who.scale.device, dtype=who.scale.dtype) + 0.5) * (2 / size) - 1
    x, y = line[x0:x1].view(1, 1, 1, -1), line[y0:y1].view(1, 1, -1, 1)
    body_x = (x - who.offset_x - 0.4 * pose.shift_x) / who.scale
    body_y = (y - who.offset_y - 0.4 * pose.shift_y) / who.scale
    angle = pose.roll + who.lean
    cos, sin = torch.cos(angle), torch.sin(angle)
    from_x = (x - who.offset_x - pose.shift_x) / who.scale
    from_y = (y - who.offset_y - pose.shift_y) / who.scale - PIVOT
    head_x = from_x * cos + from_y * sin
    head_y = from_y * cos - from_x * sin + PIVOT
    return Planes(
        x=x,
        y=y,
        body_x=body_x,
        body_y=body_y,
        head_x=head_x,
        head_y=head_y,
        face_x=head_x - pose.yaw,
        face_y=head_y - pose.pitch,
        nose_x=head_x - 1.6 * pose.yaw,
        nose_y=head_y - 1.6 * pose.pitch,
        hair_x=head_x + 0.3 * pose.yaw,
        hair_y=head_y + 0.3 * pose.pitch,
        pixel=(2 / size) / who.scale,
    )


def paint(picture: Tensor, colour: Tensor, cover: Tensor) -> Tensor:
    """Lay ``colour`` over the picture where ``cover`` is 1."""
    return picture + (colour - picture) * cover.unsqueeze(2)


def shade(picture: Tensor, factor: Tensor) -> Tensor:
    """Multiply the brightness."""
    return picture * factor.unsqueeze(2)


def glow(x: Tensor, y: Tensor, width: Tensor | float, height: Tensor | float) -> Tensor:
    """A soft spot: 1 at the centre, 1/e at ``width`` and ``height``."""
    return bell((x / width) ** 2 + (y / height) ** 2)


def bell(square: Tensor) -> Tensor:
    """exp(-square), kept away from denormal numbers, which are slow on a CPU."""
    return torch.exp(-square.clamp(max=40.0))


def ellipse(x: Tensor, y: Tensor, width: Tensor | float, height: Tensor | float) -> Tensor:
    """Signed distance to an ellipse, measured along the ray from its centre."""
    k = torch.sqrt((x / width) ** 2 + (y / height) ** 2 + 1e-6)
    return torch.sqrt(x * x + y * y + 1e-6) * (1 - 1 / k)


def rounded(
    x: Tensor, y: Tensor, width: Tensor | float, height: Tensor | float, power: Tensor | float
) -> Tensor:
    """Like `ellipse` with another exponent: 2 is an ellipse, larger is squarer."""
    k = ((x / width).abs() ** power + (y / height).abs() ** power + 1e-6) ** (1 / power)
    return torch.sqrt(x * x + y * y + 1e-6) * (1 - 1 / k)


def tint(like: Tensor, red: float, green: float, blue: float) -> Tensor:
    """A fixed colour, shaped (1, 1, 3, 1, 1)."""
    return like.new_tensor((red, green, blue)).view(1, 1, 3, 1, 1)


__all__ = [
    "PIVOT",
    "Planes",
    "bell",
    "ellipse",
    "glow",
    "paint",
    "planes",
    "rounded",
    "shade",
    "spread",
    "tint",
]
