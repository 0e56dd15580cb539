"""The finished file as a player sees it: every frame at its time, the sound beside it, to the sample."""

from __future__ import annotations

import itertools
import struct
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from infinite_talk.errors import TakeError
from infinite_talk.media.encode import write_segment
from infinite_talk.media.mux import join
from infinite_talk.media.sound import AAC_RATES, blocks_for, cut, fitted, format_for
from tests.unit.media.fakes import ArraySound, pictures, play, tone

ALIGNED = 0.020  # seconds; people notice lips from about 45 ms


def segments(folder: Path, counts: list[int], height: int = 64, width: int = 64) -> list[Path]:
    """One file per count, pictures running on from file to file."""
    paths, start = [], 0
    for number, count in enumerate(counts):
        paths.append(folder / f"part-{number}.mp4")
        write_segment(paths[-1], pictures(count, start, height, width), crf=18)
        start += count
    return paths


def boxes(path: Path) -> list[str]:
    """Names of the top-level boxes of an mp4 file, in order."""
    data, at, names = path.read_bytes(), 0, []
    while at < len(data):
        size, name = struct.unpack(">I4s", data[at : at + 8])
        names.append(name.decode())
        at += size
    return names


def test_segments_run_on(tmp_path: Path):
    counts = [9, 1, 4, 7]
    parts, out = segments(tmp_path, counts), tmp_path / "out.mp4"
    join(parts, out, frames=21, soundtrack=tone(21 / 25), tags={})
    played = play(out)
    assert played.times == [Fraction(n, 25) for n in range(21)]
    assert {0, 9, 10, 14} <= set(played.keys)
    assert played.levels == [level for part in parts for level in play(part).levels]  # nothing encoded again


def test_the_index_comes_first_and_no_date_is_inside(tmp_path: Path):
    out = tmp_path / "out.mp4"
    join(
        segments(tmp_path, [3]), out, frames=3, soundtrack=tone(1), tags={"title": "A title", "comment": "{}"}
    )
    assert boxes(out).index("moov") < boxes(out).index("mdat")
    tags = play(out).tags
    assert tags["title"] == "A title"
    assert not {"creation_time", "encoder"} & set(tags)


def test_the_same_parts_give_the_same_bytes(tmp_path: Path):
    parts = segments(tmp_path, [5, 4])
    for name in ("a.mp4", "b.mp4"):
        join(parts, tmp_path / name, frames=9, soundtrack=tone(1, 44_100, 2), tags={"comment": "x" * 100_000})
    assert (tmp_path / "a.mp4").read_bytes() == (tmp_path / "b.mp4").read_bytes()
    assert play(tmp_path / "a.mp4").tags["comment"] == "x" * 100_000


def test_blocks_do_not_matter(tmp_path: Path):
    parts, sound = segments(tmp_path, [30]), tone(1.2, 37_800, 2)
    for block in (1, 997, 100_000):
        split = ArraySound(sound.array, sound.rate, block)
        join(parts, tmp_path / f"{block}.mp4", frames=30, soundtrack=split, tags={})
    assert len({(tmp_path / f"{block}.mp4").read_bytes() for block in (1, 997, 100_000)}) == 1


def test_without_sound(tmp_path: Path):
    out = tmp_path / "out.mp4"
    assert join(segments(tmp_path, [3]), out, frames=3, soundtrack=None, tags={}) is None
    played = play(out)
    assert len(played.times) == 3
    assert played.sound.size == 0


