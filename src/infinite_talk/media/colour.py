"""Keeps the colours of a long video from drifting: Reinhard's transfer of statistics in CIE Lab.

Every frame's mean and standard deviation per Lab channel are moved to those of one reference picture
(Reinhard et al., "Color Transfer between Images", 2001; in CIE Lab under D65 as the official InfiniteTalk
program does). The reference is measured once, and everything stays on the device of the frames.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

# Linear sRGB to CIE XYZ under D65, rounded to six digits as in the official program's library.
_XYZ_OF_RGB = (
    (0.412453, 0.357580, 0.180423),
    (0.212671, 0.715160, 0.072169),
    (0.019334, 0.119193, 0.950227),
)
_D65 = (0.95047, 1.0, 1.08883)  # white point, 2 degree observer
_LAB_KNEE = 0.008856  # CIE 1976: below this the cube root is continued by a straight line
_LAB_SLOPE = 7.787
_LAB_OFFSET = 16.0 / 116.0
# Deviations that rounding alone produces: one 8-bit step in one pixel of a megapixel picture is above this.
_FLAT = 1e-4


@dataclass(frozen=True, slots=True)
class _Space:
    """The numbers of the colour space on a device, float32. For a whole window once: each is a copy that a GPU
    waits for."""

    xyz_of_rgb: torch.Tensor  # (3, 3)
    rgb_of_xyz: torch.Tensor  # (3, 3)
    white: torch.Tensor  # (3, 1, 1)

    @classmethod
    def on(cls, device: torch.device) -> _Space:
        matrix = torch.tensor(_XYZ_OF_RGB, dtype=torch.float64)
        white = torch.tensor(_D65, dtype=torch.float64)[:, None, None]
        return cls(*(part.to(device, torch.float32) for part in (matrix, torch.linalg.inv(matrix), white)))


@dataclass(frozen=True, slots=True)
class ColourReference:
    """Lab statistics of the picture whose colours the video keeps; each ``(3, 1, 1)``."""

    mean: torch.Tensor
    std: torch.Tensor

    @classmethod
    def of(cls, picture: torch.Tensor) -> ColourReference:
        """Measure ``picture``, RGB ``(3, H, W)`` in [-1, 1]; values outside are clipped first."""
        mean, std = _statistics(lab_of_rgb(_unit(picture).float()))
        return cls(mean, std)

    def to(self, device: torch.device) -> ColourReference:
        """The same statistics on ``device``."""
        return ColourReference(self.mean.to(device), self.std.to(device))


def match_colour(frames: torch.Tensor, reference: ColourReference, strength: float) -> torch.Tensor:
    """Move the Lab statistics of each frame to the reference's.

    Args:
        frames: RGB ``(3, F, H, W)`` in [-1, 1]; values outside are clipped first.
        reference: statistics of the picture to follow.
        strength: 0 returns ``frames`` untouched, 1 the full correction; linear in RGB between.

    Returns:
        float32 ``(3, F, H, W)`` in [-1, 1].
    """
    if not 0.0 <= strength <= 1.0:
        raise ValueError(f"colour strength {strength} is outside 0..1")
    if strength == 0.0:
        return frames
    reference, space = reference.to(frames.device), _Space.on(frames.device)
    matched = torch.empty(frames.shape, dtype=torch.float32, device=frames.device)
    # Frame by frame, so that the Lab pictures cost the memory of one frame and not of a window.
    for index in range(frames.shape[1]):
        source = _unit(frames[:, index].float())
        moved = _move(lab_of_rgb(source, space), reference)
        corrected = rgb_of_lab(moved, space).clamp(0.0, 1.0)
        matched[:, index] = ((1.0 - strength) * source + strength * corrected) * 2.0 - 1.0
    return matched


def lab_of_rgb(rgb: torch.Tensor, space: _Space | None = None) -> torch.Tensor:
    """CIE Lab (L 0..100, a, b) of gamma-coded sRGB in [0, 1]; both ``(3, H, W)`` float32."""
    space = space or _Space.on(rgb.device)
    linear = torch.where(rgb > 0.04045, ((rgb + 0.055) / 1.055).clamp(min=0.0) ** 2.4, rgb / 12.92)
    xyz = _mix(space.xyz_of_rgb, linear) / space.white
    bent = torch.where(
        xyz > _LAB_KNEE, xyz.clamp(min=_LAB_KNEE) ** (1.0 / 3.0), _LAB_SLOPE * xyz + _LAB_OFFSET
    )
    x, y, z = bent
    return torch.stack((116.0 * y - 16.0, 500.0 * (x - y), 200.0 * (y - z)))


def rgb_of_lab(lab: torch.Tensor, space: _Space | None = None) -> torch.Tensor:
    """Gamma-coded sRGB of CIE Lab, both ``(3, H, W)`` float32; what sRGB cannot show lies outside [0, 1]."""
    space = space or _Space.on(lab.device)
    lightness, a, b = lab
    y = (lightness + 16.0) / 116.0
    bent = torch.stack((y + a / 500.0, y, (y - b / 200.0).clamp(min=0.0)))  # no negative blue stimulus
    knee = 0.2068966  # cube root of the knee above
    xyz = torch.where(bent > knee, bent**3, (bent - _LAB_OFFSET) / _LAB_SLOPE)
    linear = _mix(space.rgb_of_xyz, xyz * space.white)
    return torch.where(
        linear > 0.0031308, 1.055 * linear.clamp(min=0.0) ** (1.0 / 2.4) - 0.055, linear * 12.92
    )


def _move(lab: torch.Tensor, reference: ColourReference) -> torch.Tensor:
    """Shift and scale each Lab channel to the reference; a flat channel takes the reference's mean.

    The official program asks for a deviation of exactly 0, and so can amplify the rounding of a flat frame.
    """
    mean, std = _statistics(lab)
    moved = (lab - mean) * (reference.std / std) + reference.mean
    return torch.where(std < _FLAT, reference.mean.expand_as(lab), moved)


def _statistics(lab: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and population standard deviation over the picture, each ``(3, 1, 1)``."""
    std, mean = torch.std_mean(lab, dim=(1, 2), correction=0, keepdim=True)
    return mean, std


def _unit(picture: torch.Tensor) -> torch.Tensor:
    return ((picture + 1.0) / 2.0).clamp(0.0, 1.0)


def _mix(matrix: torch.Tensor, picture: torch.Tensor) -> torch.Tensor:
    """Apply a 3 x 3 colour matrix to ``(3, H, W)``, in full precision also where matmul may round to TF32."""
    return (matrix[:, :, None, None] * picture[None]).sum(1)
