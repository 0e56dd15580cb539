"""A video that is being made, as far as it is on disk, as pieces that a player can play one after the other.

The pieces are those of a fragmented mp4 (ISO/IEC 14496-12, 8.8): an initialisation segment, then one fragment for each
finished window with its pictures and its sound. One after the other they are one film; a playlist (HLS, RFC 8216) may
name them too. Pictures are copied, never encoded again. A fragment is the same bytes whether it is cut from the take or
from the finished video, so that a viewer does not notice when the one becomes the other.

Only files that this program has written are read here, and torch is not needed.
"""

from __future__ import annotations

import io
import json
import math
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av

from infinite_talk.errors import TakeError
from infinite_talk.media.durable import replacing
from infinite_talk.media.mux import write_sound
from infinite_talk.media.recipe import sidecar_of
from infinite_talk.types import FPS, Soundtrack

_OPTIONS = {
    "fflags": "+bitexact",
    # One fragment per file, timed from the beginning of the film; the table of fragments at the end is left away.
    "movflags": "+empty_moov+default_base_moof+frag_discont+frag_custom+skip_trailer",
    "use_editlist": "0",
    "avoid_negative_ts": "disabled",
}


@dataclass(frozen=True, slots=True)
class Piece:
    """The new frames of one finished window."""

    index: int
    start: int  # first frame, from the video's beginning
    frames: int

    @property
    def seconds(self) -> float:
        """How long it plays."""
        return self.frames / FPS


@dataclass(frozen=True, slots=True)
class Growth:
    """How far a video is. ``pieces`` are in order and without a gap."""

    pieces: tuple[Piece, ...]
    frames: int  # of the whole video, 0 while that is not known
    longest: int  # frames of its longest piece, made or not
    complete: bool  # the file is there


NOTHING = Growth((), 0, 0, complete=False)


def take_of(output: Path) -> Path:
    """The folder in which ``output`` grows (as ``take.folder_of``, without torch)."""
    return output.with_name(output.name + ".take")


def growth_of(output: Path) -> Growth:
    """Which windows of the video ``output`` are on disk, there or in its take."""
    for _ in range(2):  # a take that goes away while it is read has become the video
        if output.is_file():
            return _of_video(output)
        try:
            return _of_take(take_of(output))
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return NOTHING


def initialisation(output: Path, sound: Path | None, frames: int) -> bytes:
    """What a player needs before the first fragment: the form of both tracks, and how long they play.

    Args:
        output: the video, with at least one finished window.
        sound: file of ``write_preview_sound``; ``None`` for a video without sound.
        frames: that will be played in all.

    Raises:
        TakeError: no window is finished.
    """
    head, _ = _cut(_written(output, sound, _first(output)))
    return with_duration(head, Fraction(frames, FPS))


def with_duration(head: bytes, seconds: Fraction) -> bytes:
    """An initialisation segment that says how long its fragments play together.

    That is what the box ``mehd`` in ``mvex`` is for (ISO/IEC 14496-12, 8.8.2), in units of the movie's time scale; the
    writer of the other boxes leaves it away, as it cannot know.
    """
    moov = _find(head, b"moov", 0, len(head))
    mvhd = _find(head, b"mvhd", moov.start + 8, moov.stop)
    mvex = _find(head, b"mvex", moov.start + 8, moov.stop)
    long_times = head[mvhd.start + 8] == 1  # version 1 has dates of eight bytes before the time scale
    (scale,) = struct.unpack_from(">I", head, mvhd.start + (28 if long_times else 20))
    box = struct.pack(">I4sIQ", 20, b"mehd", 1 << 24, round(seconds * scale))
    told = bytearray(head[: mvex.start + 8] + box + head[mvex.start + 8 :])
    for grown in (moov, mvex):
        struct.pack_into(">I", told, grown.start, grown.stop - grown.start + len(box))
    return bytes(told)


def codecs_of(head: bytes) -> str:
    """What the tracks of an initialisation segment are, as RFC 6381 names it: ``avc1.64001f,mp4a.40.2``."""
    place = head.find(b"avcC")
    if place < 0:
        raise ValueError("expected H.264")
    profile = head[place + 5 : place + 8].hex()  # after the version: profile, constraints, level
    return f"avc1.{profile}" + (",mp4a.40.2" if b"mp4a" in head else "")


def fragment(output: Path, sound: Path | None, piece: Piece) -> bytes:
    """The pictures and the sound of one finished window.

    Raises:
        TakeError: the window is not there (any more).
    """
    _, body = _cut(_written(output, sound, piece))
    return body


def write_preview_sound(path: Path, soundtrack: Soundtrack, frames: int) -> None:
    """Write the sound of ``frames`` frames as the finished video will have it, as an mp4 file without pictures.

    Raises:
        NoSpaceError: the file cannot be written.
    """
    with replacing(path) as part:
        write_sound(part, soundtrack, frames=frames)


def playlist(growth: Growth, *, ended: bool, folder: str) -> str:
    """An HLS playlist (RFC 8216) of the pieces that are there.

    Args:
        growth: what is there.
        ended: nothing will be added.
        folder: where ``init.mp4`` and ``0.m4s``, ``1.m4s`` ... are, relative to the playlist.
    """
    target = max(1, math.ceil(growth.longest / FPS))
    lines = [
        "#EXTM3U",
        "#EXT-X-VERSION:7",
        f"#EXT-X-TARGETDURATION:{target}",
        "#EXT-X-MEDIA-SEQUENCE:0",
        "#EXT-X-PLAYLIST-TYPE:EVENT",
        "#EXT-X-INDEPENDENT-SEGMENTS",
        f'#EXT-X-MAP:URI="{folder}/init.mp4"',
    ]
    for piece in growth.pieces:
        lines += [f"#EXTINF:{piece.seconds:.6f},", f"{folder}/{piece.index}.m4s"]
    return "\n".join([*lines, *(["#EXT-X-ENDLIST"] if ended else []), ""])