@pytest.mark.parametrize("seconds", [0.001, 0.3, 1.0, 3.0], ids=lambda s: f"{s} s")
def test_sound_shorter_or_longer_than_the_pictures(tmp_path: Path, seconds: float):
    out = tmp_path / "out.mp4"
    join(segments(tmp_path, [25]), out, frames=25, soundtrack=tone(seconds, 48_000), tags={})
    played = play(out)
    assert played.sound_length == 1
    loud = np.abs(played.sound[:48_000, 0])
    assert loud[: int(min(seconds, 1) * 40_000)].max(initial=1) > 0.1
    assert loud[int(seconds * 48_000) + 3000 :].max(initial=0) < 0.01


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    frames=st.integers(1, 40),
    rate=st.sampled_from([*AAC_RATES, 8001, 11_000, 37_800, 47_999, 50_000, 95_999]),
    channels=st.sampled_from([1, 2, 6]),
    excess=st.integers(-500, 500),
)
def test_any_rate_and_length(tmp_path: Path, frames: int, rate: int, channels: int, excess: int):
    sound = tone(max(frames / 25 + excess / rate, 1 / rate), rate, channels)
    part, out = tmp_path / "part.mp4", tmp_path / "out.mp4"
    write_segment(part, pictures(frames, height=16, width=16), crf=30)
    form = join([part], out, frames=frames, soundtrack=sound, tags={})
    played = play(out)
    assert form is not None
    assert (played.sound_rate, played.sound.shape[1]) == (form.rate, channels)
    assert form.rate == rate or (form.rate in AAC_RATES and form.notes)
    assert played.sound_start == 0
    assert played.sound_length == Fraction(form.samples(frames), form.rate)
    assert abs(played.sound_length - Fraction(frames, 25)) <= Fraction(1, form.rate)
    assert played.times[-1] == Fraction(frames - 1, 25)


