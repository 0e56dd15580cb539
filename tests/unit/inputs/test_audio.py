"""Recordings: every kind of bad or odd sound is refused with its code, or becomes finite 16 kHz speech."""

from __future__ import annotations

from fractions import Fraction

import av
import numpy as np
import pyloudnorm
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from infinite_talk.errors import InfiniteTalkError, InputError
from infinite_talk.inputs import store
from infinite_talk.inputs.audio import Sound, lay_out, open_recordings, place_speech, read_track
from infinite_talk.inputs.loudness import integrated_loudness
from infinite_talk.inputs.store import SampleStore
from infinite_talk.inputs.video import open_film
from infinite_talk.request import AudioLayout, Compat
from tests.unit.inputs.media import FLOAT, MULAW, encode, numbered, tone, write_wav

TOGETHER, IN_TURN = AudioLayout.TOGETHER, AudioLayout.IN_TURN


def read(
    *paths, layout=TOGETHER, start=0.0, end=None, cap=100.0, max_frames=None, compat=Compat.FIXED
) -> tuple[Sound, list[str]]:
    notes: list[str] = []
    tracks = []
    for recording in open_recordings(paths, start=start, end=end, max_seconds=cap):
        track, remarks = (None, []) if recording is None else read_track(recording, max_seconds=cap)
        tracks.append(track)
        notes += remarks
    return lay_out(tracks, layout, max_frames=max_frames, compat=compat), notes


def refused(*paths, **options) -> str:
    with pytest.raises(InputError) as error:
        read(*paths, **options)
    assert len(error.value.message) < 400
    return error.value.code


def heard(sound: Sound) -> np.ndarray:
    blocks = list(sound.soundtrack.blocks())
    assert all(block.dtype == np.float32 and block.shape[1] == sound.soundtrack.channels for block in blocks)
    return np.concatenate(blocks)


def likeness(one: np.ndarray, other: np.ndarray) -> float:
    length = min(len(one), len(other))
    return float(np.corrcoef(one[:length], other[:length])[0, 1])


# A1


def test_a1_nothing_in_it(tmp_path):
    empty = tmp_path / "empty.wav"
    empty.write_bytes(b"")
    assert refused(empty) == "audio_empty"
    assert refused(write_wav(tmp_path / "none.wav", np.zeros(0))) == "audio_empty"
    assert refused(tmp_path / "absent.wav") == "audio_not_found"
    assert refused(tmp_path) == "audio_unreadable"
    assert refused(tmp_path / "nul\0.wav") == "audio_not_found"
    assert refused(tmp_path / ("long" * 100)) == "audio_not_found"


# A2


@pytest.mark.parametrize("samples", [1, 2, 160, 1600, 6399])
def test_a2_very_short(tmp_path, samples):
    sound, _ = read(write_wav(tmp_path / "short.wav", tone(1)[5 : 5 + samples]))
    assert sound.frames == max(1, int(samples / 640 + 0.5))
    assert sound.speech[0].shape == (sound.frames * 640,)
    assert np.isfinite(sound.speech[0]).all()
    assert len(heard(sound)) == sound.frames * 640


# A3


def test_a3_digital_silence(tmp_path):
    sound, notes = read(write_wav(tmp_path / "silence.wav", np.zeros(160_000)))
    assert sound.frames == 250
    assert not sound.speech[0].any()
    assert any("mouth will rest" in note for note in notes)


# A4


def test_a4_long_recordings_leave_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(store.SampleStore.__init__, "__defaults__", (10_000,))
    speech = tone(8, 8000)
    path = write_wav(tmp_path / "phone.wav", speech, 8000)
    spilled, _ = read(path)
    assert isinstance(spilled.speech[0], np.memmap)
    monkeypatch.undo()
    in_memory, _ = read(path)
    assert not isinstance(in_memory.speech[0], np.memmap)
    assert np.array_equal(spilled.speech[0], in_memory.speech[0])
    assert max(len(block) for block in spilled.soundtrack.blocks()) <= 8000


