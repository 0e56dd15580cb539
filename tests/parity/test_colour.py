"""Colour correction against recorded frames of the official program."""

from __future__ import annotations

import itertools

import pytest
import torch

from infinite_talk.media.colour import ColourReference, lab_of_rgb, match_colour, rgb_of_lab
from tests.golden import GoldenFile, cases

TOLERANCE = 5e-4  # Lab in single precision amplifies rounding
CASES = cases("color")
STRENGTH = "out/strength_"
FLAT = "out/flat_strength_"


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_lab_of_the_reference_picture(case: GoldenFile):
    picture = (case["in/reference"][0, :, 0] + 1) / 2
    lab = lab_of_rgb(picture.clamp(0, 1)).permute(1, 2, 0)
    assert (lab - case["mid/ref_lab"]).abs().max() < TOLERANCE


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_frames_of_every_strength(case: GoldenFile):
    reference = ColourReference.of(case["in/reference"][0, :, 0])
    keys = [key for key in case.keys if key.startswith(STRENGTH)]
    assert keys
    for key in keys:
        ours = match_colour(case["in/source"][0], reference, float(key.removeprefix(STRENGTH)))
        assert (ours - case[key][0]).abs().max() < TOLERANCE, key


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_frames_without_contrast(case: GoldenFile):
    source = case["in/source_flat"][0]
    reference = ColourReference.of(case["in/reference"][0, :, 0])
    for key in (key for key in case.keys if key.startswith(FLAT)):
        strength = float(key.removeprefix(FLAT))
        ours, theirs = match_colour(source, reference, strength), case[key][0]
        for frame in range(source.shape[1]):
            flat = bool((source[:, frame] == source[:, frame, :1, :1]).all())
            allowed = _flat_answers(source[:, frame], reference, strength) if flat else []
            errors = [(answer - theirs[:, frame]).abs().max() for answer in (ours[:, frame], *allowed)]
            assert min(errors) < TOLERANCE, (key, frame)


def _flat_answers(source: torch.Tensor, reference: ColourReference, strength: float) -> list[torch.Tensor]:
    """What the official program can make of a flat frame: per channel the mean, or one deviation beside it.

    It compares a float32 standard deviation with exactly 0. Whether a flat frame passes that test hangs on
    how the sum of its pixels happens to be rounded; where it fails, a rounding error is divided by itself.
    Ours always takes the mean.
    """
    unit = ((source + 1) / 2).clamp(0, 1)
    answers = []
    for steps in itertools.product((0.0, 1.0, -1.0), repeat=3):
        lab = reference.mean + reference.std * torch.tensor(steps)[:, None, None]
        colour = rgb_of_lab(lab).clamp(0, 1).expand_as(unit)
        answers.append(((1 - strength) * unit + strength * colour) * 2 - 1)
    return answers
