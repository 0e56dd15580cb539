"""Layers of the head below the hair: ears, face, beard, nose, eyes, brows and glasses.

Paired parts are drawn once, in coordinates folded about the middle of the face (``side`` is -1 or 1).
"""

from __future__ import annotations

import torch
from torch import Tensor

from training.portraits.canvas import Planes, bell, ellipse, glow, paint, rounded, shade, tint
from training.portraits.identity import BEARDS, COVERS_EARS, STYLES, Identity
from training.portraits.mouth import JAW_SHARE, MouthShape
from training.portraits.pose import Pose


def face_outline(at: Planes, who: Identity, shape: MouthShape) -> Tensor:
    """Signed distance to the face: half an ellipse above, a narrowing jaw below that drops with the mouth."""
    x, y = at.head_x, at.head_y + 0.12
    chin = 1.12 + JAW_SHARE * shape.height
    below = (y / chin).clamp(0, 1.2)
    width = who.face_width * (1 - who.taper * below * below)
    height = torch.where(y > 0, chin, 1.02)
    power = torch.where(y > 0, who.jaw_square, 2.0)
    return rounded(x, y, width, height, power)


def draw_ears(picture: Tensor, at: Planes, who: Identity) -> Tensor:
    """Both ears, with an earring on each where worn; hair that falls beside the face hides them."""
    bare = torch.ones_like(who.scale)
    for style in COVERS_EARS:
        bare = bare * (who.style != STYLES.index(style))
    x, y = at.head_x.abs() - who.face_width * 0.98, at.face_y - 0.08
    size = who.ear
    ear = ellipse(x - 0.02, y, 0.115 * size, 0.19 * size)
    picture = paint(picture, who.skin * 0.90, at.cover(ear) * bare)
    shell = ellipse(x - 0.03, y + 0.01, 0.06 * size, 0.12 * size)
    picture = paint(picture, who.skin * 0.66, at.cover(shell, 5) * 0.6 * bare)
    ring = ellipse(x - 0.045, y - 0.25 * size, 0.036, 0.042)
    gold = tint(picture, 0.95, 0.82, 0.42) * (
        1.0 - 0.35 * glow(x - 0.06, y - 0.27 * size, 0.03, 0.03)
    ).unsqueeze(2)
    return paint(picture, gold, at.cover(ring) * who.earrings * bare)


def draw_face(picture: Tensor, at: Planes, who: Identity, shape: MouthShape) -> Tensor:
    """Lit skin with cheeks, freckles and beard."""
    outline = face_outline(at, who, shape)
    nx = (at.head_x - 0.4 * (at.head_x - at.face_x)) / (who.face_width * 1.04)
    ny = (at.head_y + 0.05) / 1.12
    facing = torch.sqrt((1 - 0.80 * (nx * nx + ny * ny)).clamp_min(0.04))
    light = 0.60 + 0.44 * facing + 0.15 * nx * who.light - 0.10 * ny
    rim = bell((outline.clamp(max=0) / 0.07) ** 2)
    skin = who.skin * (light * (1 - 0.10 * rim)).unsqueeze(2)
    fold = at.face_x.abs()
    cheeks = who.blush * glow(fold - 0.46, at.face_y - 0.33, 0.20, 0.14)
    skin = skin + tint(picture, 0.11, -0.03, -0.02) * cheeks.unsqueeze(2)
    sheen = glow(fold - 0.38, at.face_y - 0.20, 0.20, 0.10) + glow(at.face_x, at.face_y + 0.55, 0.34, 0.2)
    skin = skin + (0.045 * sheen).unsqueeze(2)
    dots = torch.sin(at.face_x * 47 + 3 * torch.sin(at.face_y * 23 + who.phase))
    dots = dots * torch.sin(at.face_y * 52 + 2 * torch.sin(at.face_x * 21))
    dots = torch.sigmoid((dots - 0.62) * 14) * glow(fold - 0.30, at.face_y - 0.22, 0.26, 0.13)
    mole = at.cover(
        ellipse(at.face_x - 0.52 * torch.sign(who.part + 1e-3), at.face_y - 0.42, 0.018, 0.018), 2
    )
    skin = shade(skin, (1 - 0.32 * who.freckles * dots) * (1 - 0.5 * who.mole * mole))
    skin = _grow_beard(skin, at, who, shape)
    return paint(picture, skin, at.cover(outline))