@given(st.lists(st.integers(0, 50), max_size=12), st.integers(0, 200), st.integers(0, 300))
def test_a4_store_is_a_row_of_samples(sizes, spill, length):
    growing = SampleStore(spill)
    pieces = [np.arange(size, dtype=np.float32) + index for index, size in enumerate(sizes)]
    for piece in pieces:
        growing.append(piece)
    whole = np.concatenate([np.zeros(0, np.float32), *pieces, np.zeros(300, np.float32)])
    if length:
        assert np.array_equal(growing.finish(length), whole[:length])
    elif sum(sizes):
        assert np.array_equal(growing.finish(), whole[: sum(sizes)])


# A5


def test_a5_longer_than_the_cap(tmp_path):
    path = write_wav(tmp_path / "long.wav", tone(3))
    assert refused(path, cap=2.0) == "audio_too_long"
    # A WAV of unknown length is stopped while it is decoded.
    endless = write_wav(tmp_path / "endless.wav", tone(3), declared=0xFFFFFFFF)
    assert refused(endless, cap=2.0) == "audio_too_long"
    trimmed, _ = read(path, start=0.5, end=2.0, cap=2.0)
    assert trimmed.frames == 38


def test_a5_trimming(tmp_path):
    path = write_wav(tmp_path / "long.wav", np.linspace(-0.5, 0.5, 44_100 * 2), 44_100)
    sound, _ = read(path, start=0.5, end=1.5)
    assert sound.frames == 25
    assert np.allclose(heard(sound)[:, 0], np.linspace(-0.25, 0.25, 44_100), atol=1e-4)
    assert refused(path, start=2.5) == "audio_trim"
    assert refused(path, start=2.0) == "audio_trim"
    assert read(path, end=99.0)[0].frames == 50


# A6


@pytest.mark.parametrize("rate", [8000, 11_025, 16_000, 22_050, 44_100, 48_000, 96_000, 192_000])
def test_a6_every_rate_gives_the_same_speech(tmp_path, rate):
    reference, _ = read(write_wav(tmp_path / "reference.wav", tone(2)))
    sound, _ = read(write_wav(tmp_path / "other.wav", tone(2, rate), rate))
    assert sound.frames == reference.frames == 50
    assert sound.soundtrack.rate == rate
    assert sound.soundtrack.samples == 2 * rate
    assert likeness(sound.speech[0], reference.speech[0]) > 0.999


@pytest.mark.parametrize(
    ("bits", "kind", "error"), [(8, 1, 0.03), (24, 1, 1e-4), (32, 1, 1e-4), (32, FLOAT, 1e-4)]
)
def test_a6_every_width_gives_the_same_speech(tmp_path, bits, kind, error):
    reference, _ = read(write_wav(tmp_path / "reference.wav", tone(2)))
    sound, _ = read(write_wav(tmp_path / "other.wav", tone(2), bits=bits, kind=kind))
    assert np.abs(sound.speech[0] - reference.speech[0]).max() < error


def test_a6_double_precision_and_mu_law(tmp_path):
    wide, _ = read(write_wav(tmp_path / "wide.wav", tone(1), bits=64, kind=FLOAT))
    assert likeness(wide.speech[0], tone(1)) > 0.9999
    # mu-law code of a sample: sign, then the position on a logarithmic scale of 255 steps.
    voice = tone(1, 8000)
    steps = np.round(np.log1p(255 * np.abs(voice)) / np.log(256) * 127).astype(np.uint8)
    codes = (~(steps | np.where(voice < 0, 0x80, 0).astype(np.uint8))).astype(np.uint8)
    sound, _ = read(write_wav(tmp_path / "mulaw.wav", codes, 8000, bits=8, kind=MULAW))
    assert likeness(heard(sound)[:, 0], voice) > 0.99


def test_a6_long_resampling_equals_resampling_at_once(tmp_path):
    import soxr

    voice = tone(5, 44_100).astype(np.float32)
    path = write_wav(tmp_path / "float.wav", voice, 44_100, bits=32, kind=FLOAT)
    sound, _ = read(path)
    at_once = soxr.resample(voice, 44_100, 16_000, quality="HQ")
    gain = 10 ** ((-23 - pyloudnorm.Meter(16_000).integrated_loudness(at_once)) / 20)
    assert np.abs(sound.speech[0] - at_once * gain).max() < 1e-5


# A7


