"""Speech windows against plain loops."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from infinite_talk.plan.speech import mirrored_tail, official_speech_indices, speech_indices
from infinite_talk.plan.windows import plan_windows
from infinite_talk.types import Window


@given(st.integers(0, 300), st.integers(0, 8), st.integers(1, 400))
def test_indices_are_clamped_neighbours(start, n, length):
    frames = 4 * n + 1
    window = Window(0, start, frames, 0, frames, start)
    got = speech_indices(window, length)
    assert got.shape == (frames, 5)
    for frame in range(frames):
        for offset in range(-2, 3):
            wanted = min(max(start + frame + offset, 0), length - 1)
            assert got[frame, offset + 2] == wanted


@given(st.integers(1, 50), st.integers(0, 120))
def test_mirrored_tail_plays_backwards(length, end):
    own = list(range(length))
    order = mirrored_tail(length, end).tolist()
    if end < length:
        assert order == own
    else:
        missing = end - length + 3
        assert order == own + own[-missing:][::-1]


def test_only_the_last_of_several_windows_is_mirrored():
    plan = plan_windows(30, frames=17, motion=5)
    assert len(plan.windows) == 3
    plain = [speech_indices(window, 30).tolist() for window in plan.windows]
    official = [official_speech_indices(plan, window, 30).tolist() for window in plan.windows]
    assert official[:2] == plain[:2]
    assert official[2] != plain[2]
    assert official[2][6] == [28, 29, 29, 28, 27]

    single = plan_windows(9, frames=17, motion=5)
    assert official_speech_indices(single, single.windows[0], 9).max() == 8
