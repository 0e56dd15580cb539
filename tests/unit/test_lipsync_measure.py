"""Reading mouths from pictures and from real video files; thresholds that bad videos do not pass."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from infinite_talk.errors import CheckpointError, InputError
from infinite_talk.lipsync import (
    ActivityMeter,
    Limits,
    best_lag,
    load_reader,
    measure,
    mouth_activity,
    pearson,
    read_mouth,
    shortcomings,
)
from infinite_talk.lipsync.film import pictures, sound
from tests.drawn import Drawn, draw_clips, voice_for, write_video
from training.degrade import block_compress, gaussian_blur

SEEDS = [1_000_041, 1_000_042, 1_000_043, 1_000_044, 1_000_045, 1_000_046]


@pytest.fixture(scope="module")
def clips() -> Drawn:
    return draw_clips(SEEDS, 50)


@pytest.fixture(scope="module")
def film(clips: Drawn, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("film") / "talk.mp4"
    return write_video(path, clips.frames[0].numpy(), voice_for(clips.opening[0]))


def _degraded(frames: torch.Tensor, how: str) -> torch.Tensor:
    picture = frames.permute(0, 3, 1, 2).float() / 255
    if how == "blurred":
        picture = gaussian_blur(picture, 1.2)
    elif how == "compressed":
        picture = block_compress(picture, 0.05)
    elif how == "recoloured":
        picture = picture * torch.tensor([0.85, 0.8, 0.72]).view(3, 1, 1) + 0.03
    return (picture * 255).round().to(torch.uint8).permute(0, 2, 3, 1)


@pytest.mark.parametrize("how", ["clean", "blurred", "compressed", "recoloured"])
def test_the_reader_follows_unseen_portraits(clips: Drawn, how: str):
    reader = load_reader()
    tracks = [read_mouth(_degraded(frames, how), reader) for frames in clips.frames]
    opening = [pearson(track.opening, truth) for track, truth in zip(tracks, clips.opening, strict=True)]
    width = [pearson(track.width, truth) for track, truth in zip(tracks, clips.width, strict=True)]
    rounding = [pearson(track.rounding, truth) for track, truth in zip(tracks, clips.rounding, strict=True)]
    assert np.mean(opening) >= 0.98, opening
    assert min(opening) >= 0.95, opening
    assert np.mean(width) >= 0.9, width
    assert np.mean(rounding) >= 0.9, rounding


def test_the_reader_measures_picture_heights(clips: Drawn):
    errors = [
        np.abs(read_mouth(frames).opening - truth).mean() * 192
        for frames, truth in zip(clips.frames, clips.opening, strict=True)
    ]
    assert np.mean(errors) < 1.2, "pixels at 192"


@pytest.mark.parametrize("how", ["clean", "blurred"])
def test_the_measure_without_a_reader_agrees(clips: Drawn, how: str):
    values = []
    for frames, truth in zip(clips.frames, clips.opening, strict=True):
        meter = ActivityMeter()
        for part in torch.split(_degraded(frames, how), 16):
            meter.add(part)
        values.append(pearson(mouth_activity(meter), truth))
    assert np.mean(values) >= 0.88, values
    assert min(values) >= 0.7, values


def test_clips_are_read_the_same_in_any_size_of_batch(clips: Drawn):
    whole = read_mouth(clips.frames[0])
    single = [read_mouth(clips.frames[0, i : i + 1]).opening[0] for i in range(5)]
    np.testing.assert_allclose(whole.opening[:5], single, atol=1e-5)
    assert read_mouth(clips.frames[0, :0]).opening.shape == (0,)


def test_foreign_weights_are_refused(tmp_path: Path):
    with pytest.raises(CheckpointError, match="mouth reader"):
        load_reader(tmp_path / "none.safetensors")


def test_a_good_video_passes(film: Path, clips: Drawn, tmp_path: Path):
    chart = tmp_path / "chart.png"
    report = measure(film, truth=clips.opening[0], seams=[17, 34, 99], chart=chart)
    assert report.frames == 50
    assert report.with_truth is not None
    assert report.with_truth.r > 0.95
    assert report.with_truth.lag == 0
    assert 0.8 < report.with_truth.amplitude < 1.2
    assert report.seams == (17, 34)
    assert shortcomings(report) == []
    with Image.open(chart) as picture:
        assert picture.size == (1200, 520)
        assert len(picture.convert("RGB").getcolors(100_000) or ()) > 200
    summary = report.summary()
    assert summary["truth"]["r"] == pytest.approx(report.with_truth.r, abs=1e-4)
    assert summary["loudness"]["lag"] in (-1, 0, 1)


def test_strong_compression_is_survived(clips: Drawn, tmp_path: Path):
    path = write_video(tmp_path / "coarse.mp4", clips.frames[1].numpy(), voice_for(clips.opening[1]), crf=34)
    report = measure(path, truth=clips.opening[1])
    assert report.with_truth is not None
    assert report.with_truth.r > 0.93


@pytest.mark.parametrize("by", [-4, 3])
def test_shifted_sound_does_not_pass(clips: Drawn, tmp_path: Path, by: int):
    shifted = np.roll(clips.opening[0], by)
    path = write_video(tmp_path / "shifted.mp4", clips.frames[0].numpy(), voice_for(shifted))
    report = measure(path, truth=shifted)
    assert report.with_truth is not None
    assert report.with_truth.lag == -by
    assert any("frames off" in words for words in shortcomings(report))


def test_a_frozen_mouth_does_not_pass(clips: Drawn, tmp_path: Path):
    frozen = draw_clips(SEEDS[:1], 50, mouth=clips.mouth[:1, 9:10].expand(1, 50, 6))
    path = write_video(tmp_path / "frozen.mp4", frozen.frames[0].numpy(), voice_for(clips.opening[0]))
    words = " ".join(shortcomings(measure(path, truth=clips.opening[0])))
    assert "hardly moves" in words
    assert "expected mouth is under" in words


def test_another_clips_mouth_does_not_pass(clips: Drawn, tmp_path: Path):
    path = write_video(tmp_path / "other.mp4", clips.frames[0].numpy(), voice_for(clips.opening[3]))
    words = " ".join(shortcomings(measure(path, truth=clips.opening[3])))
    assert "with the expected mouth is under" in words


def test_a_mouth_open_in_silence_does_not_pass(clips: Drawn, tmp_path: Path):
    voice = voice_for(clips.opening[0])
    voice[len(voice) // 3 :] = 0
    path = write_video(tmp_path / "pause.mp4", clips.frames[0].numpy(), voice)
    report = measure(path)
    assert report.closed_in_silence is not None
    assert any("of the silence" in words for words in shortcomings(report, Limits(closed=0.9)))


def test_a_video_without_sound_is_read_and_says_so(clips: Drawn, tmp_path: Path):
    report = measure(write_video(tmp_path / "mute.mp4", clips.frames[0, :20].numpy()))
    assert report.with_sound is None
    assert report.closed_in_silence is None
    assert report.notes == ("the video has no sound",)


def test_other_frame_rates_are_read_by_time(clips: Drawn, tmp_path: Path):
    doubled = clips.frames[0].repeat_interleave(2, dim=0).numpy()
    report = measure(write_video(tmp_path / "fast.mp4", doubled, fps=50), truth=clips.opening[0])
    assert report.frames in (50, 51)
    lag, r = best_lag(report.mouth.opening[:50], clips.opening[0])
    assert r > 0.93
    assert abs(lag) <= 1


def test_sound_lies_under_its_pictures(film: Path, clips: Drawn):
    found = sound(film)
    assert found is not None
    heard, rate = found
    said = voice_for(clips.opening[0])
    span = slice(rate // 2, rate)
    offsets = range(-60, 61, 4)  # less than half a period of the tone
    best = max(offsets, key=lambda o: float(heard[span.start + o : span.stop + o] @ said[span]))
    assert abs(best) <= 8, "samples"
    assert len(heard) == pytest.approx(len(said), abs=2048)
    assert sum(1 for _ in pictures(film)) == 50


@pytest.mark.parametrize(
    ("name", "content", "code"),
    [
        ("none.mp4", None, "video_not_found"),
        ("text.mp4", b"hello, I am not a film", "video_unreadable"),
        ("list.mp4", b"ffconcat version 1.0\nfile talk.mp4\n", "video_unreadable"),
        ("list.m3u8", b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n", "video_unreadable"),
    ],
)
def test_what_is_no_video_is_refused(tmp_path: Path, name: str, content: bytes | None, code: str):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError) as caught:
        measure(tmp_path / name)
    assert caught.value.code == code


def test_folders_and_very_short_videos_are_refused(clips: Drawn, tmp_path: Path):
    with pytest.raises(InputError, match="folder"):
        measure(tmp_path)
    with pytest.raises(InputError, match="at least 10"):
        measure(write_video(tmp_path / "short.mp4", clips.frames[0, :4].numpy()))
