"""Scores of tracks: known answers, and the ways in which a bad mouth must fail."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infinite_talk.lipsync import (
    amplitude_ratio,
    best_lag,
    closed_share,
    envelope,
    loudness_db,
    pearson,
    score,
)
from infinite_talk.lipsync import silence as silence_of
from infinite_talk.lipsync.scores import shifted_correlation


def speech(seed: int = 0, frames: int = 120) -> np.ndarray:
    """A smooth positive track like a mouth's."""
    noise = np.random.default_rng(seed).normal(size=frames + 8)
    smooth = np.convolve(noise, np.hanning(9) / 4, mode="valid")
    return np.clip(smooth, 0, None).astype(np.float32) * 0.05


def test_pearson_agrees_with_numpy():
    a, b = speech(1), speech(1) + 0.5 * speech(2)
    assert pearson(a, b) == pytest.approx(float(np.corrcoef(a, b)[0, 1]), abs=1e-9)


@pytest.mark.parametrize("constant", [0.0, 0.05, 1e6])
def test_a_frozen_mouth_correlates_with_nothing(constant):
    frozen = np.full(120, constant)
    assert pearson(frozen, speech()) == 0.0
    assert amplitude_ratio(frozen, speech()) == pytest.approx(0.0)
    assert pearson(frozen + 1e-12 * np.random.default_rng(0).normal(size=120), speech()) == pytest.approx(
        0, abs=0.3
    )


@given(shift=st.integers(-5, 5), seed=st.integers(0, 1000))
@settings(max_examples=50, deadline=None)
def test_the_lag_is_the_number_of_frames_by_which_the_track_is_late(shift: int, seed: int):
    long = speech(seed, 140)
    late = long[10 - shift : 130 - shift]
    lag, r = best_lag(late, long[10:130])
    assert (lag, r) == (shift, pytest.approx(1.0))
    assert best_lag(long[10:130], late)[0] == -shift


def test_another_clips_track_is_not_taken_for_the_right_one():
    values = [abs(pearson(speech(i), speech(i + 100))) for i in range(40)]
    assert np.mean(values) < 0.25
    assert max(values) < 0.6


def test_amplitude_is_the_ratio_of_deviations():
    assert score(0.5 * speech() + 0.01, speech()).amplitude == pytest.approx(0.5, rel=1e-5)


def test_shifts_longer_than_the_track_give_nothing():
    assert shifted_correlation([1, 2, 3, 4], [1, 2, 3, 4], 4) == 0.0
    assert score([1.0, 2.0], [1.0, 2.0]).r == 0.0


def test_tracks_of_different_lengths_are_refused():
    with pytest.raises(ValueError, match="equal length"):
        pearson(np.zeros(5), np.zeros(6))


def test_closed_share_counts_silent_frames_alone():
    opening = np.array([0.0, 0.1, 0.0, 0.1])
    assert closed_share(opening, np.array([True, True, False, False])) == 0.5
    assert closed_share(opening, np.zeros(4, bool)) is None


def test_loudness_follows_the_level_and_the_time_of_sound():
    rate = 16_000
    time = np.arange(4 * rate) / rate
    tone = np.sin(2 * np.pi * 220 * time).astype(np.float32)
    tone[: 1 * rate] = 0
    tone[2 * rate : 3 * rate] *= 0.1
    level = loudness_db(tone, rate, 100)
    assert level.shape == (100,)
    assert level[10] == -60.0
    assert level[35] == pytest.approx(0.0, abs=0.3)
    assert level[60] == pytest.approx(-20.0, abs=0.3)
    quiet = silence_of(level)
    assert quiet[:20].all()
    assert not quiet[23:].any()
    assert envelope(level)[60] == pytest.approx(0.5, abs=0.01)
    stereo = np.stack((tone, tone), axis=1)
    np.testing.assert_allclose(loudness_db(stereo, rate, 100), level, atol=1e-3)


def test_a_recording_of_nothing_is_silent_throughout():
    level = loudness_db(np.zeros(16_000, np.float32), 16_000, 25)
    assert silence_of(level).all()
    assert silence_of(loudness_db(np.zeros(800, np.float32), 16_000, 3)).shape == (3,)
    assert loudness_db(np.zeros(0, np.float32), 16_000, 0).shape == (0,)
