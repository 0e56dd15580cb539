"""Known colours in CIE Lab, and what colour correction promises."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from infinite_talk.media.colour import ColourReference, lab_of_rgb, match_colour, rgb_of_lab

# sRGB in 0..255 and its CIE Lab under D65, as published in colour tables.
KNOWN = {
    "black": ((0, 0, 0), (0.0, 0.0, 0.0)),
    "white": ((255, 255, 255), (100.0, 0.0, 0.0)),
    "grey": ((119, 119, 119), (50.03, 0.0, 0.0)),
    "red": ((255, 0, 0), (53.24, 80.09, 67.20)),
    "green": ((0, 255, 0), (87.73, -86.18, 83.18)),
    "blue": ((0, 0, 255), (32.30, 79.19, -107.86)),
    "orange": ((255, 165, 0), (74.93, 23.93, 78.95)),
    "nearly black": ((5, 5, 5), (1.37, 0.0, 0.0)),  # on the straight part of both curves
}


def picture(seed: int, height: int = 12, width: int = 10) -> torch.Tensor:
    return torch.rand((3, height, width), generator=torch.Generator().manual_seed(seed)) * 2 - 1


@pytest.mark.parametrize(("rgb", "lab"), KNOWN.values(), ids=KNOWN)
def test_known_colours(rgb, lab):
    pixel = torch.tensor(rgb, dtype=torch.float32)[:, None, None] / 255
    assert lab_of_rgb(pixel).flatten().tolist() == pytest.approx(lab, abs=0.03)


def test_there_and_back():
    levels = torch.linspace(0, 1, 9)
    rgb = torch.cartesian_prod(levels, levels, levels).T[:, None].contiguous()
    assert (rgb_of_lab(lab_of_rgb(rgb)) - rgb).abs().max() < 2e-4
    rgb = rgb.double()
    assert (rgb_of_lab(lab_of_rgb(rgb)) - rgb).abs().max() < 2e-6


def test_strength_zero_changes_nothing():
    frames = picture(1)[:, None] * 1.5  # also what lies outside [-1, 1]
    assert torch.equal(match_colour(frames, ColourReference.of(picture(2)), 0.0), frames)


def test_own_colours_are_a_fixed_point():
    frames = picture(3)[:, None]
    matched = match_colour(frames, ColourReference.of(frames[:, 0]), 1.0)
    assert (matched - frames).abs().max() < 5e-4


def test_statistics_are_those_of_the_reference():
    # Muted colours, so that nothing leaves the gamut and is clipped.
    reference, frame = picture(4) * 0.2 + 0.1, picture(5) * 0.2 - 0.3
    matched = match_colour(frame[:, None], ColourReference.of(reference), 1.0)[:, 0]
    ours, wanted = ColourReference.of(matched), ColourReference.of(reference)
    assert torch.allclose(ours.mean, wanted.mean, atol=1e-2)
    assert torch.allclose(ours.std, wanted.std, atol=1e-2)


def test_frames_do_not_influence_each_other():
    frames, reference = torch.stack([picture(s) for s in (6, 7, 8)], 1), ColourReference.of(picture(9))
    together = match_colour(frames, reference, 0.7)
    alone = torch.cat([match_colour(frames[:, i : i + 1], reference, 0.7) for i in range(3)], 1)
    assert torch.equal(together, alone)


@pytest.mark.parametrize("level", [-1.0, -0.3, 0.2, 0.77, 1.0])
def test_a_flat_frame_takes_the_mean(level):
    reference = ColourReference.of(picture(10))
    matched = match_colour(torch.full((3, 1, 19, 25), level), reference, 1.0)[:, 0]
    wanted = rgb_of_lab(reference.mean).clamp(0, 1) * 2 - 1
    assert (matched - wanted).abs().max() < 1e-5


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), strength=st.floats(0, 1), gain=st.floats(0, 3))
def test_output_is_finite_and_in_range(seed, strength, gain):
    frames = picture(seed)[:, None] * gain
    matched = match_colour(frames, ColourReference.of(picture(seed + 1)), strength)
    assert torch.isfinite(matched).all()
    assert strength == 0 or matched.abs().max() <= 1 + 1e-6


@pytest.mark.parametrize("strength", [-0.1, 1.1, float("nan")])
def test_strength_outside_its_range(strength):
    with pytest.raises(ValueError, match="outside"):
        match_colour(picture(0)[:, None], ColourReference.of(picture(0)), strength)


def test_half_precision_frames_are_measured_in_single():
    frames, reference = picture(11)[:, None], ColourReference.of(picture(12))
    rounded = frames.to(torch.bfloat16)
    assert torch.equal(match_colour(rounded, reference, 1.0), match_colour(rounded.float(), reference, 1.0))
