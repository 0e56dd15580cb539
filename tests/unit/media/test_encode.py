"""One window as a file: the same bytes every time, the right colours, a key frame first."""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import av
import numpy as np
import pytest
from av.video.reformatter import VideoReformatter
from hypothesis import given, settings
from hypothesis import strategies as st

from infinite_talk.media import encode
from infinite_talk.media.encode import write_segment, yuv420p
from tests.unit.media.fakes import pictures, play


def exact_yuv(rgb: np.ndarray) -> np.ndarray:
    """BT.709 studio-range Y, Cb, Cr of RGB 0..255 by the standard's formulas, unrounded; ``(..., 3)``."""
    red, green, blue = np.moveaxis(rgb.astype(np.float64) / 255, -1, 0)
    luma = 0.2126 * red + 0.7152 * green + 0.0722 * blue
    return np.stack(
        [16 + 219 * luma, 128 + 224 * (blue - luma) / 1.8556, 128 + 224 * (red - luma) / 1.5748], -1
    )


def rgb_of_yuv(yuv: np.ndarray) -> np.ndarray:
    """The way back, RGB 0..255."""
    luma, cb, cr = np.moveaxis(yuv.astype(np.float64), -1, 0)
    luma, cb, cr = (luma - 16) / 219, (cb - 128) / 224, (cr - 128) / 224
    red, blue = luma + 1.5748 * cr, luma + 1.8556 * cb
    green = (luma - 0.2126 * red - 0.0722 * blue) / 0.7152
    return np.stack([red, green, blue], -1) * 255


@settings(max_examples=30, deadline=None)
@given(colour=st.tuples(*[st.integers(0, 255)] * 3))
def test_conversion_follows_the_standard(colour):
    picture = np.full((16, 16, 3), colour, np.uint8)
    planes = yuv420p(picture, VideoReformatter()).to_ndarray()
    got = np.stack([planes[:16].mean(), planes[16:20].mean(), planes[20:].mean()])
    assert np.abs(got - exact_yuv(np.array(colour))).max() <= 0.51


def test_chroma_is_the_mean_of_four_pixels():
    picture = np.zeros((16, 16, 3), np.uint8)
    picture[::2, ::2] = (255, 0, 0)
    planes = yuv420p(picture, VideoReformatter()).to_ndarray()
    wanted = exact_yuv(picture[:2, :2]).mean((0, 1))[1:]
    got = np.stack([planes[16:20], planes[20:]], -1).reshape(-1, 2)
    assert np.abs(got - wanted).max() <= 1


@pytest.mark.parametrize(("height", "width"), [(16, 16), (18, 34), (90, 62), (480, 832)])
def test_conversion_does_not_depend_on_threads_or_on_the_picture_before(monkeypatch, height, width):
    random = np.random.default_rng(height)
    first, second = random.integers(0, 256, (2, height, width, 3), dtype=np.uint8)
    kept = VideoReformatter()
    several = [yuv420p(picture, kept).to_ndarray() for picture in (first, second)]
    monkeypatch.setattr(encode, "CONVERTERS", 1)
    alone = [yuv420p(picture, VideoReformatter()).to_ndarray() for picture in (first, second)]
    assert np.array_equal(several, alone)


def test_colours_after_encoding(tmp_path: Path):
    colours = np.array(
        [(230, 180, 150), (90, 50, 30), (20, 60, 200), (250, 250, 250), (10, 10, 10), (180, 20, 40)]
    )
    frames = np.stack([np.full((32, 32, 3), colour, np.uint8) for colour in colours])
    write_segment(tmp_path / "a.mp4", frames, crf=4)
    with av.open(str(tmp_path / "a.mp4")) as file:
        context = file.streams.video[0].codec_context
        tags = (context.colorspace, context.color_primaries, context.color_trc, context.color_range)
        assert tags == (1, 1, 1, 1)  # BT.709 three times, studio range
        for colour, frame in zip(colours, file.decode(video=0), strict=True):
            planes = frame.to_ndarray()
            yuv = np.stack([planes[:32].mean(), planes[32:40].mean(), planes[40:].mean()])
            assert np.abs(rgb_of_yuv(yuv) - colour).max() < 3


