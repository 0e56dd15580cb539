"""The chart: a readable PNG for short, long, flat and empty tracks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from infinite_talk.lipsync import draw_chart


def _ink(path: Path, colour: tuple[int, int, int]) -> int:
    """Pixels near a colour."""
    with Image.open(path) as picture:
        values = np.asarray(picture.convert("RGB"), np.int16)
    return int((np.abs(values - colour).max(-1) < 24).sum())


@pytest.mark.parametrize("frames", [10, 130, 15_000])
def test_tracks_of_any_length_are_drawn(tmp_path: Path, frames: int):
    track = 0.05 + 0.05 * np.sin(np.arange(frames) / 7)
    path = tmp_path / "chart.png"
    draw_chart(path, title="talk.mp4", figures="r 0.9", loudness=track * 10, opening=track)
    with Image.open(path) as picture:
        assert picture.format == "PNG"
        assert picture.size == (1200, 520)
    assert _ink(path, (0xCF, 0x4A, 0x4A)) > 500, "the mouth's curve"
    assert _ink(path, (0x3D, 0x6F, 0xB6)) > 500, "the loudness"


def test_seams_and_the_expected_mouth_add_ink(tmp_path: Path):
    track = 0.05 + 0.05 * np.sin(np.arange(120) / 7)
    plain, full = tmp_path / "plain.png", tmp_path / "full.png"
    draw_chart(plain, title="a", figures="b", loudness=track, opening=track)
    draw_chart(
        full, title="a", figures="b", loudness=track, opening=track, reference=track[::-1], seams=[40, 80]
    )
    assert _ink(full, (0x2B, 0x2F, 0x38)) > _ink(plain, (0x2B, 0x2F, 0x38)) + 200
    assert _ink(full, (0x9A, 0xA1, 0xAD)) > _ink(plain, (0x9A, 0xA1, 0xAD)) + 100


@pytest.mark.parametrize("frames", [0, 1, 2])
def test_flat_and_empty_tracks_do_not_fail(tmp_path: Path, frames: int):
    zeros = np.zeros(frames)
    draw_chart(tmp_path / "c.png", title="", figures="", loudness=zeros, opening=zeros, reference=zeros)
    assert (tmp_path / "c.png").stat().st_size > 1000