def _of_take(folder: Path) -> Growth:
    """Windows count by their notes, which are written last; see ``take``."""
    state = _json(folder / "take.json")
    if not _usual_pace(state["recipe"]):
        return NOTHING
    planned = [int(window["new"]) for window in state["plan"]["windows"]]
    made = []
    for number, frames in enumerate(planned):
        if not (folder / f"window-{number:05d}.json").is_file():
            break
        made.append(frames)
    return Growth(_pieces(made), sum(planned), max(planned), complete=False)


def _of_video(output: Path) -> Growth:
    """By the file beside it; without that the video is one piece."""
    try:
        told = _json(sidecar_of(output))
        if not _usual_pace(told["recipe"]):
            return NOTHING
        made = [int(window["frames"]) for window in told["windows"]]
    except (OSError, ValueError, KeyError, TypeError):
        with output.open("rb") as file, av.open(file, format="mp4") as container:
            made = [container.streams.video[0].frames]
    return Growth(_pieces(made), sum(made), max(made), complete=True)


def _usual_pace(recipe: Any) -> bool:  # noqa: ANN401 - JSON
    """Whether a video has 25 pictures a second; one at another pace cannot be watched before it is finished."""
    return bool(recipe["picture"]["fps"] == FPS)


def _pieces(made: Sequence[int]) -> tuple[Piece, ...]:
    return tuple(Piece(number, sum(made[:number]), frames) for number, frames in enumerate(made))


def _first(output: Path) -> Piece:
    pieces = growth_of(output).pieces
    if not pieces:
        raise TakeError(f"No window of {output.name} is finished. Ask again later.", code="not_ready")
    return pieces[0]


def _json(path: Path) -> dict[str, Any]:
    found = json.loads(path.read_bytes())
    if not isinstance(found, dict):
        raise ValueError(f"{path} holds no object")
    return found


def _written(output: Path, sound: Path | None, piece: Piece) -> bytes:
    """One fragment with its initialisation in front."""
    segment = take_of(output) / f"window-{piece.index:05d}.mp4"
    try:
        return _mux(segment, 0, sound, piece)
    except (OSError, av.FFmpegError):  # not there any more, or never was: the video is finished
        pass
    try:
        return _mux(output, piece.start, sound and output, piece)
    except (OSError, av.FFmpegError) as error:
        raise TakeError(
            f"Window {piece.index + 1} of {output.name} is not there. Ask for what is there again.",
            code="not_ready",
        ) from error


def _mux(pictures: Path, skip: int, sound: Path | None, piece: Piece) -> bytes:
    """``skip``: frames in the file ``pictures`` before those of the piece."""
    written = io.BytesIO()
    options = {**_OPTIONS, "fragment_index": str(piece.index + 1)}
    with (
        pictures.open("rb") as file,
        av.open(file, format="mp4") as source,
        av.open(written, "w", format="mp4", options=options) as target,
    ):
        video = target.add_stream_from_template(source.streams.video[0])
        if sound is None:
            for packet in _pictures(source, skip, piece, video):
                target.mux(packet)
        else:
            with sound.open("rb") as heard, av.open(heard, format="mp4") as voice:
                audio = target.add_stream_from_template(voice.streams.audio[0])
                for packet in _pictures(source, skip, piece, video):
                    target.mux(packet)
                for packet in _sounds(voice, piece, audio):
                    target.mux(packet)
    return written.getvalue()


def _pictures(
    source: av.container.InputContainer, skip: int, piece: Piece, target: av.VideoStream
) -> Iterator[av.Packet]:
    stream = source.streams.video[0]
    if skip:
        source.seek(round(Fraction(skip, FPS) / stream.time_base), stream=stream)
    for packet in source.demux(stream):
        if not packet.size:
            continue
        number = round(packet.pts * packet.time_base * FPS) - skip
        if number >= piece.frames:
            return
        if number >= 0:
            packet.stream, packet.time_base, packet.duration = target, Fraction(1, FPS), 1
            packet.pts = packet.dts = piece.start + number
            yield packet


def _sounds(source: av.container.InputContainer, piece: Piece, target: av.AudioStream) -> Iterator[av.Packet]:
    """Packets that begin while the piece plays. The encoder's lead-in before time 0 belongs to none."""
    stream = source.streams.audio[0]
    begin, end = Fraction(piece.start, FPS), Fraction(piece.start + piece.frames, FPS)
    if piece.start:
        source.seek(max(0, int((begin - 1) / stream.time_base)), stream=stream)
    for packet in source.demux(stream):
        if not packet.size:
            continue
        time = packet.pts * packet.time_base
        if time >= end:
            return
        if time >= begin:
            packet.stream = target
            yield packet


def _cut(data: bytes) -> tuple[bytes, bytes]:
    """The boxes before the fragment, and the fragment."""
    fragment = _find(data, b"moof", 0, len(data))
    return data[: fragment.start], data[fragment.start :]


def _find(data: bytes, kind: bytes, start: int, end: int) -> slice:
    """Where a box is among those that lie side by side between two places."""
    while start + 8 <= end:
        size, name = struct.unpack_from(">I4s", data, start)
        if name == kind:
            return slice(start, start + size)
        start += size
    raise ValueError(f"there is no box {kind.decode()}")