def test_a_picture_survives(tmp_path: Path):
    frames = pictures(5)
    write_segment(tmp_path / "a.mp4", frames, crf=18)
    with av.open(str(tmp_path / "a.mp4")) as file:
        planes = np.stack([frame.to_ndarray() for frame in file.decode(video=0)]).astype(float)
    wanted = exact_yuv(frames)
    assert 10 * np.log10(255**2 / np.mean((planes[:, :64] - wanted[..., 0]) ** 2)) > 38
    colour = wanted[..., 1:].reshape(5, 32, 2, 32, 2, 2).mean((2, 4))
    decoded = planes[:, 64:].reshape(5, 2, 32, 32).transpose(0, 2, 3, 1)
    assert 10 * np.log10(255**2 / np.mean((decoded - colour) ** 2)) > 38
    assert abs(planes[:, :64].mean() - wanted[..., 0].mean()) < 0.3  # not darker, not brighter


@pytest.mark.parametrize("count", [1, 2, 9])
def test_the_same_frames_give_the_same_bytes(tmp_path: Path, count: int):
    hashes = set()
    for name in ("a.mp4", "another name.mp4"):
        write_segment(tmp_path / name, pictures(count), crf=18)
        hashes.add(hashlib.sha256((tmp_path / name).read_bytes()).hexdigest())
    assert len(hashes) == 1
    played = play(tmp_path / "a.mp4")
    assert len(played.times) == count
    assert played.keys[0] == 0


def test_how_the_threads_take_turns_does_not_show(tmp_path: Path):
    """Noise that moves far, encoded by several processes' worth of threads at once."""
    still = np.random.default_rng(0).integers(0, 256, (96, 128, 3), dtype=np.uint8)
    frames = np.stack([np.roll(still, (11 * n, 7 * n), (0, 1)) for n in range(20)])

    def encoded(number: int) -> str:
        write_segment(tmp_path / f"{number}.mp4", frames, crf=18)
        return hashlib.sha256((tmp_path / f"{number}.mp4").read_bytes()).hexdigest()

    with ThreadPoolExecutor(4) as encoders:
        assert len(set(encoders.map(encoded, range(8)))) == 1


def test_decoding_order_is_display_order(tmp_path: Path):
    write_segment(tmp_path / "a.mp4", pictures(12), crf=18)
    with av.open(str(tmp_path / "a.mp4")) as file:
        packets = [p for p in file.demux(video=0) if p.size]
    assert [p.pts for p in packets] == [p.dts for p in packets] == [512 * n for n in range(12)]


def test_quality_setting_acts(tmp_path: Path):
    noise = np.random.default_rng(0).integers(0, 256, (4, 64, 64, 3), dtype=np.uint8)
    for crf in (10, 40):
        write_segment(tmp_path / f"{crf}.mp4", noise, crf=crf)
    assert (tmp_path / "10.mp4").stat().st_size > 2 * (tmp_path / "40.mp4").stat().st_size


@pytest.mark.parametrize(
    "frames",
    [
        np.zeros((0, 16, 16, 3), np.uint8),
        np.zeros((1, 15, 16, 3), np.uint8),
        np.zeros((1, 16, 16, 4), np.uint8),
        np.zeros((1, 16, 16, 3), np.float32),
    ],
)
def test_wrong_frames_are_refused(tmp_path: Path, frames: np.ndarray):
    with pytest.raises(ValueError, match="expected uint8"):
        write_segment(tmp_path / "a.mp4", frames, crf=18)


def test_a_full_disk_is_an_error():
    with pytest.raises(OSError, match="No space left"):
        write_segment(Path("/dev/full"), pictures(2), crf=18)