def test_a7_speech_in_one_channel(tmp_path):
    voice = tone(2)
    left = np.stack([voice, np.zeros_like(voice)], axis=1)
    sound, notes = read(write_wav(tmp_path / "left.wav", left))
    assert likeness(sound.speech[0], voice) > 0.9999
    assert not notes
    centre = np.zeros((len(voice), 6))
    centre[:, 2] = voice
    sound, notes = read(write_wav(tmp_path / "centre.wav", centre))
    assert likeness(sound.speech[0], voice) > 0.9999
    assert sound.soundtrack.channels == 6


def test_a7_inverted_stereo_does_not_vanish(tmp_path):
    voice = tone(2)
    inverted = np.stack([0.5 * voice, -0.51 * voice], axis=1)
    sound, notes = read(write_wav(tmp_path / "inverted.wav", inverted))
    assert likeness(sound.speech[0], -voice) > 0.999
    assert any("channel 2 of 2" in note for note in notes)
    assert abs(integrated_loudness(sound.speech[0], 16_000) + 23) < 0.01


# A8


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a8_a_few_bad_numbers_become_silence(tmp_path, bad):
    voice = tone(2)
    voice[1000:1160] = bad
    sound, notes = read(write_wav(tmp_path / "few.wav", voice, bits=32, kind=FLOAT))
    assert np.isfinite(sound.speech[0]).all()
    assert np.isfinite(heard(sound)).all()
    assert any("160 NaN" in note for note in notes)
    voice[::50] = bad
    assert refused(write_wav(tmp_path / "many.wav", voice, bits=32, kind=FLOAT)) == "audio_corrupt"


# A9


def test_a9_clipping_and_offset(tmp_path):
    voice = tone(2)
    loud, notes = read(write_wav(tmp_path / "loud.wav", 33 * voice, bits=32, kind=FLOAT))
    assert likeness(loud.speech[0], voice) > 0.9999
    assert abs(integrated_loudness(loud.speech[0], 16_000) + 23) < 0.01
    assert np.abs(heard(loud)).max() == pytest.approx(1, abs=1e-5)
    assert any("turned down" in note for note in notes)
    huge, _ = read(write_wav(tmp_path / "huge.wav", 1e38 * voice, bits=32, kind=FLOAT))
    assert np.isfinite(huge.speech[0]).all()
    offset, _ = read(write_wav(tmp_path / "offset.wav", np.clip(voice + 0.5, -1, 1)))
    assert np.isfinite(offset.speech[0]).all()
    assert abs(integrated_loudness(offset.speech[0], 16_000) + 23) < 0.01


# A10


def test_a10_content_counts_not_the_name(tmp_path):
    assert read(write_wav(tmp_path / "wave.mp3", tone(1)))[0].frames == 25
    film = encode(tmp_path / "film.mp4", sounds=[tone(1, 48_000)[:, None]]).rename(tmp_path / "film.wav")
    assert read(film)[0].frames == 25
    for name, content in (
        ("text.wav", b"This is no sound. " * 500),
        ("program.mp3", b"MZ\x90\0" + bytes(range(256)) * 50),
        ("page.m4a", b"<!doctype html><html><body>404</body></html>"),
    ):
        path = tmp_path / name
        path.write_bytes(content)
        assert refused(path) in {"audio_unsupported", "audio_empty"}


def test_a10_pictures_are_no_sound(tmp_path):
    film = encode(tmp_path / "mute.mp4", pictures=numbered(5))
    assert refused(film) == "no_audio_stream"


def test_a10_unknown_codec(tmp_path):
    sound = [tone(1, 48_000)[:, None]]
    film = encode(tmp_path / "film.mkv", pictures=numbered(3), sounds=sound, audio_codec="flac")
    odd = tmp_path / "odd.mkv"
    odd.write_bytes(film.read_bytes().replace(b"A_FLAC", b"A_ZZZZ").replace(b"V_MPEG4/ISO", b"V_ZZZZZ/ISO"))
    assert refused(odd) == "audio_unsupported"
    with pytest.raises(InputError) as error:
        open_film(odd, max_pixels=10**8)
    assert error.value.code == "video_unsupported"


# A11


