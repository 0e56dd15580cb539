"""Loudness and the layout of two speakers equal the recorded runs of the official program."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from infinite_talk.inputs.audio import place_speech
from infinite_talk.inputs.loudness import integrated_loudness, normalise_loudness
from infinite_talk.request import AudioLayout
from tests.golden import GoldenFile, cases

CASES = cases("audio_prep")
LAYOUTS = {"para": AudioLayout.TOGETHER, "add": AudioLayout.IN_TURN}


def compare(got: np.ndarray, expected: torch.Tensor):
    torch.testing.assert_close(torch.from_numpy(got).double(), expected.double(), rtol=0, atol=1e-6)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_loudness(case: GoldenFile):
    rate = case.config["sr"]
    inputs = [key.removeprefix("in/") for key in case.keys if key.startswith("in/")]
    for name in inputs:
        samples = case[f"in/{name}"].numpy().copy()
        assert integrated_loudness(samples, rate) == pytest.approx(case.config[f"loudness_{name}"], abs=1e-4)
        normalise_loudness(samples, rate)
        compare(samples, case[f"out/{name}_norm"])
    silence = np.zeros(len(case["out/silence_norm"]), np.float32)
    assert normalise_loudness(silence, rate) is None
    compare(silence, case["out/silence_norm"])


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
@pytest.mark.parametrize("kind", LAYOUTS)
def test_two_speakers(case: GoldenFile, kind: str):
    first, second = (case[f"in/{name}"].numpy() for name in ("a", "b"))
    # The recording says what went in by the lengths of what came out.
    second = second[: len(case["out/add_1"]) - len(first)] if kind == "add" else second
    first, second = first.copy(), second.copy()
    for track in (first, second):
        normalise_loudness(track, case.config["sr"])
    placed = place_speech([first, second], LAYOUTS[kind])
    compare(placed[0], case[f"out/{kind}_1"])
    compare(placed[1], case[f"out/{kind}_2"])
    compare(placed[0] + placed[1], case[f"out/{kind}_sum"])


SILENT = [
    pytest.param(case, key, id=f"{case.name}-{key}")
    for case in CASES
    for key in case.keys
    if key.startswith("out/none") and key.endswith("_1")
]


@pytest.mark.parametrize(("case", "key"), SILENT)
def test_person_without_a_recording(case: GoldenFile, key: str):
    """``none1_para_1`` and ``_2``: person 1 has no recording, person 2 the other one."""
    stem = key.removesuffix("_1")
    silent = int(stem.removeprefix("out/none").partition("_")[0])
    recorded = case[f"{stem}_{3 - silent}"].numpy()
    tracks = [None if person == silent else recorded for person in (1, 2)]
    placed = place_speech(tracks, LAYOUTS[stem.rpartition("_")[2]])
    for person in (1, 2):
        compare(placed[person - 1], case[f"{stem}_{person}"])
