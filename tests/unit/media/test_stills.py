"""Pictures of a finished video show the frames that they say."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from infinite_talk.errors import InputError
from infinite_talk.media.encode import write_segment
from infinite_talk.media.mux import join
from infinite_talk.media.stills import TILES, write_sprite_sheet, write_thumbnail


def steps(path: Path, windows: list[int], height: int = 64, width: int = 96) -> Path:
    """A video whose frame ``n`` is one grey of level ``2 n``."""
    segments, number = [], 0
    for count in windows:
        grey = [np.full((height, width, 3), min(250, 2 * (number + i)), np.uint8) for i in range(count)]
        segments.append(path.with_name(f"segment{number}.mp4"))
        write_segment(segments[-1], np.stack(grey), crf=10)
        number += count
    join(segments, path, frames=number, soundtrack=None, tags={})
    return path


def level(picture: Image.Image) -> float:
    return float(np.asarray(picture.convert("L"), float).mean())


def test_a_thumbnail_is_a_frame_a_third_into_the_video(tmp_path: Path) -> None:
    write_thumbnail(steps(tmp_path / "a.mp4", [30, 30, 30]), tmp_path / "a.webp")
    picture = Image.open(tmp_path / "a.webp")
    assert (picture.format, picture.size) == ("WEBP", (96, 64))
    assert abs(level(picture) - 2 * 30) < 3


@pytest.mark.parametrize("windows", [[1], [7], [9, 6], [60, 60, 5]])
def test_tiles_are_evenly_spaced_frames_in_order(tmp_path: Path, windows: list[int]) -> None:
    write_sprite_sheet(steps(tmp_path / "a.mp4", windows), tmp_path / "a.jpg")
    sheet = Image.open(tmp_path / "a.jpg")
    count = sum(windows)
    shown, columns = min(TILES, count), min(10, count)
    assert sheet.format == "JPEG"
    assert sheet.size == (columns * 96, -(-shown // columns) * 64)
    for tile in range(shown):
        left, top = tile % columns * 96, tile // columns * 64
        found = level(sheet.crop((left + 8, top + 8, left + 88, top + 56)))
        assert abs(found - min(250, 2 * (tile * count // shown))) < 4, tile


def test_large_pictures_are_made_small(tmp_path: Path) -> None:
    write_thumbnail(steps(tmp_path / "a.mp4", [2], height=1024, width=256), tmp_path / "a.webp")
    assert Image.open(tmp_path / "a.webp").size == (128, 512)


def test_what_is_no_video_is_said(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"no film")
    with pytest.raises(InputError, match=r"a\.mp4"):
        write_thumbnail(tmp_path / "a.mp4", tmp_path / "a.webp")
    assert not (tmp_path / "a.webp").exists()