def flash_and_click(path: Path, frames: int, rate: int, at: int) -> float:
    """Seconds by which the click comes after the flash, both made at frame ``at``, in the decoded file."""
    step = min(500, frames)
    dark, light = path.with_name("dark.mp4"), path.with_name("light.mp4")
    pictures = np.zeros((step, 32, 32, 3), np.uint8)
    write_segment(dark, pictures, crf=23)
    pictures[at % step] = 255
    write_segment(light, pictures, crf=23)
    parts = [light if start == at // step else dark for start in range(frames // step)]
    samples = np.zeros((round(frames * rate / 25), 1), np.float32)
    click = round(at * rate / 25)
    samples[click : click + max(rate // 1000, 8)] = 0.9
    join(parts, path, frames=frames, soundtrack=ArraySound(samples, rate), tags={})
    played = play(path)
    flash = next(time for time, level in zip(played.times, played.levels, strict=True) if level > 128)
    # The middle of the energy: the codec smears a click to both sides.
    energy = played.sound[:, 0].astype(np.float64) ** 2
    heard = (
        float(played.sound_start) + (energy * np.arange(len(energy))).sum() / energy.sum() / played.sound_rate
    )
    return heard - float(flash)


@pytest.mark.parametrize("rate", [8000, 11_025, 16_000, 37_800, 44_100, 48_000, 96_000, 192_000])
@pytest.mark.parametrize("at", [0, 20, 47])
def test_click_and_flash(tmp_path: Path, rate: int, at: int):
    assert abs(flash_and_click(tmp_path / "out.mp4", 50, rate, at)) < ALIGNED


@pytest.mark.slow
def test_click_and_flash_after_ten_minutes(tmp_path: Path):
    frames = 10 * 60 * 25
    assert abs(flash_and_click(tmp_path / "out.mp4", frames, 44_100, frames - 30)) < ALIGNED


def test_a_shifted_sound_would_be_noticed(tmp_path: Path):
    """The measurement itself: sound of the wrong rate's length is far off."""
    part, out = segments(tmp_path, [50]), tmp_path / "out.mp4"
    samples = np.zeros((32_000, 1), np.float32)
    samples[20_000:20_016] = 0.9
    join(part, out, frames=50, soundtrack=ArraySound(samples, 16_000), tags={})
    heard = np.abs(play(out).sound[:, 0]).argmax() / 16_000
    assert abs(heard - 1.25) < ALIGNED
    assert abs(heard - 1.25 - 1024 / 16_000) > ALIGNED


@pytest.mark.parametrize(
    ("channels", "kept"), [(1, 1), (2, 2), (3, 3), (6, 6), (7, 1), (8, 1), (9, 1), (16, 1)]
)
def test_channels(tmp_path: Path, channels: int, kept: int):
    out = tmp_path / "out.mp4"
    form = join(segments(tmp_path, [10]), out, frames=10, soundtrack=tone(0.4, 48_000, channels), tags={})
    assert form is not None
    assert bool(form.notes) == (kept != channels)
    played = play(out)
    assert played.sound.shape[1] == kept
    assert np.abs(played.sound[:, 0]).max() > 0.2


def test_channels_keep_their_places(tmp_path: Path):
    """Six tones, one per channel, come out where they went in."""
    rate, times = 48_000, np.arange(48_000) / 48_000
    pitches = [300, 500, 800, 60, 1200, 2000]  # the fourth is the low-frequency channel
    array = np.stack([0.3 * np.sin(2 * np.pi * pitch * times) for pitch in pitches], 1).astype(np.float32)
    out = tmp_path / "out.mp4"
    join(segments(tmp_path, [25]), out, frames=25, soundtrack=ArraySound(array, rate), tags={})
    heard = play(out).sound[8000:40_000]
    spectrum = np.abs(np.fft.rfft(heard, axis=0))
    assert (spectrum.argmax(0) * rate / len(heard)).tolist() == pytest.approx(pitches, abs=3)


def test_resampling_keeps_pitch_and_loudness(tmp_path: Path):
    out = tmp_path / "out.mp4"
    form = join(segments(tmp_path, [50]), out, frames=50, soundtrack=tone(2, 37_800), tags={})
    assert form is not None
    assert form.rate == 44_100
    assert "37800 Hz to 44100 Hz" in form.notes[0]
    heard = play(out).sound[8000:80_000, 0]
    peak = np.abs(np.fft.rfft(heard)).argmax() * form.rate / len(heard)
    assert peak == pytest.approx(300, abs=2)
    assert heard.std() == pytest.approx(0.3 / np.sqrt(2), rel=0.02)


@given(
    length=st.integers(0, 5000), sizes=st.lists(st.integers(0, 700), max_size=12), size=st.integers(1, 900)
)
def test_fitting_and_cutting_lose_nothing(length: int, sizes: list[int], size: int):
    source = np.arange(1, sum(sizes) + 1, dtype=np.float32)[:, None]
    blocks = np.split(source, np.cumsum(sizes)[:-1]) if sizes else []
    pieces = list(cut(fitted(blocks, 1, length), size))
    assert all(len(piece) == size for piece in pieces[:-1])
    assert all(0 < len(piece) <= size for piece in pieces[-1:])
    whole = np.concatenate([np.zeros((0, 1)), *pieces])
    wanted = np.zeros((length, 1))
    wanted[: min(length, len(source))] = source[:length]
    assert np.array_equal(whole, wanted)


def test_blocks_are_exactly_as_long_as_the_video():
    sound = tone(0.5, 37_800, 2)
    form = format_for(sound.rate, sound.channels)
    assert sum(len(block) for block in blocks_for(sound, form, 1000)) == form.samples(1000) == 40 * 44_100


def test_sound_is_read_as_it_is_needed():
    """Hours of sound are never in memory: a block is read when the ones before it have been used."""
    read = 0

    class Endless:
        rate, channels, samples = 48_000, 2, 10**12

        def blocks(self, start: int = 0, end: int | None = None) -> Iterator[np.ndarray]:
            nonlocal read
            while True:
                read += 48_000
                yield np.zeros((48_000, 2), np.float32)

    used = 0
    for block in itertools.islice(blocks_for(Endless(), format_for(48_000, 2), 10**9), 500):
        used += len(block)
        assert read - used < 2 * 48_000


def test_parts_of_another_encoding_are_refused(tmp_path: Path):
    first = segments(tmp_path, [3])
    (tmp_path / "other").mkdir()
    second = segments(tmp_path / "other", [3], height=32)
    with pytest.raises(TakeError, match="encoded differently"):
        join(first + second, tmp_path / "out.mp4", frames=6, soundtrack=None, tags={})


def test_a_full_disk_is_an_error(tmp_path: Path):
    with pytest.raises(OSError, match="No space left"):
        join(segments(tmp_path, [3]), Path("/dev/full"), frames=3, soundtrack=tone(1), tags={})


def test_players_that_stream_get_both_kinds_near_each_other(tmp_path: Path):
    """Packets of sound and picture lie in the file in the order of time, within a second."""
    out = tmp_path / "out.mp4"
    join(segments(tmp_path, [50, 50], 16, 16), out, frames=100, soundtrack=tone(4), tags={})
    with av.open(str(out)) as file:
        packets = sorted((p for p in file.demux() if p.size), key=lambda p: p.pos)
    times = [float(p.pts * p.time_base) for p in packets]
    assert max(before - after for before, after in itertools.pairwise(times)) < 1.0
