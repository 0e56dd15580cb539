"""``measure_quality``: seams and costs from what lies beside the video, colours as written out, the mouth."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from infinite_talk import InputError
from infinite_talk.media.film import write_film
from infinite_talk.quality import EVERY, WindowCost, mean_colours, measure_quality


def film(path: Path, levels: list[int]) -> Path:
    """Grey pictures of these levels, without sound."""
    write_film(
        path,
        (np.full((64, 64, 3), level, np.uint8) for level in levels),
        height=64,
        width=64,
        rate=Fraction(25),
        crf=0,
        soundtrack=None,
        tags={},
    )
    return path


def lightness(level: int) -> float:
    """L of CIE Lab for a grey of sRGB, written out (CIE 15:2004; IEC 61966-2-1)."""
    share = level / 255
    linear = ((share + 0.055) / 1.055) ** 2.4 if share > 0.04045 else share / 12.92
    return 116 * linear ** (1 / 3) - 16


@pytest.fixture(scope="module")
def video(tmp_path_factory) -> Path:
    path = film(tmp_path_factory.mktemp("quality") / "video.mp4", [100] * 10 + [120] * 10)
    windows = [
        {"start": 0, "frames": 12, "seconds": 1.5, "memory": 1000},
        {"start": 12, "frames": 8, "seconds": 2.5},
        {"start": "?", "seconds": "?"},
    ]
    path.with_name("video.mp4.json").write_text(json.dumps({"windows": windows}))
    return path


def test_colours_are_looked_at_at_regular_times(video):
    found = mean_colours(video)
    assert len(found) == 20 // EVERY
    for (light, red, yellow), level in zip(found, (100, 100, 120, 120), strict=True):
        assert light == pytest.approx(lightness(level), abs=0.6)  # the film has 219 levels
        assert (red, yellow) == pytest.approx((0, 0), abs=0.6)


def test_a_whole_measurement(video):
    found = measure_quality(video)
    assert found.frames == len(found.opening) == len(found.loudness) == 20
    assert found.r is found.lag is found.speech_r is None  # nothing to hear
    assert found.expected == ()
    assert found.seams == (12,)
    assert found.windows == (WindowCost(0, 1.5, 1000), WindowCost(12, 2.5, None))
    assert found.drift[:2] == pytest.approx((0, 0), abs=0.3)
    assert found.drift[-1] == pytest.approx(lightness(120) - lightness(100), abs=0.8)
    json.dumps(found.drift, allow_nan=False)


def test_without_anything_beside_it_and_too_short(tmp_path):
    short = film(tmp_path / "short.mp4", [100] * 5)
    with pytest.raises(InputError) as raised:
        measure_quality(short)
    assert raised.value.code == "video_too_short"
    alone = measure_quality(film(tmp_path / "alone.mp4", [100] * 12))
    assert (alone.seams, alone.windows) == ((), ())
