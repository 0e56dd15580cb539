"""Ten minutes of video: memory does not grow, and sound and pictures are in step at the end."""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from bench.long_video import LongVideo, make_long_video, slope
from bench.sounds import delay, write_wav
from infinite_talk import Request, Settings, Speaker
from tests.bundles import QUICK_VAE, save_tiny_bundle
from tests.e2e.processes import PROCESSES

RATE = 16_000
MINUTES = 10


def syllables(seconds: float) -> np.ndarray:
    """Noise that comes and goes four times a second: no moment is like another."""
    times = np.arange(round(seconds * RATE)) / RATE
    loud = 3000 * (0.5 + 0.5 * np.sin(2 * np.pi * 4 * times))
    return np.random.default_rng(10).normal(0, 1, len(times)) * loud


@pytest.mark.slow
def test_ten_minutes(portrait: Path, tmp_path: Path):
    model = save_tiny_bundle(tmp_path / "model", vae=QUICK_VAE)
    recording = write_wav(tmp_path / "long.wav", syllables(60 * MINUTES + 0.37), RATE)
    request = Request(
        image=portrait,
        speakers=(Speaker(audio=recording),),
        steps=1,
        text_guidance=1.0,
        audio_guidance=1.0,
        window_frames=81,
        motion_frames=9,
    )
    with ProcessPoolExecutor(1, mp_context=PROCESSES) as alone:  # its memory is its own
        made: LongVideo = alone.submit(
            make_long_video, request, Settings(model=model), tmp_path / "long.mp4"
        ).result()
    print(made)  # seconds per window are for reading: machines are busy with other things, too
    assert made.windows > 200
    assert made.growth < 1.10
    assert made.frames == made.expected_frames == 25 * 60 * MINUTES + 9
    assert made.video_seconds == pytest.approx(made.frames / 25, abs=1e-6)
    assert made.sound_seconds == pytest.approx(made.frames / 25, abs=1e-3)
    assert {place: abs(seconds) < 0.020 for place, seconds in made.delays.items()} == dict.fromkeys(
        ("start", "middle", "end"), True
    )


def test_a_late_sound_is_noticed():
    sound = syllables(2)
    for late in (-400, 0, 3, 400):
        assert delay(sound[1000:-1000], sound[1000 - late : len(sound) - 1000 - late], RATE) == late / RATE


def test_a_run_that_slows_down_is_noticed():
    assert slope([2.0] * 50) == pytest.approx(0, abs=1e-12)
    assert slope([1.0 + 0.01 * i for i in range(101)]) == pytest.approx(0.01 / 1.5)
    assert slope([3.0]) == 0
