"""Who owns which pixels."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from infinite_talk.errors import UsageError
from infinite_talk.plan.people import official_box, person_masks
from infinite_talk.request import Box


@given(st.integers(40, 200), st.integers(40, 200))
def test_two_people_share_the_picture(height, width):
    left, right, background = person_masks(height, width, [None, None])
    assert not (left & right).any()
    assert ((left | right) ^ background).all()
    assert not left[:, width // 2 :].any()
    assert not right[:, : width // 2].any()


def test_one_person_owns_everything():
    assert person_masks(4, 6, [None]).all()
    person, background = person_masks(4, 6, [Box(1, 1, 3, 2)])
    assert person.sum() == 2
    assert (person ^ background).all()


def test_more_people_with_boxes_and_masks():
    mask = np.zeros((10, 20), np.bool_)
    mask[:, 15:] = True
    masks = person_masks(10, 20, [Box(0, 0, 5, 10), Box(5.9, 2, 10, 99), mask])
    assert masks.shape == (4, 10, 20)
    assert masks[1, 2:, 5:10].all()
    assert masks[1].sum() == 40
    assert (masks[3] == ~masks[:3].any(axis=0)).all()


def test_official_boxes_name_rows_first():
    assert official_box([60, 100, 640, 560]) == Box(left=100, top=60, right=560, bottom=640)
    with pytest.raises(UsageError, match="four numbers"):
        official_box([1, 2, 3])


@pytest.mark.parametrize(
    ("given_", "hint"),
    [
        ([None, None, None], "where each of them is"),
        ([Box(0, 0, 4, 4), None], "1 of 2 people"),
        ([Box(30, 30, 40, 40)], "contains no pixel"),
        ([Box(3, 3, 3, 8)], "contains no pixel"),
        ([Box(-9, -9, -1, -1)], "contains no pixel"),
    ],
)
def test_unclear_places_are_refused(given_, hint):
    with pytest.raises(UsageError, match=hint):
        person_masks(10, 20, given_)
