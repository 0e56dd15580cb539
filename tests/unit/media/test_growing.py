"""A growing video's pieces, one after the other, are the film; and they are the same from the take and the video."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from infinite_talk.errors import TakeError
from infinite_talk.media.growing import (
    Growth,
    Piece,
    codecs_of,
    fragment,
    growth_of,
    initialisation,
    playlist,
    take_of,
    with_duration,
    write_preview_sound,
)
from infinite_talk.media.take import Take, folder_of
from tests.unit.media.fakes import tone
from tests.unit.media.worker import clip_of, plan_of, recipe_of

PLAN = plan_of(5, 4, 4, 6, 3)
FRAMES = 22
SOUND = tone(FRAMES / 25, rate=22_050, channels=2)


def grow(output: Path, windows: int) -> Take:
    take = Take.open(output, recipe_of(PLAN), PLAN)
    while take.finished < windows:
        take.add(clip_of(PLAN.windows[take.finished], take.motion()))
    return take


@pytest.fixture
def sound(tmp_path: Path) -> Path:
    path = tmp_path / "sound.mp4"
    write_preview_sound(path, SOUND, FRAMES)
    return path


def film(output: Path, sound: Path | None) -> bytes:
    growth = growth_of(output)
    return initialisation(output, sound, FRAMES) + b"".join(fragment(output, sound, p) for p in growth.pieces)


def levels(path: Path) -> list[float]:
    with av.open(str(path)) as container:
        return [float(frame.to_ndarray(format="gray").mean()) for frame in container.decode(video=0)]


def heard(path: Path) -> tuple[np.ndarray, list[Fraction]]:
    with av.open(str(path)) as container:
        frames = list(container.decode(audio=0))
    return np.concatenate([frame.to_ndarray() for frame in frames], 1), [f.pts * f.time_base for f in frames]


def test_the_folder_is_the_takes(tmp_path: Path) -> None:
    assert take_of(tmp_path / "me.mp4") == folder_of(tmp_path / "me.mp4")


def test_nothing_is_there_before_the_first_window(tmp_path: Path, sound: Path) -> None:
    output = tmp_path / "me.mp4"
    assert growth_of(output).pieces == ()
    with grow(output, 0):
        assert growth_of(output) == Growth((), FRAMES, 6, complete=False)
        with pytest.raises(TakeError) as raised:
            initialisation(output, sound, FRAMES)
        assert raised.value.code == "not_ready"


def test_pieces_are_the_finished_windows(tmp_path: Path) -> None:
    with grow(tmp_path / "me.mp4", 3):
        growth = growth_of(tmp_path / "me.mp4")
    assert growth.pieces == (Piece(0, 0, 5), Piece(1, 5, 4), Piece(2, 9, 4))
    assert (growth.frames, growth.complete) == (FRAMES, False)


def test_a_window_without_its_note_does_not_count(tmp_path: Path) -> None:
    with grow(tmp_path / "me.mp4", 3) as take:
        (take.folder / "window-00001.json").unlink()
        assert [piece.index for piece in growth_of(tmp_path / "me.mp4").pieces] == [0]


def test_pieces_in_a_row_are_the_finished_film(tmp_path: Path, sound: Path) -> None:
    output, grown = tmp_path / "me.mp4", tmp_path / "grown.mp4"
    with grow(output, len(PLAN.windows)) as take:
        grown.write_bytes(film(output, sound))
        take.finish(SOUND)
    assert levels(grown) == levels(output)
    (ours, times), (theirs, _) = heard(grown), heard(output)
    # The encoder's lead-in is not in the pieces, so what overlaps with it differs: the first packet.
    end = min(ours.shape[1], theirs.shape[1])
    assert np.abs(ours[:, 2048:end] - theirs[:, 2048:end]).max() < 1e-4
    assert times[0] == 0
    assert end >= FRAMES * 22_050 // 25


def test_a_piece_is_the_same_from_the_take_and_from_the_video(tmp_path: Path, sound: Path) -> None:
    output = tmp_path / "me.mp4"
    with grow(output, len(PLAN.windows)) as take:
        pieces = growth_of(output).pieces
        before = [fragment(output, sound, piece) for piece in pieces]
        take.finish(SOUND)
    growth = growth_of(output)
    assert (growth.pieces, growth.complete) == (pieces, True)
    assert [fragment(output, output, piece) for piece in growth.pieces] == before
    assert [fragment(output, sound, piece) for piece in growth.pieces] == before


def test_a_silent_video_has_pieces_too(tmp_path: Path) -> None:
    output, grown = tmp_path / "me.mp4", tmp_path / "grown.mp4"
    with grow(output, 2):
        grown.write_bytes(film(output, None))
    with av.open(str(grown)) as container:
        assert not container.streams.audio
    assert len(levels(grown)) == 9


def test_a_video_without_the_file_beside_it_is_one_piece(tmp_path: Path) -> None:
    output = tmp_path / "me.mp4"
    with grow(output, len(PLAN.windows)) as take:
        take.finish(SOUND)
    output.with_name("me.mp4.json").unlink()
    assert growth_of(output).pieces == (Piece(0, 0, FRAMES),)


def test_players_are_told_the_length_and_the_codecs(tmp_path: Path, sound: Path) -> None:
    output, grown = tmp_path / "me.mp4", tmp_path / "grown.mp4"
    with grow(output, 2):
        head = initialisation(output, sound, 9)
        grown.write_bytes(film(output, sound))
    with av.open(str(grown)) as container:
        assert container.streams.video[0].codec_context.name == "h264"
        level = container.streams.video[0].codec_context.level
    assert codecs_of(head) == f"avc1.6400{level:02x},mp4a.40.2"
    place = head.index(b"mehd")
    scale = int.from_bytes(head[head.index(b"mvhd") + 16 :][:4], "big")
    assert int.from_bytes(head[place + 8 : place + 16], "big") == round(9 / 25 * scale)


@given(st.fractions(min_value=0, max_value=10**7))
def test_the_length_changes_nothing_else(seconds: Fraction) -> None:
    def box(kind: bytes, inner: bytes) -> bytes:
        return (len(inner) + 8).to_bytes(4, "big") + kind + inner

    mvhd = box(b"mvhd", bytes(12) + (1000).to_bytes(4, "big") + bytes(80))
    head = box(b"ftyp", b"iso5") + box(
        b"moov", mvhd + box(b"trak", b"..") + box(b"mvex", box(b"trex", bytes(24)))
    )
    told = with_duration(head, seconds)
    mehd = box(b"mehd", b"\1\0\0\0" + round(seconds * 1000).to_bytes(8, "big"))
    expected = box(b"mvex", mehd + box(b"trex", bytes(24)))
    assert told == box(b"ftyp", b"iso5") + box(b"moov", mvhd + box(b"trak", b"..") + expected)


@given(st.lists(st.integers(1, 200), min_size=1, max_size=6), st.booleans())
def test_a_playlist_names_each_piece_once(lengths: list[int], ended: bool) -> None:
    pieces = tuple(Piece(i, sum(lengths[:i]), frames) for i, frames in enumerate(lengths))
    lines = playlist(Growth(pieces, 999, max(lengths), complete=False), ended=ended, folder="p").splitlines()
    durations = [
        float(line.removeprefix("#EXTINF:").rstrip(",")) for line in lines if line.startswith("#EXTINF")
    ]
    (target,) = [int(line.partition(":")[2]) for line in lines if line.startswith("#EXT-X-TARGETDURATION")]
    assert lines[0] == "#EXTM3U"
    assert [line for line in lines if not line.startswith("#")] == [f"p/{i}.m4s" for i in range(len(lengths))]
    assert durations == pytest.approx([frames / 25 for frames in lengths])
    assert all(round(duration) <= target for duration in durations)  # RFC 8216, 4.3.3.1
    assert ('#EXT-X-MAP:URI="p/init.mp4"' in lines, "#EXT-X-ENDLIST" in lines) == (True, ended)


def test_a_damaged_take_shows_nothing(tmp_path: Path) -> None:
    take_of(tmp_path / "me.mp4").mkdir()
    (take_of(tmp_path / "me.mp4") / "take.json").write_text(json.dumps(["no", "object"]))
    assert growth_of(tmp_path / "me.mp4").pieces == ()
