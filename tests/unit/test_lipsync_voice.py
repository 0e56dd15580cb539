"""The mouth that speech asks for: true renders with their true speech pass, everything else does not."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from infinite_talk.errors import CheckpointError
from infinite_talk.lipsync import (
    Listener,
    expected_opening,
    load_listener,
    measure,
    pearson,
    score,
    shortcomings,
)
from infinite_talk.lipsync.voice import CHANNELS, CLASSES, FULL, VOICE
from tests.drawn import draw_clips, speak, write_video
from training.speech import phonemes

pytest.importorskip("espeakng_loader")
SENTENCES = [
    ("A warm wind blew over the open water.", "en-us+linda"),  # a voice that training held out
    ("Please bring me five large apples now.", "en-us+Michael"),  # another
]
SEED = 1_000_051


@dataclass(frozen=True)
class Talk:
    """A render with its speech."""

    frames: np.ndarray  # (F, H, W, 3)
    sound: np.ndarray  # (S,) at 16 kHz
    opening: np.ndarray  # (F,) in picture heights


@pytest.fixture(scope="module")
def listener() -> Listener:
    return load_listener()


@pytest.fixture(scope="module")
def talks() -> list[Talk]:
    made = []
    for text, voice in SENTENCES:
        sound, mouth = speak(text, voice)
        clips = draw_clips([SEED], len(mouth), mouth=mouth[None])
        made.append(Talk(clips.frames[0].numpy(), sound, clips.opening[0]))
    return made


@pytest.fixture
def judged(tmp_path: Path, listener: Listener):
    """What a video of these frames with this sound falls short of, in one line."""

    def judge(frames: np.ndarray, sound: np.ndarray) -> str:
        path = write_video(tmp_path / "talk.mp4", frames, sound)
        return "; ".join(shortcomings(measure(path, listener=listener)))

    return judge


def test_training_reads_the_same_channels_and_classes():
    assert phonemes.CHANNELS == CHANNELS
    assert len(phonemes.CLASSES) == CLASSES


def test_the_estimate_follows_voices_that_were_never_heard(talks: list[Talk], listener: Listener):
    for talk in talks:
        found = score(expected_opening(talk.sound, len(talk.frames), listener), talk.opening)
        assert found.r > 0.85
        assert abs(found.lag) <= 1
        assert 0.6 < found.amplitude < 1.4
    first, second = (expected_opening(talk.sound, 60, listener) for talk in talks)
    assert pearson(first, second) < 0.6


def test_loudness_does_not_matter(talks: list[Talk], listener: Listener):
    sound = talks[0].sound
    usual = expected_opening(sound, 50, listener)
    np.testing.assert_allclose(expected_opening(sound * 0.05, 50, listener), usual, atol=FULL / 50)


@pytest.mark.parametrize("frames", [10, 300])
def test_sound_of_any_length_fits_the_frames(talks: list[Talk], listener: Listener, frames: int):
    opening = expected_opening(talks[0].sound, frames, listener)
    assert opening.shape == (frames,)
    assert 0 <= opening.min() <= opening.max() <= FULL
    assert opening[len(talks[0].frames) + 5 :].max(initial=0) < 0.1 * FULL, "silence follows"


def test_the_right_speech_passes(talks: list[Talk], judged):
    for talk in talks:
        assert judged(talk.frames, talk.sound) == ""


def test_the_report_and_the_chart_show_the_speech(talks: list[Talk], listener: Listener, tmp_path: Path):
    path = write_video(tmp_path / "talk.mp4", talks[0].frames, talks[0].sound)
    report = measure(path, listener=listener, chart=tmp_path / "chart.png")
    assert report.with_speech is not None
    assert report.speech is not None and len(report.speech) == report.frames
    assert "against the speech" in report.sentence()
    assert report.summary()["speech"]["r"] == pytest.approx(report.with_speech.r, abs=1e-4)
    known = measure(path, listener=listener, truth=talks[0].opening)
    assert known.with_speech is None, "a true track is better than an estimate"


def test_another_recording_does_not_pass(talks: list[Talk], judged):
    first, second = talks
    assert "against the speech is under" in judged(first.frames, second.sound)
    assert "against the speech is under" in judged(second.frames, first.sound)


def test_a_frozen_mouth_does_not_pass(talks: list[Talk], judged):
    frozen = np.repeat(talks[0].frames[:1], len(talks[0].frames), axis=0)
    words = judged(frozen, talks[0].sound)
    assert "hardly moves" in words
    assert "against the speech is under" in words


@pytest.mark.parametrize("by", [-5, -2, 3, 5])
def test_shifted_sound_does_not_pass(talks: list[Talk], judged, by: int):
    assert f"{-by:+d} frames off the speech" in judged(talks[0].frames, np.roll(talks[0].sound, by * 640))


def test_a_mouth_that_hardly_opens_does_not_pass(judged):
    sound, mouth = speak(*SENTENCES[0])
    mouth = mouth * torch.tensor([0.35, 1, 1, 1, 1, 1])
    words = judged(draw_clips([SEED], len(mouth), mouth=mouth[None]).frames[0].numpy(), sound)
    assert "of what the speech asks for" in words


def test_weights_that_do_not_belong_together_are_refused(tmp_path: Path):
    with pytest.raises(CheckpointError):
        load_listener(voice=tmp_path / "none.safetensors")
    weights = load_file(VOICE)
    del weights["mix.bias"]
    with safe_open(VOICE, "pt") as file:
        facts = file.metadata()
    save_file(weights, tmp_path / "less.safetensors", facts)
    with pytest.raises(CheckpointError, match=r"1 missing \(mix\.bias\)"):
        load_listener(voice=tmp_path / "less.safetensors")
    save_file(load_file(VOICE), tmp_path / "other.safetensors", facts | {"encoder": "0" * 64})
    with pytest.raises(CheckpointError, match="another speech encoder"):
        load_listener(voice=tmp_path / "other.safetensors")
