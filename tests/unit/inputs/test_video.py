"""Films: pictures by time, upright, from files that may hold anything."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from infinite_talk.errors import InputError
from infinite_talk.inputs.scenes import find_cuts
from infinite_talk.inputs.video import FilmPictures, open_film
from tests.unit.inputs.media import encode, number_of, numbered, tone

LIMIT = 40_000_000


def read(path, **options) -> FilmPictures:
    film, _ = open_film(path, max_pixels=LIMIT)
    return FilmPictures(film, **options)


def refused(path, limit=LIMIT) -> str:
    with pytest.raises(InputError) as error:
        film, _ = open_film(path, max_pixels=limit)
        pictures = FilmPictures(film)
        for frame in range(0, 100, 10):
            pictures[frame]
    return error.value.code


def numbers(pictures: FilmPictures, frames) -> list[int]:
    return [number_of(pictures[frame]) for frame in frames]


# V1


def test_v1_streams(tmp_path):
    mute = encode(tmp_path / "mute.mp4", pictures=numbered(10))
    assert numbers(read(mute), range(10)) == list(range(10))
    sound = encode(tmp_path / "sound.mp4", sounds=[tone(1, 48_000)[:, None]])
    assert refused(sound) == "no_video_stream"
    both = encode(tmp_path / "both.mp4", pictures=numbered(10), sounds=[tone(1, 48_000)[:, None]])
    assert numbers(read(both), range(10)) == list(range(10))
    assert refused(tmp_path / "absent.mp4") == "video_not_found"
    (tmp_path / "empty.mp4").write_bytes(b"")
    assert refused(tmp_path / "empty.mp4") == "video_empty"


# V2


@pytest.mark.parametrize(
    "rate", [Fraction(24_000, 1001), Fraction(30_000, 1001), 10, 24, 25, 30, 50, 60, 120]
)
@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_v2_frame_rates_follow_time(tmp_path, rate, suffix):
    count = round(rate)  # one second
    path = encode(tmp_path / f"film{suffix}", pictures=numbered(count), rate=rate)
    pictures = read(path)
    for frame in range(25):
        # The picture that began at or before the time; one that begins within a millisecond counts.
        wanted = min(count - 1, int(Fraction(frame, 25) * rate + Fraction(1, 1000) * rate))
        assert number_of(pictures[frame]) == wanted % 25, frame


def test_v2_variable_rate(tmp_path):
    times = [0, 10, 20, 200, 210, 600, 640]
    path = encode(tmp_path / "film.mkv", pictures=numbered(7), pts=times, rate=1000)
    pictures = read(path)
    for frame in range(20):
        assert number_of(pictures[frame]) == sum(time <= frame * 40 + 1 for time in times) - 1


def test_v2_official_program_ignores_time(tmp_path):
    path = encode(tmp_path / "film.mp4", pictures=numbered(20), rate=50)
    assert numbers(read(path, by_index=True), (0, 3, 7, 19, 25, 2)) == [0, 3, 7, 19, 19, 2]
    assert numbers(read(path), (0, 3, 7, 19)) == [0, 6, 14, 19]


# V3


@pytest.mark.parametrize(
    ("rotation", "corner"), [(0, (0, 0)), (90, (-1, 0)), (-90, (0, -1)), (180, (-1, -1)), (270, (0, -1))]
)
def test_v3_rotation(tmp_path, rotation, corner):
    path = encode(tmp_path / "film.mp4", pictures=numbered(3), rotation=rotation)
    pictures = read(path)
    picture = pictures[0]
    assert picture.shape == ((96, 64, 3) if rotation % 180 else (64, 96, 3))
    bright = {(row, column) for row in (0, -1) for column in (0, -1) if picture[row, column].mean() > 200}
    assert bright == {corner}


@pytest.mark.parametrize(
    ("aspect", "shape"),
    [(Fraction(4, 3), (64, 128)), (Fraction(1, 2), (128, 96)), (Fraction(1000), (64, 96))],
)
def test_v3_square_pixels(tmp_path, aspect, shape):
    path = encode(tmp_path / "film.mp4", pictures=numbered(3), aspect=aspect)
    assert read(path)[0].shape[:2] == shape


def test_v3_rotated_and_stretched(tmp_path):
    path = encode(tmp_path / "film.mp4", pictures=numbered(3), aspect=Fraction(4, 3), rotation=90)
    assert read(path)[0].shape[:2] == (128, 64)


# V4


@pytest.mark.parametrize(
    ("pixels", "codec"),
    [
        ("yuv420p", "libx264"),
        ("yuvj420p", "libx264"),
        ("yuv444p", "libx264"),
        ("yuv422p", "libx264"),
        ("yuv420p10le", "libx264"),
        ("yuv420p10le", "libx265"),
        ("yuv420p", "libvpx-vp9"),
    ],
)
def test_v4_pixel_formats(tmp_path, pixels, codec):
    path = encode(tmp_path / "film.mkv", pictures=numbered(3), pixels=pixels, video_codec=codec)
    picture = read(path)[0].astype(int)
    assert np.abs(picture[40:, 40:] - 40).max() <= 4
    assert np.abs(picture[4:12, 4:20] - 255).max() <= 8


@pytest.mark.parametrize(
    ("height", "matrix"), [(64, "bt470bg"), (64, "bt709"), (720, "bt709"), (720, None), (64, None)]
)
def test_v4_colour_matrix(tmp_path, height, matrix):
    """Red stays red for stated matrices; unmarked films follow the rule that HD is BT.709."""
    import av

    red = np.zeros((height, 160, 3), np.uint8)
    red[:] = (200, 30, 60)
    code = {"bt470bg": 5, "bt709": 1, None: 1 if height >= 720 else 5}[matrix]
    path = tmp_path / "film.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"crf": "1"})
        stream.height, stream.width, stream.pix_fmt = height, 160, "yuv444p"
        if matrix:
            stream.codec_context.colorspace = code
        frame = av.VideoFrame.from_ndarray(red, format="rgb24").reformat(
            format="yuv444p", dst_colorspace=code, src_color_range=2, dst_color_range=1
        )
        if matrix is None:
            frame.colorspace = 2
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    assert np.abs(read(path)[0].astype(int) - (200, 30, 60)).max() <= 5


def test_v4_interlaced(tmp_path):
    """Two moments lie in the lines of one picture; only one of them is shown."""
    combed = np.full((64, 96, 3), 60, np.uint8)
    combed[1::2] = 180
    path = encode(
        tmp_path / "film.mkv",
        pictures=[combed] * 3,
        pixels="yuv444p",
        video_options={"crf": "1", "x264-params": "interlaced=1:tff=1"},
    )
    film, notes = open_film(path, max_pixels=LIMIT)
    assert any("interlaced" in note for note in notes)
    picture = FilmPictures(film)[0].astype(int)
    assert np.abs(picture - 60).max() <= 12


# V5


def test_v5_shorter_than_the_speech_holds_its_last_picture(tmp_path):
    path = encode(tmp_path / "film.mp4", pictures=numbered(10))
    assert numbers(read(path), (8, 9, 10, 11, 500, 90_000, 3)) == [8, 9, 9, 9, 9, 9, 3]


def test_v5_jumps_in_any_order(tmp_path):
    path = encode(
        tmp_path / "long.mp4", pictures=[each[::2, ::2] for each in numbered(600)], video_options={"g": "50"}
    )
    pictures = read(path)
    wanted = [0, 72, 144, 590, 10, 300, 301, 0, 599, 12]
    assert numbers(pictures, wanted) == [frame % 25 for frame in wanted]
    pictures.close()
    assert numbers(pictures, (5,)) == [5]


# V6


def test_v6_caps(tmp_path):
    path = encode(tmp_path / "film.mp4", pictures=numbered(2, 128, 128))
    assert refused(path, limit=128 * 128 - 1) == "video_too_large"
    assert refused(encode(tmp_path / "tiny.mp4", pictures=numbered(2, 16, 16))) == "video_too_small"
    assert refused(encode(tmp_path / "wide.mp4", pictures=numbered(2, 32, 320))) == "video_aspect"


def test_v6_too_many_pictures_per_second(tmp_path):
    path = encode(
        tmp_path / "fast.mkv",
        pictures=[np.zeros((32, 32, 3), np.uint8)] * 300,
        pts=[0] * 100 + list(range(1, 201)),
        rate=1000,
        video_codec="ffv1",
        pixels="yuv420p",
    )
    assert read(path)[5].shape == (32, 32, 3)


# V7


@pytest.mark.parametrize("name", ["list.mp4", "list.m3u8", "list.sdp", "list.mpd", "list.ffconcat"])
def test_v7_playlists_are_refused(tmp_path, name):
    film = encode(tmp_path / "secret.mp4", pictures=numbered(3))
    contents = {
        "list.mp4": "ffconcat version 1.0\nfile 'secret.mp4'\n",
        "list.ffconcat": f"ffconcat version 1.0\nfile '{film}'\n",
        "list.m3u8": f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nfile://{film}\n#EXT-X-ENDLIST\n",
        "list.sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5 RTP/AVP 96\n",
        "list.mpd": f"<?xml version='1.0'?><MPD><Period><BaseURL>file://{film}</BaseURL></Period></MPD>",
    }
    path = tmp_path / name
    path.write_text(contents[name])
    assert refused(path) == "video_unsupported"


@pytest.mark.parametrize(
    "name", ["concat:a.ts|b.ts", "subfile:,,start,0,end,9,,:x", "lavfi:testsrc", "http://127.0.0.1/x.mp4"]
)
def test_v7_protocols_are_only_names(tmp_path, name, monkeypatch):
    from pathlib import Path

    monkeypatch.chdir(tmp_path)
    assert refused(Path(name)) == "video_not_found"


# V8


def test_v8_other_streams_are_ignored(tmp_path):
    import av

    path = tmp_path / "film.mkv"
    with av.open(str(path), "w") as container:
        sounds = [container.add_stream("pcm_s16le", rate=8000, layout="mono") for _ in range(3)]
        video = container.add_stream("libx264", rate=25)
        video.height, video.width, video.pix_fmt = 64, 96, "yuv420p"
        for stream in sounds:
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), format="s16", layout="mono")
            frame.sample_rate = 8000
            container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
        for picture in numbered(4):
            container.mux(video.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(video.encode(None))
    assert numbers(read(path), range(4)) == [0, 1, 2, 3]


def test_v8_too_many_streams(tmp_path):
    import av

    path = tmp_path / "many.mkv"
    with av.open(str(path), "w") as container:
        streams = [container.add_stream("pcm_s16le", rate=8000, layout="mono") for _ in range(100)]
        for stream in streams:
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 80), np.int16), format="s16", layout="mono")
            frame.sample_rate = 8000
            container.mux(stream.encode(frame))
    assert refused(path) in {"video_unsupported", "no_video_stream"}


# V9


def scene(colour, count, height=36, width=64):
    rng = np.random.default_rng(sum(colour))
    base = np.clip(rng.integers(-20, 20, (height, width, 1)) + np.array(colour), 0, 255)
    # A moving bar, so that a shot is not still.
    shots = []
    for index in range(count):
        picture = base.copy()
        picture[:, index % width : index % width + 4] = 128
        shots.append(picture.astype(np.uint8))
    return shots


def test_v9_cuts_between_different_shots():
    pictures = scene((200, 40, 40), 30) + scene((30, 60, 200), 40) + scene((40, 200, 60), 25)
    assert find_cuts(pictures) == (30, 70)


def test_v9_no_cut_in_one_shot():
    assert find_cuts(scene((120, 90, 60), 80)) == ()
    fade = [np.full((36, 64, 3), value, np.uint8) for value in range(0, 250, 5)]
    assert find_cuts(fade) == ()
    rng = np.random.default_rng(0)
    flicker = [rng.integers(0, 255, (36, 64, 3)).astype(np.uint8) for _ in range(40)]
    assert find_cuts(flicker) == ()
    assert find_cuts([]) == ()


def test_v9_cuts_lie_on_the_time_line_of_the_output(tmp_path):
    pictures = scene((200, 40, 40), 60, 72, 128) + scene((30, 60, 200), 60, 72, 128)
    path = encode(tmp_path / "film.mp4", pictures=pictures, rate=50)
    film = read(path)
    assert find_cuts(film.thumbnails(60)) == (30,)
    assert find_cuts(film.thumbnails(500)) == (30,)
    assert find_cuts(film.thumbnails(20)) == ()


def test_thumbnails_end_with_the_film(tmp_path):
    film = read(encode(tmp_path / "film.mp4", pictures=numbered(10)))
    assert len(list(film.thumbnails(500))) in {10, 11}
    assert len(list(film.thumbnails(4))) == 4


# V10, A11


def test_v10_truncated(tmp_path):
    rng = np.random.default_rng(0)
    noise = [rng.integers(0, 255, (64, 96, 3)).astype(np.uint8) for _ in range(50)]
    path = encode(tmp_path / "whole.mp4", pictures=noise, options={"movflags": "faststart"})
    data = path.read_bytes()
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(data[: len(data) // 2])
    assert refused(cut) == "media_truncated"
    slow = encode(tmp_path / "slow.mp4", pictures=noise)
    cut.write_bytes(slow.read_bytes()[: len(data) // 2])
    assert refused(cut) == "video_unsupported"


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_v10_any_damage_ends_in_our_errors(tmp_path, data):
    suffix = data.draw(st.sampled_from([".mp4", ".mkv", ".avi"]))
    whole = tmp_path / f"whole{suffix}"
    if not whole.exists():
        encode(whole, pictures=numbered(8), sounds=[tone(0.3, 48_000)[:, None]], video_codec="mpeg4")
    content = bytearray(whole.read_bytes())
    for _ in range(data.draw(st.integers(1, 6))):
        at = data.draw(st.integers(0, len(content) - 1))
        content[at : at + 4] = data.draw(st.binary(max_size=8))
    damaged = tmp_path / f"damaged{suffix}"
    damaged.write_bytes(content[: data.draw(st.integers(1, len(content)))])
    try:
        pictures = read(damaged)
        shapes = {pictures[frame].shape for frame in (0, 5, 40, 2)}
    except InputError:
        return
    assert len(shapes) == 1


def test_a_changed_file_is_noticed(tmp_path):
    path = encode(tmp_path / "film.mp4", pictures=numbered(10))
    film, _ = open_film(path, max_pixels=LIMIT)
    encode(path, pictures=numbered(12))
    with pytest.raises(InputError) as error:
        FilmPictures(film)[0]
    assert error.value.code == "video_changed"