def _grow_beard(skin: Tensor, at: Planes, who: Identity, shape: MouthShape) -> Tensor:
    """Stubble, full beard or goatee, and the moustache; always below the lips, which are painted later."""
    kind = [(who.beard == i).to(skin.dtype) for i in range(len(BEARDS))]
    fold = at.face_x.abs()
    low = at.face_y - who.mouth_y - 0.45 * shape.height
    cheek_line = 0.60 - 0.62 * torch.sqrt(fold * fold + 0.01)  # the beard begins lower in the middle
    full = torch.sigmoid((at.face_y - cheek_line - 0.10) * 22)
    chin = torch.sigmoid((0.33 - fold) * 26) * torch.sigmoid((low - 0.02) * 26)
    around = 1 - 0.92 * glow(
        at.face_x, at.face_y - who.mouth_y - 0.2 * shape.height, 0.40, 0.15 + 0.5 * shape.height
    )
    grain = 0.94 + 0.06 * torch.sin(at.face_x * 61 + 4 * torch.sin(at.face_y * 37 + who.phase))
    strength = (0.30 * kind[1] + 0.86 * kind[2]) * full * around + 0.84 * kind[3] * chin
    hair = who.brow * 0.6 + who.hair * 0.4
    skin = paint(skin, hair * grain.unsqueeze(2), strength)
    base = who.mouth_y - 0.30 * shape.height - shape.upper * 1.05
    thick = 0.075 * (1 - (at.face_x / 0.40) ** 2).clamp_min(0) ** 0.6 - 0.018
    band = (at.face_y - (base - 0.035 + 0.22 * at.face_x**2)).abs() - thick
    hold = torch.maximum(who.moustache, kind[3])
    band = torch.maximum(band, at.face_x.abs() - 0.37)
    return paint(skin, hair * grain.unsqueeze(2), at.cover(band, 4) * 0.9 * hold)


def draw_nose(picture: Tensor, at: Planes, who: Identity) -> Tensor:
    """Bridge shadow away from the light, lit tip, wings, nostrils and the shadow underneath."""
    x, y, w = at.nose_x, at.nose_y - who.nose_y, who.nose_width
    away = -torch.sign(who.light + 1e-3)
    dark = 0.15 * glow(x - away * 0.075, y + 0.10, 0.05, 0.22) + 0.20 * glow(x, y - 0.085, 1.1 * w, 0.038)
    fold = x.abs()
    wing = ellipse(fold - 0.62 * w, y - 0.012, 0.52 * w, 0.062)
    dark = dark + 0.17 * bell((wing / 0.020) ** 2) * torch.sigmoid((fold - 0.6 * w) * 40)
    ball = ellipse(x, y - 0.005, 0.62 * w, 0.072)
    dark = dark + 0.10 * bell((ball / 0.018) ** 2) * torch.sigmoid((y - 0.01) * 60)
    picture = shade(picture, 1 - dark)
    lit = 0.10 * glow(x - 0.02 * who.light, y + 0.02, 0.045, 0.045) + 0.05 * glow(x, y + 0.24, 0.035, 0.2)
    picture = picture + lit.unsqueeze(2)
    nostril = ellipse(fold - 0.50 * w, y - 0.052, 0.034, 0.019)
    return paint(picture, who.skin * 0.30, at.cover(nostril, 2.0) * 0.8)


