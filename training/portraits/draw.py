"""The picture from back to front: wall, hair behind, body, head, features, hair in front."""

from __future__ import annotations

import torch
from torch import Tensor

from training.portraits.canvas import Planes, bell, ellipse, glow, paint, planes, rounded, shade, spread
from training.portraits.face import draw_ears, draw_eyes, draw_face, draw_glasses, draw_nose, face_outline
from training.portraits.hair import draw_back_hair, draw_front_hair
from training.portraits.identity import BACKDROPS, COLLARS, PATTERNS, Identity
from training.portraits.mouth import MouthShape, draw_mouth, mouth_shape
from training.portraits.pose import Pose


def _choice(value: Tensor, names: tuple[str, ...], name: str) -> Tensor:
    return (value == names.index(name)).to(torch.float32)


def _draw_wall(at: Planes, who: Identity) -> Tensor:
    """Out-of-focus background (N, 1, 3, H, W): it does not move."""
    climb = ((at.y * 0.5 + 0.5) * 0.85 + 0.15 * (at.x * who.light * 0.5 + 0.5)).clamp(0, 1)
    picture = torch.lerp(who.backdrop_high, who.backdrop_low, climb.unsqueeze(2))
    lights = torch.zeros_like(climb)
    for index in range(4):
        blot = who.blots[:, index, :, None, None, None]
        x, y = at.x - (2.4 * blot[:, 0] - 1.2), at.y - (2.0 * blot[:, 1] - 1.3)
        disc = torch.sqrt(x * x + y * y + 1e-6) - (0.10 + 0.24 * blot[:, 2])
        lights = lights + (blot[:, 3] - 0.3) * 0.24 * (0.5 - disc / 0.07).clamp(0, 1)
    window = torch.sigmoid((0.55 - (at.x - 0.7 * torch.sign(who.light)).abs()) * 14) * torch.sigmoid(
        (0.35 - at.y) * 14
    )
    window = window * (1 - 0.6 * bell(((at.x - 0.72 * torch.sign(who.light)) / 0.03) ** 2))
    panels = torch.sigmoid(9 * torch.sin(at.x * 7 + who.phase) - 6.5) + torch.zeros_like(climb)
    picture = picture + (lights * _choice(who.backdrop, BACKDROPS, "lights")).unsqueeze(2)
    picture = picture + (0.24 * window * _choice(who.backdrop, BACKDROPS, "window")).unsqueeze(2)
    picture = picture + (-0.10 * panels * _choice(who.backdrop, BACKDROPS, "panels")).unsqueeze(2)
    return shade(picture, 1 - 0.20 * ((at.x**2 + at.y**2) / 2) ** 1.5).clamp(0.02, 0.99)


def _draw_body(picture: Tensor, at: Planes, who: Identity) -> Tensor:
    """Shoulders in patterned cloth, the neck with the head's shadow, and a collar."""
    x, y = at.body_x, at.body_y
    shoulders = rounded(x, y - 1.92, 1.62, 0.80, 2.6)
    cover = at.cover(shoulders)
    bars = torch.sigmoid(torch.sin(y * 30) * 6) * _choice(who.pattern, PATTERNS, "striped")
    pins = torch.sigmoid((torch.sin(x * 30) - 0.5) * 6) * _choice(who.pattern, PATTERNS, "pinstriped")
    dots = torch.sigmoid((torch.sin(x * 22) * torch.sin(y * 22) - 0.4) * 10) * _choice(
        who.pattern, PATTERNS, "dotted"
    )
    cloth = torch.lerp(who.cloth, who.cloth_second, (0.8 * (bars + pins + dots)).unsqueeze(2))
    cloth = shade(cloth, 1.04 - 0.30 * (x - 0.2 * who.light).abs() - 0.10 * (y - 1.3))
    picture = paint(picture, cloth, cover)
    flare = who.neck + 0.5 * (y - 1.05).clamp(0, 1) ** 2
    neck = torch.maximum(x.abs() - flare, (y - 0.80).abs() - 0.42)
    is_round, is_v = _choice(who.collar, COLLARS, "round"), _choice(who.collar, COLLARS, "v")
    bowl = ellipse(x, y - 1.13, who.neck * 1.18, 0.30)
    wedge = torch.maximum(0.78 * (x.abs() * 1.15 + (y - 1.66)), -(y - 0.9))
    cut = torch.where(is_round > 0, bowl, wedge)
    bare = torch.maximum(at.cover(neck), at.cover(cut) * cover)
    throat = glow(at.head_x, at.head_y - 1.02, 0.75, 0.30)
    tone = 0.90 - 0.34 * throat - 0.22 * (x - 0.1 * who.light).abs()
    picture = paint(picture, who.skin * tone.unsqueeze(2), bare)
    hem = torch.maximum(cut.abs() - 0.022, shoulders)
    picture = paint(picture, who.cloth * 0.70, at.cover(hem, 1.6) * 0.9)
    lapel = torch.maximum(torch.maximum(-wedge, wedge - 0.16), torch.maximum(-(y - 1.14), x.abs() - 0.62))
    pressed = (1 - is_round) * (1 - is_v)
    return paint(
        picture, torch.lerp(who.cloth, torch.ones_like(who.cloth), 0.45), at.cover(lapel, 1.6) * pressed
    )


def _draw(who: Identity, pose: Pose, shape: MouthShape, at: Planes) -> Tensor:
    wall = _draw_wall(at, who)
    picture = draw_back_hair(wall, at, who)
    picture = _draw_body(picture, at, who)
    picture = draw_ears(picture, at, who)
    picture = draw_face(picture, at, who, shape)
    picture = draw_nose(picture, at, who)
    picture = draw_eyes(picture, at, who, pose)
    picture = draw_mouth(picture, at, who, shape)
    picture = draw_front_hair(picture, at, who, at.cover(face_outline(at, who, shape)))
    return draw_glasses(picture, at, who).clamp(0, 1)


def render(
    who: Identity, pose: Pose, mouth: Tensor, size: int, crop: tuple[int, int, int, int] | None = None
) -> Tensor:
    """Pictures (N, F, 3, H, W) in [0, 1] of N portraits over F frames.

    Args:
        mouth: (N, F, 6) channels of `mouth.CHANNELS`, 0..1.
        size: side of the whole square picture in pixels.
        crop: (y0, y1, x0, x1) draws only this part, pixel for pixel as in the whole picture.
    """
    who, pose = spread(who), spread(pose)
    return _draw(who, pose, mouth_shape(who, pose, mouth), planes(who, pose, size, crop))


__all__ = ["render"]
