"""Hair and headscarves: a layer behind the head and a layer over it, chosen by masks instead of branches."""

from __future__ import annotations

import torch
from torch import Tensor

from training.portraits.canvas import Planes, bell, ellipse, glow, paint, rounded, shade
from training.portraits.identity import STYLES, Identity

_AWAY = 9.0  # a distance far outside any shape


def _is(who: Identity, *names: str) -> Tensor:
    """1 where the portrait has one of the styles."""
    chosen = torch.zeros_like(who.scale)
    for name in names:
        chosen = chosen + (who.style == STYLES.index(name)).to(chosen.dtype)
    return chosen


def _colour(at: Planes, who: Identity) -> Tensor:
    """Strands, sheen and darker lower parts; a scarf has the second cloth colour and soft folds."""
    x, y = at.hair_x, at.hair_y
    angle = torch.atan2(x - 0.4 * who.part, 1.1 - y.clamp(max=0.4))
    strand = 0.5 + 0.5 * torch.sin(angle * 40 + who.phase + 2.2 * torch.sin(y * 5 + who.phase))
    curl = 0.5 + 0.5 * torch.sin(x * 14 + 1.5 * torch.sin(y * 9 + who.phase)) * torch.sin(
        y * 12 + 1.5 * torch.sin(x * 8)
    )
    curly = _is(who, "curly") * 0.75
    strand = torch.lerp(strand, curl, curly)
    scarf = _is(who, "scarf")
    fold = 0.5 + 0.5 * torch.sin(angle * 13 + 3 * y + who.phase)
    depth = 0.22 * (y + 0.1).clamp(0, 1)
    tone = (
        torch.lerp(0.80 + 0.24 * strand - depth, 0.82 + 0.20 * fold - 0.5 * depth, scarf)
        + 0.10 * who.light * x
    )
    sheen = (
        (0.09 + 0.05 * (1 - scarf)) * glow(x - 0.25 * who.light, y + 0.82, 0.42, 0.13) * (0.4 + 0.6 * strand)
    )
    base = torch.lerp(who.hair, who.cloth_second, scarf.unsqueeze(2))
    return base * tone.unsqueeze(2) + sheen.unsqueeze(2)


def draw_back_hair(picture: Tensor, at: Planes, who: Identity) -> Tensor:
    """What hangs behind the neck or stands around the head."""
    x, y, w = at.hair_x, at.hair_y, who.face_width
    wave = 0.035 * torch.sin(y * 9 + who.phase) * _is(who, "wavy")
    long = rounded(x + wave, y - 0.55, w * 1.27, 1.78, 2.8)
    bob = rounded(x, y - 0.02, w * 1.26, 1.08, 3.0)
    ring = torch.atan2(x, 0.2 - y) * 10 + who.phase
    curls = ellipse(x, y + 0.14, w * 1.34, 1.10) - 0.030 * torch.sin(ring) - 0.018 * torch.sin(2.3 * ring)
    tail = ellipse(x - 0.92 * torch.sign(who.part + 1e-3), y - 0.75 - 0.1 * x, 0.21, 0.75)
    scarf = rounded(x, y - 0.25, w * 1.20, 1.48, 2.5)
    distance = torch.full_like(x, _AWAY)
    for shape, mask in (
        (long, _is(who, "long", "wavy")),
        (bob, _is(who, "bob")),
        (curls, _is(who, "curly")),
        (tail, _is(who, "tied")),
        (scarf, _is(who, "scarf")),
    ):
        distance = torch.where(mask > 0, shape, distance)
    return paint(picture, _colour(at, who) * 0.70, at.cover(distance, 1.6))


def _hairline(x: Tensor, who: Identity) -> Tensor:
    """The y above which hair covers the forehead, for each style."""
    off = x - who.part
    tips = torch.sin(x * 15 + who.phase) + 0.6 * torch.sin(x * 31 + 2 * who.phase)
    lines = (
        (-0.60 + 0.55 * off * off + 0.018 * tips, ("swept",)),
        (-0.66 + 0.20 * x * x + 0.9 * x**4, ("buzz", "crop")),
        (-0.72 + 0.30 * x * x + 0.6 * x**4, ("quiff", "tied")),
        (-0.40 + 0.10 * x * x + 0.020 * tips, ("fringe", "bob")),
        (-0.80 + 0.85 * torch.sqrt(off * off + 0.004), ("long", "wavy")),
        (-0.58 + 0.30 * x * x + 0.032 * tips, ("curly",)),
    )
    chosen = torch.full_like(x, -_AWAY)
    for line, names in lines:
        chosen = torch.where(_is(who, *names) > 0, line, chosen)
    return chosen


def draw_front_hair(picture: Tensor, at: Planes, who: Identity, face: Tensor) -> Tensor:
    """Cap, fringe and side strands; ``face`` is the coverage of the face, which receives the cap's shadow."""
    x, y, w = at.hair_x, at.hair_y, who.face_width
    tight = _is(who, "buzz")
    lift = 0.10 * _is(who, "quiff") + 0.03 * _is(who, "swept", "wavy")
    swirl = 0.02 * torch.sin(torch.atan2(x, 0.2 - y) * 10 + who.phase) * _is(who, "curly")
    cap = ellipse(x, y + 0.12, w * (1.10 - 0.06 * tight), 1.06 + lift - 0.02 * tight) - swirl
    line = torch.maximum(at.face_y - _hairline(at.face_x, who), at.face_y - 0.2)
    front = torch.maximum(cap, line)
    # Strands beside the face: from the temples down, never before the mouth or the throat.
    low = (at.face_y - 0.1).clamp(0, 1.2)
    inner = torch.minimum(w * (0.93 - 0.10 * low), w * 1.3) - at.face_x.abs()
    inner = torch.maximum(inner, -rounded(at.face_x, at.face_y - 0.5, w * 0.93, 1.46, 2.4))
    short = -0.02 - 0.10 * tight
    end = short + 0.98 * _is(who, "bob") + 1.9 * _is(who, "long", "wavy") + 0.30 * _is(who, "curly", "fringe")
    outer = torch.where(_is(who, "bob", "long", "wavy") > 0, rounded(x, y - 0.5, w * 1.20, 1.74, 2.8), cap)
    sides = torch.maximum(torch.maximum(outer, inner), at.face_y - end)
    distance = torch.minimum(front, sides)
    opening = rounded(at.face_x, at.face_y - 0.16, w * 0.90, 1.06, 2.3)
    veil = torch.maximum(rounded(x, y - 0.20, w * 1.14, 1.36, 2.4), -opening)
    distance = torch.where(_is(who, "scarf") > 0, veil, distance)
    distance = torch.where(_is(who, "bald") > 0, torch.full_like(distance, _AWAY), distance)
    hair = at.cover(distance, 1.5)
    near = bell((distance.clamp_min(0) / 0.055) ** 2) * face * (1 - hair)
    picture = shade(picture, 1 - 0.22 * near)
    return paint(picture, _colour(at, who), hair * (1 - 0.12 * tight))


__all__ = ["draw_back_hair", "draw_front_hair"]
