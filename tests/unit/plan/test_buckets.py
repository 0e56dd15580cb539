"""Sizes: what is understood, what is refused, and that a requested area keeps the source's shape."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infinite_talk.errors import UsageError
from infinite_talk.plan import buckets
from infinite_talk.plan.buckets import choose_size, nearest_bucket, nearest_legal, nearest_shape, parse_size
from infinite_talk.types import Size

SIDES = st.integers(1, 20_000)


def legal(size: Size) -> bool:
    return (
        all(buckets.MIN_SIDE <= side <= buckets.MAX_SIDE for side in (size.height, size.width))
        and size.height % buckets.STEP == size.width % buckets.STEP == 0
        and size.height * size.width <= buckets.MAX_AREA
    )


@given(SIDES, SIDES, st.sampled_from(["480", "720"]))
def test_bucket_is_the_nearest_key(height, width, tier):
    chosen = nearest_bucket(height, width, tier)
    assert legal(chosen)
    table = {Size(h, w): key for key, h, w in buckets._BUCKETS[tier]}
    assert all(abs(table[chosen] - height / width) <= abs(key - height / width) for key in table.values())


@given(SIDES, SIDES)
def test_nearest_legal_is_legal_and_its_own_nearest(height, width):
    size = nearest_legal(height, width)
    assert legal(size)
    assert nearest_legal(size.height, size.width) == size
    assert parse_size(f"{size.width}x{size.height}!").exact


@given(st.integers(128 * 128, buckets.MAX_AREA), st.floats(0.25, 4.0))
def test_area_keeps_the_shape(area, ratio):
    size = nearest_shape(area, ratio)
    assert legal(size)
    ideal = math.sqrt(area * ratio), math.sqrt(area / ratio)
    for side, wanted in zip((size.height, size.width), ideal, strict=True):
        assert abs(side - wanted) <= 16 + 1e-6


def test_area_and_shape_of_common_requests():
    assert choose_size(parse_size("833x481"), 1080, 1920) == Size(480, 848)
    assert choose_size(parse_size("192x192"), 1000, 1000) == Size(192, 192)
    assert choose_size(parse_size("640x640"), 300, 300) == Size(640, 640)
    assert choose_size(parse_size("832x480"), 1920, 1080) == Size(848, 480)
    assert choose_size(parse_size("832x480!"), 1920, 1080) == Size(480, 832)
    assert choose_size(parse_size("480"), 1080, 1920) == Size(448, 896)
    assert choose_size(parse_size("720"), 1080, 1920) == Size(704, 1280)


@pytest.mark.parametrize(
    ("text", "nearest"),
    [
        ("1x1", "64x64"),
        ("99999x99999", "1728x1728"),
        ("-1x480", "64x480"),
        ("833x481!", "832x480"),
        ("840x488!", "848x496"),
        ("63x64", "64x64"),
        ("0x0!", "64x64"),
    ],
)
def test_refused_sizes_name_the_nearest_legal_one(text, nearest):
    with pytest.raises(UsageError, match=rf"nearest legal size is {nearest}\."):
        parse_size(text)


@pytest.mark.parametrize(
    "text", ["", "481", "x", "10x", "1e3x4", "480p", "٣x٤", "9" * 5000 + "x1", "480x480!!"]
)
def test_other_words_are_no_size(text):
    with pytest.raises(UsageError, match="not understood") as refused:
        parse_size(text)
    assert len(str(refused.value)) < 200
