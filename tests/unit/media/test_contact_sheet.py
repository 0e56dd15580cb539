"""The contact sheet shows the right frames at the right places."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from infinite_talk.errors import InputError, NoSpaceError
from infinite_talk.media.contact_sheet import clock, contact_sheet
from infinite_talk.media.encode import write_segment


def ramp(path: Path, count: int) -> None:
    """A video that goes from black to white."""
    levels = np.linspace(0, 255, count).astype(np.uint8)
    write_segment(path, np.broadcast_to(levels[:, None, None, None], (count, 32, 48, 3)), crf=10)


def test_frames_from_first_to_last(tmp_path: Path):
    ramp(tmp_path / "a.mp4", 101)
    times = contact_sheet(tmp_path / "a.mp4", tmp_path / "a.png", 3, 2, width=96)
    assert times == pytest.approx([0, 0.8, 1.6, 2.4, 3.2, 4.0])
    sheet = np.asarray(Image.open(tmp_path / "a.png").convert("L"), dtype=float)
    row = sheet.shape[0] // 2
    seen = [sheet[36 + row * r, 52 + 100 * c] for r in range(2) for c in range(3)]
    assert seen == pytest.approx([0, 51, 102, 153, 204, 255], abs=4)


@pytest.mark.parametrize("count", [1, 2, 5])
def test_short_videos_leave_places_empty(tmp_path: Path, count: int):
    ramp(tmp_path / "a.mp4", count)
    times = contact_sheet(tmp_path / "a.mp4", tmp_path / "a.png", 4, 3, width=32)
    assert times == pytest.approx([n / 25 for n in range(count)])


def test_clock():
    assert [clock(Fraction(n, 25)) for n in (0, 1, 1499, 1500, 90_001)] == [
        "0:00.00",
        "0:00.04",
        "0:59.96",
        "1:00.00",
        "60:00.04",
    ]


def test_what_is_no_video(tmp_path: Path):
    (tmp_path / "a.mp4").write_bytes(b"ffconcat version 1.0\nfile /etc/passwd\n")
    for name in ("a.mp4", "missing.mp4"):
        with pytest.raises(InputError, match="cannot be shown"):
            contact_sheet(tmp_path / name, tmp_path / "a.png")


def test_a_place_that_cannot_be_written(tmp_path: Path):
    ramp(tmp_path / "a.mp4", 2)
    with pytest.raises(NoSpaceError):
        contact_sheet(tmp_path / "a.mp4", tmp_path / "a.mp4" / "b.png")