def test_a11_truncated(tmp_path):
    voice = tone(4, 48_000)[:, None]
    rng = np.random.default_rng(0)
    noisy = voice + 0.05 * rng.standard_normal(voice.shape)
    fast_start = encode(tmp_path / "whole.mp4", sounds=[noisy], options={"movflags": "faststart"})
    mp3 = encode(tmp_path / "whole.mp3", sounds=[noisy], audio_codec="libmp3lame")
    flac = encode(tmp_path / "whole.flac", sounds=[noisy], audio_codec="flac")
    wav = write_wav(tmp_path / "whole.wav", noisy, 48_000)
    for path in (fast_start, mp3, flac, wav):
        data = path.read_bytes()
        assert read(path)[0].frames == 100
        cut = tmp_path / f"cut{path.suffix}"
        cut.write_bytes(data[: len(data) * 6 // 10])
        assert refused(cut) == "media_truncated", path
        assert refused(cut, end=3.9) == "media_truncated", path
        assert read(cut, end=1.0)[0].frames == 25
        cut.write_bytes(data[: len(data) * 99 // 100])
        assert read(cut)[0].frames >= 95


def test_a11_streamed_wav_of_unknown_length(tmp_path):
    for unknown in (0, 0x7FFFFFFF, 0xFFFFFFFF):
        path = write_wav(tmp_path / "stream.wav", tone(1), declared=unknown)
        assert read(path)[0].frames == 25


def test_a11_variable_bit_rate_without_a_table_is_not_called_truncated(tmp_path):
    quiet_then_loud = np.concatenate([np.zeros(96_000), np.random.default_rng(0).uniform(-1, 1, 48_000)])[
        :, None
    ]
    path = encode(tmp_path / "sound.aac", sounds=[quiet_then_loud], container_format="adts")
    assert 75 <= read(path)[0].frames <= 77


# A12


def test_a12_several_streams_and_films(tmp_path):
    first, second = tone(1, 48_000)[:, None], tone(1, 48_000, pitch=700)[:, None]
    two = encode(tmp_path / "two.mkv", sounds=[first, second])
    sound, notes = read(two)
    assert likeness(heard(sound)[:, 0], first[:, 0]) > 0.99
    assert any("first of 2 audio streams" in note for note in notes)
    film = encode(tmp_path / "film.mp4", pictures=numbered(10), sounds=[first])
    assert read(film)[0].frames == 25


def test_a12_cover_art(tmp_path):
    path = tmp_path / "song.mp3"
    voice = tone(1, 48_000)[None].astype(np.float32)
    with av.open(str(path), "w") as container:
        audio = container.add_stream("libmp3lame", rate=48_000, layout="mono")
        cover = container.add_stream("png", rate=1)
        cover.height = cover.width = 64
        cover.pix_fmt = "rgb24"
        cover.disposition = av.stream.Disposition.attached_pic
        container.mux(cover.encode(av.VideoFrame.from_ndarray(numbered(1, 64, 64)[0], format="rgb24")))
        container.mux(cover.encode(None))
        frame = av.AudioFrame.from_ndarray(voice, format="fltp", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = 48_000, 0, Fraction(1, 48_000)
        container.mux(audio.encode(frame))
        container.mux(audio.encode(None))
    sound, _ = read(path)
    assert sound.frames == 25
    assert likeness(heard(sound)[:, 0], voice[0]) > 0.99


# A13


def test_a13_two_speakers_of_unequal_length(tmp_path):
    long = write_wav(tmp_path / "long.wav", tone(2), 16_000)
    short = write_wav(tmp_path / "short.wav", tone(1, 44_100, 500), 44_100)
    together, _ = read(long, short)
    assert together.frames == 50
    assert [len(speech) for speech in together.speech] == [32_000, 32_000]
    assert not together.speech[1][16_000:].any()
    assert together.soundtrack.rate == 44_100
    in_turn, _ = read(long, short, layout=IN_TURN)
    assert in_turn.frames == 75
    assert not in_turn.speech[1][:32_000].any()
    assert not in_turn.speech[0][32_000:].any()
    mixed = heard(in_turn)[:, 0]
    assert len(mixed) == 3 * 44_100
    assert likeness(mixed[: 2 * 44_100], tone(2, 44_100)) > 0.999
    assert likeness(mixed[2 * 44_100 :], tone(1, 44_100, 500)) > 0.999


def test_a13_one_silent_person(tmp_path):
    path = write_wav(tmp_path / "one.wav", tone(1))
    for layout in AudioLayout:
        sound, _ = read(None, path, layout=layout)
        assert sound.frames == 25
        assert not sound.speech[0].any()
        assert sound.speech[1].any()


def test_a13_mono_and_stereo_mix(tmp_path):
    voice, other = tone(1), tone(1, pitch=500)
    mono = write_wav(tmp_path / "mono.wav", voice)
    stereo = write_wav(tmp_path / "stereo.wav", np.stack([other, 0 * other], axis=1))
    sound, _ = read(mono, stereo)
    mixed = heard(sound)
    assert sound.soundtrack.channels == 2
    assert np.allclose(mixed[:, 0], np.clip(voice + other, -1, 1), atol=1e-4)
    assert np.allclose(mixed[:, 1], voice, atol=1e-4)


@given(
    st.lists(st.none() | st.integers(0, 40), min_size=1, max_size=4),
    st.sampled_from(AudioLayout),
    st.none() | st.integers(0, 100),
)
def test_a13_layouts_against_a_plain_loop(lengths, layout, length):
    tracks = [None if n is None else np.arange(1, n + 1, dtype=np.float32) for n in lengths]
    placed = place_speech(tracks, layout, length)
    begin = 0
    for track, got in zip(tracks, placed, strict=True):
        wanted = np.zeros(200, np.float32)
        if track is not None:
            wanted[begin : begin + len(track)] = track
            begin += len(track) if layout is IN_TURN else 0
        assert np.array_equal(got, wanted[: len(got)])
    assert len({len(got) for got in placed}) == 1
    natural = [n or 0 for n in lengths]
    assert len(placed[0]) == (
        length if length is not None else sum(natural) if layout is IN_TURN else max(natural)
    )


# A14


@pytest.mark.parametrize(
    ("name", "codec", "options"),
    [
        ("click.m4a", "aac", {}),
        ("click.mp3", "libmp3lame", {}),
        ("click.ogg", "libopus", {}),
        ("click.mkv", "aac", {}),
        ("click.flac", "flac", {}),
    ],
)
def test_a14_sound_stays_where_it_is(tmp_path, name, codec, options):
    silence_then_click = np.zeros((48_000, 1))
    silence_then_click[24_000:24_480] = 0.9
    path = encode(tmp_path / name, sounds=[silence_then_click], audio_codec=codec, options=options)
    sound, _ = read(path)
    for samples, rate in ((heard(sound)[:, 0], 48_000), (sound.speech[0], 16_000)):
        loud = np.flatnonzero(np.abs(samples) > 0.5 * np.abs(samples).max())
        assert abs(loud[0] / rate - 0.5) < 0.02


def test_a14_sound_that_begins_after_the_picture(tmp_path):
    path = tmp_path / "late.mkv"
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=25)
        video.height, video.width, video.pix_fmt = 64, 96, "yuv420p"
        audio = container.add_stream("flac", rate=48_000, layout="mono")
        for picture in numbered(50):
            container.mux(video.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(video.encode(None))
        frame = av.AudioFrame.from_ndarray(
            (tone(1, 48_000)[None] * 32767).astype(np.int16), format="s16", layout="mono"
        )
        frame.sample_rate, frame.pts, frame.time_base = 48_000, 24_000, Fraction(1, 48_000)
        container.mux(audio.encode(frame))
        container.mux(audio.encode(None))
    sound, _ = read(path)
    assert sound.frames == pytest.approx(37.5, abs=1)
    samples = heard(sound)[:, 0]
    assert not samples[:23_500].any()
    assert likeness(samples[24_000:], tone(1, 48_000)) > 0.99


# A15


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    arrays.arrays(
        np.float32,
        st.tuples(st.integers(0, 3000), st.integers(1, 3)),
        elements=st.floats(width=32) | st.floats(-1, 1, width=32),
    ),
    st.integers(1, 2**32 - 1) | st.sampled_from([8000, 44_100, 192_000]),
)
def test_a15_any_floats_any_rate(tmp_path, samples, rate):
    path = write_wav(tmp_path / "any.wav", samples, rate & 0x0FFFFFFF, bits=32, kind=FLOAT)
    try:
        sound, _ = read(path)
    except InfiniteTalkError as error:
        assert error.code in {"audio_empty", "audio_corrupt", "audio_unsupported"}
        return
    assert sound.frames >= 1
    assert np.isfinite(sound.speech[0]).all()
    assert np.isfinite(heard(sound)).all()


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_a15_damaged_files(tmp_path, data):
    """Random bytes written over a file, or random cuts, end in our errors only."""
    sounds = [tone(0.5, 48_000)[:, None]]
    suffix = data.draw(st.sampled_from([".m4a", ".mp3", ".flac", ".ogg", ".wav"]))
    whole = tmp_path / f"whole{suffix}"
    if not whole.exists():
        codec = {".m4a": "aac", ".mp3": "libmp3lame", ".flac": "flac", ".ogg": "libopus", ".wav": "pcm_s16le"}
        encode(whole, sounds=sounds, audio_codec=codec[suffix])
    content = bytearray(whole.read_bytes())
    for _ in range(data.draw(st.integers(1, 8))):
        at = data.draw(st.integers(0, len(content) - 1))
        content[at : at + 4] = data.draw(st.binary(max_size=8))
    damaged = tmp_path / f"damaged{suffix}"
    damaged.write_bytes(content[: data.draw(st.integers(0, len(content)))])
    try:
        sound, _ = read(damaged)
    except InputError:
        return
    assert np.isfinite(sound.speech[0]).all()


# Lengths


def test_the_video_is_as_long_as_the_sound(tmp_path):
    for samples, frames in ((16_000, 25), (16_319, 25), (16_320, 26), (15_681, 25), (15_680, 25)):
        sound, _ = read(write_wav(tmp_path / "any.wav", tone(2)[:samples]))
        assert sound.frames == frames
        assert len(sound.speech[0]) == frames * 640
        assert len(heard(sound)) == sound.soundtrack.samples == frames * 640
    limited, _ = read(write_wav(tmp_path / "any.wav", tone(2)), max_frames=7)
    assert (limited.frames, len(limited.speech[0]), len(heard(limited))) == (7, 7 * 640, 7 * 640)


def test_official_lengths(tmp_path):
    sound, _ = read(write_wav(tmp_path / "any.wav", tone(2)[:16_639]), compat=Compat.OFFICIAL)
    assert (sound.frames, len(sound.speech[0])) == (25, 16_639)


def test_soundtrack_parts_are_the_whole(tmp_path):
    one = write_wav(tmp_path / "one.wav", tone(2.3, 44_100), 44_100)
    two = write_wav(tmp_path / "two.wav", tone(1.1, 22_050, 400), 22_050)
    sound, _ = read(one, two, layout=IN_TURN)
    whole = heard(sound)
    assert np.array_equal(whole, heard(sound))
    for start, end in ((0, 1), (44_099, 44_102), (50_000, len(whole)), (7, 7), (120_000, 130_000)):
        part = list(sound.soundtrack.blocks(start, end))
        assert np.array_equal(np.concatenate([np.zeros((0, 1), np.float32), *part]), whole[start:end])


def test_soundtrack_notices_a_changed_file(tmp_path):
    path = write_wav(tmp_path / "one.wav", tone(1))
    sound, _ = read(path)
    write_wav(path, tone(1.5))
    with pytest.raises(InputError) as error:
        heard(sound)
    assert error.value.code == "audio_changed"
    path.unlink()
    with pytest.raises(InputError):
        heard(sound)


def test_loudness_in_pieces_equals_loudness_at_once():
    rng = np.random.default_rng(3)
    for samples in (16_000 * 125 + 799, 16_000 * 62 + 1, 16_000 * 183):
        level = np.repeat(rng.random(samples // 8000 + 1) ** 4, 8000)[:samples]
        speech = (rng.standard_normal(samples) * level * 0.3).astype(np.float32)
        at_once = pyloudnorm.Meter(16_000).integrated_loudness(speech)
        assert integrated_loudness(speech, 16_000) == pytest.approx(at_once, abs=1e-3)
