"""Who is drawn: every attribute of a portrait, as a pure function of one integer seed.

Lengths are in face units: the chin lies at y = 1, the eyes near y = 0, the cheeks at x = -0.78 and 0.78.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from torch import Tensor

from training.portraits.chance import table

# Each skin tone with lips that stand out from it; evenly from light to dark, so that no tone is rare.
SKIN = (
    (0.99, 0.87, 0.77),
    (0.98, 0.82, 0.69),
    (0.93, 0.74, 0.57),
    (0.85, 0.63, 0.46),
    (0.74, 0.52, 0.36),
    (0.61, 0.41, 0.28),
    (0.50, 0.33, 0.23),
    (0.41, 0.27, 0.19),
)
LIPS = (
    (0.80, 0.41, 0.41),
    (0.78, 0.39, 0.38),
    (0.74, 0.36, 0.34),
    (0.69, 0.34, 0.31),
    (0.60, 0.28, 0.27),
    (0.54, 0.21, 0.22),
    (0.58, 0.23, 0.26),
    (0.63, 0.28, 0.31),
)
HAIR = (
    ("black", (0.09, 0.08, 0.09)),
    ("dark brown", (0.22, 0.13, 0.09)),
    ("brown", (0.38, 0.23, 0.13)),
    ("light brown", (0.55, 0.37, 0.20)),
    ("blond", (0.88, 0.70, 0.40)),
    ("red", (0.68, 0.27, 0.12)),
    ("grey", (0.60, 0.60, 0.61)),
    ("white", (0.90, 0.89, 0.86)),
    ("blue", (0.20, 0.34, 0.62)),
    ("pink", (0.86, 0.46, 0.60)),
)
HAIR_SHARE = (0.20, 0.18, 0.16, 0.10, 0.12, 0.09, 0.06, 0.05, 0.02, 0.02)
EYES = (
    ("brown", (0.36, 0.21, 0.11)),
    ("dark", (0.20, 0.12, 0.08)),
    ("hazel", (0.50, 0.36, 0.15)),
    ("blue", (0.26, 0.48, 0.76)),
    ("green", (0.30, 0.52, 0.34)),
    ("grey", (0.45, 0.53, 0.58)),
)
COLOURS = (
    ("red", (0.80, 0.20, 0.20)),
    ("orange", (0.92, 0.52, 0.20)),
    ("yellow", (0.93, 0.79, 0.30)),
    ("green", (0.25, 0.58, 0.34)),
    ("teal", (0.16, 0.55, 0.58)),
    ("blue", (0.22, 0.40, 0.76)),
    ("purple", (0.50, 0.32, 0.68)),
    ("pink", (0.92, 0.56, 0.66)),
    ("white", (0.93, 0.93, 0.91)),
    ("grey", (0.52, 0.54, 0.57)),
    ("black", (0.15, 0.15, 0.18)),
    ("brown", (0.48, 0.33, 0.22)),
)
STYLES = (
    "bald",
    "buzz",
    "swept",
    "quiff",
    "fringe",
    "bob",
    "long",
    "wavy",
    "curly",
    "tied",
    "scarf",
    "crop",
)
MANLY = (0.13, 0.18, 0.26, 0.18, 0.06, 0.0, 0.03, 0.03, 0.07, 0.0, 0.0, 0.06)
WOMANLY = (0.01, 0.03, 0.05, 0.0, 0.05, 0.20, 0.20, 0.17, 0.12, 0.08, 0.06, 0.03)
COVERS_EARS = ("long", "wavy", "bob", "scarf")
BEARDS = ("none", "stubble", "full", "goatee")
PATTERNS = ("plain", "striped", "pinstriped", "dotted")
COLLARS = ("round", "v", "shirt")
BACKDROPS = ("plain", "lights", "window", "panels")


@dataclass(frozen=True)
class Identity:
    """Attributes of N portraits: (N,) numbers, (N, 3) RGB colours in [0, 1], choices as int64."""

    # choices
    womanly: Tensor  # 1 drawn as a woman, 0 as a man
    style: Tensor  # index into STYLES
    hair_name: Tensor
    eye_name: Tensor
    cloth_name: Tensor
    backdrop_name: Tensor
    beard: Tensor  # index into BEARDS
    pattern: Tensor  # index into PATTERNS
    collar: Tensor  # index into COLLARS
    backdrop: Tensor  # index into BACKDROPS
    # colours
    skin: Tensor
    lips: Tensor
    hair: Tensor
    brow: Tensor
    iris: Tensor
    cloth: Tensor
    cloth_second: Tensor
    backdrop_low: Tensor
    backdrop_high: Tensor
    frame: Tensor  # of the glasses
    # things worn or grown: 0 or 1, or a strength
    glasses: Tensor
    round_glasses: Tensor
    earrings: Tensor
    freckles: Tensor
    moustache: Tensor
    mole: Tensor
    lashes: Tensor
    blush: Tensor
    gloss: Tensor
    # shape
    face_width: Tensor
    taper: Tensor  # how much the jaw narrows
    jaw_square: Tensor  # exponent of the jaw's curve
    eye_x: Tensor
    eye_y: Tensor
    eye_width: Tensor
    eye_open: Tensor  # height over half-width
    eye_tilt: Tensor
    iris_size: Tensor
    brow_y: Tensor
    brow_thick: Tensor
    brow_arch: Tensor
    brow_tilt: Tensor
    nose_width: Tensor
    nose_y: Tensor
    mouth_y: Tensor
    mouth_width: Tensor  # half-width at rest
    mouth_height: Tensor  # inner height when fully open
    lip_upper: Tensor
    lip_lower: Tensor
    corner: Tensor  # mouth corners up (positive) or down
    neck: Tensor
    ear: Tensor
    # place and light
    scale: Tensor  # picture half-heights per face unit
    offset_x: Tensor
    offset_y: Tensor
    lean: Tensor  # radians
    light: Tensor  # -1 left .. 1 right
    part: Tensor  # where the hair parts
    phase: Tensor  # 0 .. 2 pi, for textures
    blots: Tensor  # (N, 4, 4) uniforms that place soft lights in the background

    def __len__(self) -> int:
        return self.skin.shape[0]

    def __getitem__(self, index: Tensor | slice) -> Identity:
        """The chosen portraits."""
        return Identity(**{field.name: getattr(self, field.name)[index] for field in fields(self)})


class _Draws:
    """Hands out the uniforms of a table one after the other, shaped as the attributes need them."""

    def __init__(self, seeds: Tensor) -> None:
        self.values = table(seeds, stream=0, count=128)
        self.used = 0

    def raw(self, count: int) -> Tensor:
        self.used += count
        return self.values[:, self.used - count : self.used]

    def between(self, low: float, high: float) -> Tensor:
        return low + (high - low) * self.raw(1)[:, 0]

    def chance(self, share: float | Tensor) -> Tensor:
        return (self.raw(1)[:, 0] < share).to(torch.float32)

    def choice(self, shares: Tensor) -> Tensor:
        """Index drawn with the given shares: (K,) or (N, K), rows adding up to 1."""
        edges = shares.cumsum(-1)[..., :-1]
        return (self.raw(1) >= edges).sum(-1)

    def colour(self, palette: Tensor, index: Tensor, spread: float) -> Tensor:
        return (palette[index] + spread * (self.raw(3) - 0.5)).clamp(0.03, 0.99)


def _palette(entries: tuple[tuple[str, tuple[float, float, float]], ...], like: Tensor) -> Tensor:
    return torch.tensor([rgb for _, rgb in entries], device=like.device)


def luminance(rgb: Tensor) -> Tensor:
    """Rec. 709 weights on stored values; (..., 3) -> (...)."""
    return rgb @ rgb.new_tensor((0.2126, 0.7152, 0.0722))


def _gradient(stops: tuple[tuple[float, float, float], ...], position: Tensor) -> Tensor:
    """Colour at ``position`` (N,) in [0, 1] along evenly spaced stops."""
    colours = torch.tensor(stops, device=position.device)
    place = position * (len(stops) - 1)
    low = place.floor().clamp(max=len(stops) - 2).to(torch.int64)
    return torch.lerp(colours[low], colours[low + 1], (place - low)[:, None])


def _complexion(draws: _Draws) -> dict[str, Tensor]:
    """Skin evenly spread over the palette; lips, brows and hair that stay visible on it."""
    womanly = draws.chance(0.5)
    tone = draws.raw(1)[:, 0]
    skin = (_gradient(SKIN, tone) * (1 + 0.08 * (draws.raw(1) - 0.5)) + 0.03 * (draws.raw(3) - 0.5)).clamp(
        0.15, 1
    )
    natural = _gradient(LIPS, tone)
    stick = torch.stack(
        (draws.between(0.66, 0.86), draws.between(0.16, 0.30), draws.between(0.22, 0.40)), dim=-1
    )
    painted = (draws.chance(0.45) * womanly * draws.between(0.5, 1.0))[:, None]
    lips = torch.lerp(natural, stick, painted)
    hair_name = draws.choice(torch.tensor(HAIR_SHARE, device=skin.device))
    hair = draws.colour(_palette(HAIR, skin), hair_name, 0.06)
    # Brows darker than the skin by a margin, whatever the hair's colour.
    limit = luminance(skin)[:, None] * 0.50
    brow = hair * 0.72 * (limit / luminance(hair * 0.72)[:, None].clamp_min(1e-3)).clamp(max=1.0)
    eye_name = draws.choice(torch.tensor((0.26, 0.22, 0.14, 0.16, 0.12, 0.10), device=skin.device))
    iris = draws.colour(_palette(EYES, skin), eye_name, 0.06)
    return {
        "womanly": womanly.to(torch.int64),
        "skin": skin,
        "lips": lips,
        "hair": hair,
        "hair_name": hair_name,
        "brow": brow,
        "iris": iris,
        "eye_name": eye_name,
        "gloss": draws.between(0.2, 1.0) * (0.4 + 0.6 * painted[:, 0]),
        "blush": draws.between(0.0, 0.6) + 0.3 * womanly * draws.raw(1)[:, 0],
        "lashes": draws.between(0.3, 0.7) + 0.3 * womanly,
        "freckles": draws.chance(0.16) * (tone < 0.6),
        "mole": draws.chance(0.12),
    }


def _wardrobe(draws: _Draws, womanly: Tensor) -> dict[str, Tensor]:
    """Hair style, beard, glasses, clothes and the wall behind."""
    like = draws.values
    mix = womanly.to(like.dtype)[:, None]
    style = draws.choice(
        torch.lerp(torch.tensor(MANLY, device=like.device), torch.tensor(WOMANLY, device=like.device), mix)
    )
    man = 1 - mix
    beards = torch.tensor((0.58, 0.16, 0.16, 0.10), device=like.device) * man
    beards = torch.cat((beards[:, :1] + mix, beards[:, 1:]), dim=-1)
    colours = _palette(COLOURS, like)
    even = torch.full((len(COLOURS),), 1 / len(COLOURS), device=like.device)
    cloth_name, second, wall = draws.choice(even), draws.choice(even), draws.choice(even)
    quiet = torch.lerp(draws.colour(colours, wall, 0.12), draws.values.new_tensor((0.62, 0.62, 0.62)), 0.38)
    return {
        "style": style,
        "beard": draws.choice(beards),
        "moustache": draws.chance(0.20 * man[:, 0]),
        "glasses": draws.chance(0.22),
        "round_glasses": draws.chance(0.5),
        "frame": draws.raw(3) * torch.tensor((0.42, 0.26, 0.3), device=like.device) + 0.03,
        "earrings": draws.chance(0.06 + 0.38 * mix[:, 0]),
        "cloth_name": cloth_name,
        "backdrop_name": wall,
        "cloth": draws.colour(colours, cloth_name, 0.10),
        "cloth_second": draws.colour(colours, second, 0.10),
        "pattern": draws.choice(torch.tensor((0.46, 0.2, 0.14, 0.2), device=like.device)),
        "collar": draws.choice(torch.tensor((0.45, 0.3, 0.25), device=like.device)),
        "backdrop": draws.choice(torch.tensor((0.3, 0.34, 0.18, 0.18), device=like.device)),
        "backdrop_high": (quiet * draws.between(0.9, 1.15)[:, None]).clamp(0.05, 0.97),
        "backdrop_low": (quiet * draws.between(0.5, 0.9)[:, None]).clamp(0.05, 0.97),
        "blots": draws.raw(16).unflatten(1, (4, 4)),
    }


def _build(draws: _Draws, womanly: Tensor) -> dict[str, Tensor]:
    """Proportions of the face and its place in the picture."""
    soft = womanly.to(torch.float32)
    return {
        "face_width": draws.between(0.72, 0.81) + 0.02 * (1 - soft),
        "taper": draws.between(0.16, 0.30) + 0.05 * soft,
        "jaw_square": draws.between(2.0, 2.35) + 0.25 * (1 - soft),
        "eye_x": draws.between(0.315, 0.36),
        "eye_y": draws.between(-0.09, -0.01),
        "eye_width": draws.between(0.148, 0.178) + 0.01 * soft,
        "eye_open": draws.between(0.50, 0.66) + 0.06 * soft,
        "eye_tilt": draws.between(-0.10, 0.16),
        "iris_size": draws.between(0.52, 0.60),
        "brow_y": draws.between(0.205, 0.26),
        "brow_thick": draws.between(0.026, 0.042) + 0.012 * (1 - soft),
        "brow_arch": draws.between(0.5, 2.2),
        "brow_tilt": draws.between(-0.12, 0.14),
        "nose_width": draws.between(0.105, 0.155) - 0.01 * soft,
        "nose_y": draws.between(0.27, 0.32),
        "mouth_y": draws.between(0.575, 0.615),
        "mouth_width": draws.between(0.325, 0.372),
        "mouth_height": draws.between(0.33, 0.39),
        "lip_upper": draws.between(0.052, 0.088) + 0.008 * soft,
        "lip_lower": draws.between(0.080, 0.118) + 0.010 * soft,
        "corner": draws.between(0.0, 1.8),
        "neck": draws.between(0.40, 0.46) + 0.06 * (1 - soft),
        "ear": draws.between(0.85, 1.1),
        "scale": draws.between(0.73, 0.79),
        "offset_x": draws.between(-0.04, 0.04),
        "offset_y": draws.between(-0.165, -0.125),
        "lean": draws.between(-0.035, 0.035),
        "light": draws.between(-0.9, 0.9),
        "part": draws.between(-0.35, 0.35),
        "phase": draws.between(0.0, 6.2832),
    }


def identities(seeds: Tensor) -> Identity:
    """Portraits of the given seeds (N,) int64; each depends on its own seed alone, equal on every device."""
    draws = _Draws(seeds)
    attributes = _complexion(draws)
    attributes |= _wardrobe(draws, attributes["womanly"])
    attributes |= _build(draws, attributes["womanly"])
    return Identity(**attributes)


__all__ = ["Identity", "identities", "luminance"]