def draw_eyes(picture: Tensor, at: Planes, who: Identity, pose: Pose) -> Tensor:
    """Sockets, eyeballs, lids, lashes and brows."""
    side = torch.sign(at.face_x)
    x = at.face_x.abs() - who.eye_x  # grows outwards
    y = at.face_y - who.eye_y + who.eye_tilt * x
    w = who.eye_width
    h = w * who.eye_open
    picture = shade(picture, 1 - 0.15 * glow(x + 0.02, y + 0.035, 0.26, 0.17))
    wake = (1 - pose.blink) * (1 - 0.35 * pose.squint)
    arch = (1 - (x / w) ** 2).clamp_min(0)
    top = -h * (arch + 1e-6) ** 0.72 * (1.30 * wake - 0.30)
    low = 0.72 * h * (arch + 1e-6) ** 0.85 * (0.55 + 0.45 * wake)
    ball = at.cover(torch.maximum(torch.maximum(top - y, y - low), x.abs() - w), 1.3)
    lid_shadow = 1 - 0.32 * bell(((y - top) / 0.045) ** 2)
    lid = torch.maximum(ellipse(x, y + 0.01, 1.08 * w, 1.28 * h), y - low)
    picture = paint(picture, who.skin * 0.84, at.cover(lid, 3) * 0.55 * pose.blink)
    white = tint(picture, 0.97, 0.96, 0.95) * lid_shadow.unsqueeze(2)
    eye = _draw_iris(white, at, who, pose, x, y, side)
    picture = paint(picture, eye, ball)
    thick = 0.013 + 0.010 * who.lashes * (0.7 + 0.5 * x / w)
    lash = torch.maximum((y - top + 0.006).abs() - thick, x.abs() - 1.05 * w)
    wing = torch.maximum((y - top + 0.55 * (x - 0.85 * w)).abs() - 0.010, (x - 1.05 * w).abs() - 0.16 * w)
    picture = paint(
        picture,
        who.skin * 0.14,
        torch.maximum(at.cover(lash, 1.3), at.cover(wing, 1.4) * (who.lashes * 2 - 1).clamp(0, 1)),
    )
    picture = paint(
        picture,
        who.skin * 0.52,
        at.cover(torch.maximum((y - low).abs() - 0.004, x.abs() - 0.9 * w), 1.6) * 0.55,
    )
    crease = torch.maximum((y + h * 1.30 * (arch + 1e-6) ** 0.6 + 0.012).abs() - 0.005, x.abs() - 0.92 * w)
    picture = paint(picture, who.skin * 0.60, at.cover(crease, 2) * 0.5)
    rise = at.face_y - who.eye_y + who.brow_y + 0.022 * pose.brow + who.brow_tilt * x
    bend = -0.018 + who.brow_arch * (x + 0.02) ** 2
    slim = who.brow_thick * (1.05 - 0.60 * ((x / w) * 0.6 + 0.4).clamp(0, 1.3))
    brow = torch.maximum((rise - bend).abs() - slim, x.abs() - 1.30 * w)
    return paint(picture, who.brow, at.cover(brow, 2.0) * 0.92)


def _draw_iris(
    white: Tensor, at: Planes, who: Identity, pose: Pose, x: Tensor, y: Tensor, side: Tensor
) -> Tensor:
    """Iris with a dark rim, pupil and a catch light; both eyes look the same way."""
    gx = x - side * (0.034 * pose.gaze_x + 0.30 * pose.yaw)
    gy = y + 0.010 - 0.016 * pose.gaze_y
    radius = who.iris_size * who.eye_width
    away = torch.sqrt(gx * gx + gy * gy + 1e-6)
    tone = (1.0 + 0.55 * gy / radius).clamp(0.55, 1.5) * (0.9 + 0.1 * torch.sin(torch.atan2(gy, gx) * 16))
    eye = paint(white, who.iris * tone.unsqueeze(2), at.cover(away - radius, 1.4))
    eye = paint(eye, who.iris * 0.35, at.cover((away - radius).abs() - 0.006, 1.6) * 0.8)
    eye = paint(eye, tint(white, 0.03, 0.03, 0.04), at.cover(away - 0.48 * radius, 1.4))
    spot = ellipse(gx - side * 0.032 * torch.sign(who.light + 1e-3), gy + 0.036, 0.025, 0.027)
    return paint(eye, tint(white, 1.0, 1.0, 1.0), at.cover(spot, 1.3) * 0.95)


def draw_glasses(picture: Tensor, at: Planes, who: Identity) -> Tensor:
    """Round or rectangular frames with a faint reflection."""
    x = at.face_x.abs() - who.eye_x - 0.005
    y = at.face_y - who.eye_y - 0.02
    power = 4.0 - 2.0 * who.round_glasses
    lens = rounded(x, y, 0.255, 0.185 + 0.045 * who.round_glasses, power)
    bridge = torch.maximum(
        (y + 0.03 + 0.25 * at.face_x**2).abs() - 0.014, at.face_x.abs() - (who.eye_x - 0.24)
    )
    arm = torch.maximum((y + 0.04).abs() - 0.013, (x - 0.40).abs() - 0.15)
    arm = torch.maximum(arm, at.head_x.abs() - who.face_width)
    glass = at.cover(lens)
    streak = glow(x + y + 0.05, torch.zeros_like(y), 0.045, 1.0) + 0.7 * glow(
        x + y - 0.05, torch.zeros_like(y), 0.02, 1.0
    )
    picture = picture + (0.07 * who.glasses * glass * streak).unsqueeze(2)
    rim = torch.minimum(lens.abs() - 0.016, torch.minimum(bridge, arm))
    return paint(picture, who.frame, at.cover(rim) * who.glasses)


__all__ = ["draw_ears", "draw_eyes", "draw_face", "draw_glasses", "draw_nose", "face_outline"]
