"""Properties of the window plan for every length, window, overlap and set of cuts."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infinite_talk.errors import UsageError
from infinite_talk.plan.windows import plan_official, plan_windows

FOUR_N_1 = st.integers(0, 20).map(lambda n: 4 * n + 1)


@st.composite
def requests(draw):
    frames = draw(st.integers(1, 21)) * 4 + 1
    motion = draw(st.integers(0, (frames - 5) // 4)) * 4 + 1
    length = draw(st.integers(1, 1000))
    cuts = draw(st.sets(st.integers(1, length - 1), max_size=6)) if length > 1 else set()
    return length, frames, motion, tuple(cuts)


@given(requests())
def test_plan_covers_the_video_once(request_):
    length, frames, motion, cuts = request_
    plan = plan_windows(length, frames=frames, motion=motion, cuts=cuts)
    made: list[int] = []
    for index, window in enumerate(plan.windows):
        assert window.index == index
        assert window.frames == frames
        assert 1 <= window.new <= frames - window.overlap
        assert window.reference == window.start
        fresh = window.start == 0 or window.start in cuts
        assert window.overlap == (0 if fresh and len(made) == window.start else motion)
        if window.overlap:
            before = plan.windows[index - 1]
            assert window.start == before.start + frames - motion
            assert before.new == frames - before.overlap, "a window that is continued is kept whole"
        made += range(window.start + window.overlap, window.start + window.overlap + window.new)
    assert made == list(range(length))
    assert plan.length == length
    assert {window.start for window in plan.windows if not window.overlap} == {0, *cuts}


@given(requests())
def test_no_window_is_superfluous(request_):
    length, frames, motion, _ = request_
    plan = plan_windows(length, frames=frames, motion=motion)
    needed = 1 + max(0, -((frames - length) // (frames - motion)))
    assert len(plan.windows) == needed


@given(requests())
def test_one_recording_is_planned_like_the_official_program(request_):
    length, frames, motion, _ = request_
    if length <= frames:
        with pytest.raises(UsageError, match="official program"):
            plan_official([length], frames=frames, motion=motion)
        return
    official = plan_official([length], frames=frames, motion=motion, max_frames=10_000)
    assert official == plan_windows(length, frames=frames, motion=motion)


def test_official_flaw_with_two_recordings():
    plan = plan_official([120, 163], frames=81, motion=9)
    assert plan.length == 153
    shorter = plan_official([170, 140], frames=81, motion=9)
    assert (shorter.length, [window.new for window in shorter.windows]) == (140, [81, 59, 0])


def test_window_knows_its_motion():
    first, second = plan_windows(100, frames=81, motion=9).windows
    assert (first.motion, first.motion_latents) == (1, 1)
    assert (second.motion, second.motion_latents) == (9, 3)
    assert (second.new, second.start) == (19, 72)


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        ({"length": 0, "frames": 81, "motion": 9}, "at least one"),
        ({"length": 9, "frames": 80, "motion": 9}, "nearest is 81"),
        ({"length": 9, "frames": 81, "motion": 0}, "nearest is 1"),
        ({"length": 9, "frames": 81, "motion": 81}, "at most 77"),
        ({"length": 9, "frames": 81, "motion": 9, "cuts": (9,)}, "inside the video"),
        ({"length": 9, "frames": 81, "motion": 9, "cuts": (0,)}, "inside the video"),
        ({"length": 9, "frames": 81, "motion": 9, "cuts": (-3, 4)}, "inside the video"),
    ],
)
def test_meaningless_numbers_are_refused(arguments, hint):
    length = arguments.pop("length")
    with pytest.raises(UsageError, match=hint):
        plan_windows(length, **arguments)
