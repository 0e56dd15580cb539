"""The mouth: from six channels to curves, the picture of it, and its true measures.

Channels, each 0..1: opening, width (0.5 is rest), rounding, upper teeth shown, tongue raised,
lower lip tucked under the teeth.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from training.portraits.canvas import PIVOT, Planes, bell, glow, paint, shade, tint
from training.portraits.identity import Identity
from training.portraits.pose import Pose

CHANNELS = ("open", "width", "round", "teeth", "tongue", "tuck")
REST = (0.0, 0.5, 0.0, 0.0, 0.0, 0.0)
"""The closed mouth of a portrait picture and of silence."""
JAW_SHARE = 0.46  # of the opening's height by which the chin drops
_UP = 0.30  # share of the opening above the line where closed lips meet


@dataclass(frozen=True)
class MouthShape:
    """Measures in face units, shaped (N, F, 1, 1)."""

    open: Tensor
    round: Tensor
    teeth: Tensor
    tongue: Tensor
    tuck: Tensor
    half_width: Tensor  # of the inner contour
    height: Tensor  # of the inner contour
    upper: Tensor  # lip thickness
    lower: Tensor
    corner: Tensor  # how far the corners rise


def mouth_shape(who: Identity, pose: Pose, mouth: Tensor) -> MouthShape:
    """Measures for spread records and channels (N, F, 6)."""
    opening, width, rounding, teeth, tongue, tuck = (mouth[..., i, None, None] for i in range(6))
    height = opening * who.mouth_height
    stretch = 1 - 0.22 * opening
    return MouthShape(
        open=opening,
        round=rounding,
        teeth=teeth,
        tongue=tongue,
        tuck=tuck,
        half_width=who.mouth_width * (0.95 + 0.34 * (width - 0.5) - 0.34 * rounding),
        height=height,
        upper=who.lip_upper * stretch * (1 + 0.45 * rounding - 0.25 * (width - 0.5)),
        lower=who.lip_lower * stretch * (1 + 0.40 * rounding - 0.25 * (width - 0.5)) * (1 - 0.55 * tuck),
        corner=0.030 * (who.corner + 0.5 * pose.smile + 0.8 * (width - 0.5)) * (1 - 0.7 * rounding),
    )


def _bow(x: Tensor, half_width: Tensor, power: Tensor | float) -> tuple[Tensor, Tensor]:
    """The arch (1 - (x / w)^2)^power and its slope, tamed where it stands upright at the corners."""
    base = (1 - (x / half_width) ** 2).clamp_min(0)
    arch = (base + 1e-6) ** power
    slope = 2 * power * x.abs() / half_width**2 * arch / (base + 0.10)
    return arch, slope


@dataclass(frozen=True)
class _Contours:
    """Curves of a mouth, as y for every x, and signed distances to its two shapes."""

    x: Tensor
    y: Tensor
    top: Tensor  # inner edge of the upper lip
    bottom: Tensor  # inner edge of the lower lip
    lip_top: Tensor
    lip_bottom: Tensor
    inner: Tensor
    outer: Tensor


def _contours(at: Planes, who: Identity, shape: MouthShape) -> _Contours:
    x, y = at.face_x, at.face_y - who.mouth_y
    w = shape.half_width
    wide = w + 0.030 + 0.030 * shape.round
    rest = shape.corner * (0.35 - (x / w) ** 2).clamp_min(-1.4)
    arch, slope = _bow(x, w, 0.72 - 0.20 * shape.round)
    top = rest - _UP * shape.height * arch
    bottom = rest + (1 - _UP) * shape.height * arch
    lip, lip_slope = _bow(x, wide, 0.80 - 0.18 * shape.round)
    cupid = 1.0 - (0.26 - 0.16 * shape.round) * bell((x / (0.20 * w)) ** 2)
    lip_top = top - shape.upper * lip * cupid
    full, full_slope = _bow(x, wide, 0.62)
    lip_bottom = bottom + shape.lower * full
    end = x.abs() - w
    inner = torch.maximum(
        torch.maximum(
            (top - y) / torch.sqrt(1 + (_UP * shape.height * slope) ** 2),
            (y - bottom) / torch.sqrt(1 + ((1 - _UP) * shape.height * slope) ** 2),
        ),
        end,
    )
    outer = torch.maximum(
        torch.maximum(
            (lip_top - y) / torch.sqrt(1 + (_UP * shape.height * slope + shape.upper * lip_slope) ** 2),
            (y - lip_bottom)
            / torch.sqrt(1 + ((1 - _UP) * shape.height * slope + shape.lower * full_slope) ** 2),
        ),
        x.abs() - wide,
    )
    return _Contours(x, y, top, bottom, lip_top, lip_bottom, inner, outer)


def draw_mouth(picture: Tensor, at: Planes, who: Identity, shape: MouthShape) -> Tensor:
    """Lips, then what the opening shows, then the line along the opening."""
    c = _contours(at, who, shape)
    w = shape.half_width
    picture = shade(picture, 1 - 0.16 * glow(c.x, c.y - c.lip_bottom - 0.045, 0.75 * w, 0.040))
    lips = _lip_colour(c, who, shape)
    picture = paint(picture, lips, at.cover(c.outer, 1.6))
    picture = _draw_inside(picture, at, c, shape)
    # The lips meet in a dark line; around an opening it is thin.
    middle = torch.where(c.y < 0.5 * (c.top + c.bottom), c.top, c.bottom)
    line = torch.maximum((c.y - middle).abs() - 0.0045, c.x.abs() - 1.02 * w)
    closed = bell(shape.height / 0.05)
    return paint(picture, who.lips * 0.36, at.cover(line, 1.6) * (0.45 + 0.45 * closed))


def _lip_colour(c: _Contours, who: Identity, shape: MouthShape) -> Tensor:
    """Upper lip in shade, lower lip lit with a highlight: (N, F, 3, H, W)."""
    upper = (c.y < 0.5 * (c.top + c.bottom)).to(c.x.dtype)
    round_off = 0.10 * ((c.y - c.bottom) / (shape.lower + 1e-3)).clamp(0, 1)
    tone = 1.04 - 0.17 * upper - round_off
    spark = glow(c.x - 0.05 * who.light, c.y - c.bottom - 0.42 * shape.lower, 0.5 * shape.half_width, 0.016)
    return who.lips * tone.unsqueeze(2) + (0.17 * who.gloss * spark).unsqueeze(2)


def _draw_inside(picture: Tensor, at: Planes, c: _Contours, shape: MouthShape) -> Tensor:
    """Throat, tongue and teeth, kept inside the opening."""
    w, h = shape.half_width, shape.height
    inside = at.cover(c.inner)
    depth = ((c.y - c.top) / (c.bottom - c.top + 2e-3)).clamp(0, 1)
    inner = tint(picture, 0.27, 0.05, 0.06) * (0.45 + 0.6 * depth).unsqueeze(2)
    back = (c.bottom - 0.02 - (0.10 + 0.32 * shape.tongue) * h) + 0.30 * h * (c.x / w) ** 2
    tongue = at.cover(back - c.y, 2.5) * (0.35 + 0.65 * shape.tongue)
    flesh = tint(picture, 0.80, 0.38, 0.38) * (0.72 + 0.30 * depth).unsqueeze(2)
    inner = paint(inner, flesh, tongue)
    gap = 1 - 0.13 * bell((((c.x / 0.062) - torch.round(c.x / 0.062)) / 0.10) ** 2)
    ivory = tint(picture, 0.95, 0.93, 0.89) * (gap * (1.0 - 0.22 * (c.x / w) ** 2)).unsqueeze(2)
    edge = c.top + 0.012 + shape.teeth * torch.minimum(0.085 + 0.06 * shape.tuck, 0.25 * h + 0.055)
    shown = (shape.teeth * 3 - 0.15).clamp(0, 1)
    row = torch.maximum(c.y - edge, c.x.abs() - 0.86 * w)
    inner = paint(inner, ivory, at.cover(row, 1.5) * shown)
    below = torch.maximum(c.bottom - 0.018 - 0.035 * shape.teeth - c.y, c.x.abs() - 0.62 * w)
    inner = paint(inner, ivory * 0.86, at.cover(below, 1.8) * shown * ((shape.open - 0.45) * 3).clamp(0, 1))
    inner = shade(inner, 1 - 0.35 * bell(((c.y - c.top) / 0.030) ** 2))
    return paint(picture, inner, inside)


@dataclass(frozen=True)
class MouthGeometry:
    """True measures (N, F) of drawn mouths."""

    opening: Tensor  # height of the inner contour in pixels
    width: Tensor  # of the inner contour in pixels
    rounding: Tensor  # 0..1, as drawn
    face: Tensor  # pixels per face unit; opening / face does not depend on the picture's size

    @property
    def opening_relative(self) -> Tensor:
        """Opening in face units: about 0 .. 0.39."""
        return self.opening / self.face

    @property
    def width_relative(self) -> Tensor:
        """Inner width in face units: about 0.25 .. 0.85."""
        return self.width / self.face


def mouth_geometry(who: Identity, pose: Pose, mouth: Tensor, size: int) -> MouthGeometry:  # noqa: ARG001
    """What a perfect reader would measure; records as made, not spread.."""
    face = (who.scale * (size / 2))[:, None].expand(mouth.shape[:2])
    half = who.mouth_width[:, None] * (0.95 + 0.34 * (mouth[..., 1] - 0.5) - 0.34 * mouth[..., 2])
    return MouthGeometry(
        mouth[..., 0] * who.mouth_height[:, None] * face, 2 * half * face, mouth[..., 2], face
    )


def mouth_box(who: Identity, pose: Pose, size: int) -> Tensor:
    """Pixel box (N, F, 4) int64 as y0, y1, x0, x1 that holds the mouth in every shape and some skin.

    All boxes of one size have the same extent (0.32 x 0.40 of the picture) and lie inside the picture.
    """
    angle = pose.roll + who.lean[:, None]
    x = pose.yaw
    y = (
        who.mouth_y[:, None] + 0.09 + pose.pitch - PIVOT
    )  # a little below the resting line: mouths open downwards
    scale = who.scale[:, None]
    at_x = (x * torch.cos(angle) - y * torch.sin(angle)) * scale + who.offset_x[:, None] + pose.shift_x
    at_y = (
        (x * torch.sin(angle) + y * torch.cos(angle) + PIVOT) * scale + who.offset_y[:, None] + pose.shift_y
    )
    high, wide = round(0.32 * size), round(0.40 * size)
    top = ((at_y + 1) * (size / 2) - high / 2).round().to(torch.int64).clamp(0, size - high)
    left = ((at_x + 1) * (size / 2) - wide / 2).round().to(torch.int64).clamp(0, size - wide)
    return torch.stack((top, top + high, left, left + wide), dim=-1)


__all__ = [
    "CHANNELS",
    "JAW_SHARE",
    "REST",
    "MouthGeometry",
    "MouthShape",
    "draw_mouth",
    "mouth_box",
    "mouth_geometry",
    "mouth_shape",
]
