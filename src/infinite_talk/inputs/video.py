"""Films for dubbing: upright pictures by time at 25 frames per second, decoded when asked for.

A film shorter than the speech holds its last picture, as the official program does; a longer one is not used
to its end.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.container import InputContainer
from av.video.reformatter import ColorRange, Colorspace, VideoReformatter
from numpy.typing import NDArray
from PIL import Image

from infinite_talk.errors import InputError
from infinite_talk.inputs.files import Frame, Stamp, Stream, open_container, open_file, shown, stamp_of
from infinite_talk.inputs.image import check_pixels, check_shape
from infinite_talk.inputs.recording import checked_codec, is_cover
from infinite_talk.types import FPS

ROUNDING = 0.001
"""Seconds by which time stamps may be rounded up; containers such as Matroska count milliseconds."""
JUMP = 10.0
"""Seconds ahead beyond which seeking is faster than decoding everything in between."""
MAX_RATE = 1000
"""Source frames per second beyond which a file is taken for an attack."""
SYNC = 0.1
"""Seconds by which picture and sound of a file may begin apart before the file's own clock counts."""
HDR_TRANSFERS = (16, 18)
"""Transfer functions PQ and HLG."""


@dataclass(frozen=True, slots=True)
class Film:
    """A film whose beginning has been checked."""

    path: Path
    stamp: Stamp
    height: int  # upright, square pixels
    width: int
    aspect: Fraction  # width of a stored pixel / its height
    zero: float  # time stamp of the first picture, seconds
    max_pixels: int


def open_film(path: Path, *, max_pixels: int) -> tuple[Film, list[str]]:
    """Check a film's beginning: it has pictures, of an acceptable size, that can be decoded.

    Args:
        path: MP4, MOV, MKV, WebM, AVI, ..., recognised by content.
        max_pixels: largest width x height, checked before any picture is decoded.

    Raises:
        InputError: ``video_not_found``, ``video_empty``, ``video_unsupported``, ``no_video_stream``,
            ``video_too_large``, ``video_too_small``, ``video_aspect``, ``video_corrupt``,
            ``media_truncated``.
    """
    with open_file(path, "video") as file:
        stamp = stamp_of(file)
    with open_container(path, "video", stamp=stamp) as container:
        stream = _first_film(container, path)
        check_pixels(stream.codec_context.height, stream.codec_context.width, path, "video", max_pixels)
        _check_index(stream, stamp, path)
        first = next(_frames(container, stream), None)
        if first is None:
            raise InputError(
                f"No picture could be decoded from {shown(path)}; save or download it again.",
                code="video_corrupt",
            )
        check_pixels(first.height, first.width, path, "video", max_pixels)
        aspect = _pixel_aspect(stream)
        height, width = _upright_size(first, aspect)
        check_shape(height, width, path, "video")
        film = Film(path, stamp, height, width, aspect, _zero(container, stream, first), max_pixels)
        notes = []
        if first.color_trc in HDR_TRANSFERS:
            notes.append(f"{shown(path)} is HDR; its colours are shown without tone mapping.")
        if first.interlaced_frame:
            notes.append(f"{shown(path)} is interlaced; one field of each picture is used.")
        return film, notes


def film_rate(film: Film) -> Fraction:
    """Pictures per second that the film itself states, the model's own where it says nothing or something absurd.

    Raises:
        InputError: as ``stored_pictures``.
    """
    with open_container(film.path, "video", stamp=film.stamp) as container:
        rate = _first_film(container, film.path).average_rate
        return Fraction(rate) if rate and 1 <= rate <= MAX_RATE else Fraction(FPS)


def stored_pictures(film: Film) -> Iterator[NDArray[np.uint8]]:
    """Every stored picture of a film in the order of showing, upright RGB ``(H, W, 3)``.

    Raises:
        InputError: ``video_changed``, ``video_too_large``.
    """
    with open_container(film.path, "video", stamp=film.stamp) as container:
        for frame in _frames(container, _first_film(container, film.path)):
            check_pixels(frame.height, frame.width, film.path, "video", film.max_pixels)
            yield upright(frame, film)


class FilmPictures:
    """A ``types.Pictures`` over a film: what it shows at time ``frame / 25``; its last picture holds.

    Holds one decoder and one picture. Going forward is cheap, going back seeks.

    Args:
        film: from ``open_film``.
        by_index: take the source's pictures one by one whatever its frame rate, as the official program does.
    """

    still = False

    def __init__(self, film: Film, *, by_index: bool = False) -> None:
        self._film = film
        self._by_index = by_index
        self._cursor: Cursor | None = None
        self._last: tuple[int, NDArray[np.uint8]] | None = None

    def __getitem__(self, frame: int) -> NDArray[np.uint8]:
        """RGB picture ``(H, W, 3)`` shown at ``frame`` of the output.

        Raises:
            InputError: ``video_corrupt``, ``video_changed``.
        """
        if self._last is None or self._last[0] != frame:
            if self._cursor is None:
                self._cursor = Cursor(self._film, by_index=self._by_index)
            self._last = frame, upright(self._cursor.at(frame / FPS), self._film)
        return self._last[1]

    def thumbnails(self, frames: int, *, height: int = 36, width: int = 64) -> Iterator[NDArray[np.uint8]]:
        """Small pictures ``(height, width, 3)`` of the first ``frames`` output frames, at most to the end."""
        cursor, reformatter = Cursor(self._film, by_index=self._by_index), VideoReformatter()
        with cursor:
            for frame in range(frames):
                picture = cursor.at(frame / FPS)
                if cursor.ended and frame:
                    return
                small = reformatter.reformat(picture, width=width, height=height, format="rgb24")
                yield np.asarray(small.to_ndarray(), np.uint8)

    def close(self) -> None:
        """Close the file; it opens again when needed."""
        if self._cursor is not None:
            self._cursor.close()
        self._cursor = None


class Cursor:
    """The decoder of a film at some time: the picture on show, and the one after it."""

    def __init__(self, film: Film, *, by_index: bool) -> None:
        self._film = film
        self._by_index = by_index
        self._open = ExitStack()
        self._pictures: Iterator[tuple[float, Frame]]
        self._shown: tuple[float, Frame]
        self._next: tuple[float, Frame] | None
        self._earliest: float
        self._time = 0.0
        self._restart(0.0)

    def __enter__(self) -> Cursor:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._open.close()

    @property
    def ended(self) -> bool:
        """Whether the picture on show is the last one and its time has passed."""
        return self._next is None and self._time > self._shown[0] + 1 / FPS

    def at(self, time: float) -> Frame:
        """The stored picture shown at a time in seconds."""
        self._time = time
        back = time + ROUNDING < self._shown[0] and self._shown[0] > self._earliest
        far_ahead = time > self._shown[0] + JUMP and self._next is not None and not self._by_index
        if back or far_ahead:
            self._restart(time)
        decoded, most = 0, MAX_RATE * (2 * JUMP + max(0.0, time - self._shown[0]))
        while self._next is not None and self._next[0] <= time + ROUNDING:
            self._shown, self._next = self._next, next(self._pictures, None)
            decoded += 1
            if decoded > most:
                raise InputError(
                    f"{shown(self._film.path)} has more than {MAX_RATE} pictures per second.",
                    code="video_corrupt",
                )
        return self._shown[1]

    def _restart(self, time: float) -> None:
        """Open the file anew, at the last key frame before ``time`` if it can seek, else at its beginning."""
        for seek in (time > JUMP and not self._by_index, False):
            self._open.close()
            container = self._open.enter_context(
                open_container(self._film.path, "video", stamp=self._film.stamp)
            )
            stream = _first_film(container, self._film.path)
            if seek:
                try:
                    container.seek(int((time + self._film.zero) / stream.time_base), stream=stream)
                except av.FFmpegError:
                    continue
            self._pictures = self._timed(container, stream)
            first = next(self._pictures, None)
            if first is not None and (not seek or first[0] <= time + ROUNDING):
                self._earliest = -np.inf if seek else first[0]
                self._shown, self._next = first, next(self._pictures, None)
                return
        raise InputError(f"No picture could be decoded from {shown(self._film.path)}.", code="video_corrupt")

    def _timed(self, container: InputContainer, stream: Stream) -> Iterator[tuple[float, Frame]]:
        """Pictures with the time at which each begins to show."""
        time = 0.0
        for index, frame in enumerate(_frames(container, stream)):
            if self._by_index:
                time = index / FPS
            elif frame.pts is not None:
                time = float(frame.pts * frame.time_base) - self._film.zero
            else:
                time += float(1 / (stream.average_rate or FPS))
            check_pixels(frame.height, frame.width, self._film.path, "video", self._film.max_pixels)
            yield time, frame


def upright(frame: Frame, film: Film) -> NDArray[np.uint8]:
    """A stored picture as RGB ``(H, W, 3)``: progressive, rotated and stretched as it is to be seen."""
    picture = _to_rgb(frame)
    if frame.interlaced_frame:
        picture = _one_field(picture)
    # The matrix says by how many degrees the picture is turned counter-clockwise to be shown.
    picture = np.rot90(picture, round(frame.rotation / 90) % 4)
    if picture.shape[:2] != (film.height, film.width):
        image = Image.fromarray(np.ascontiguousarray(picture))
        picture = np.asarray(image.resize((film.width, film.height), Image.Resampling.BICUBIC))
    return np.ascontiguousarray(picture)


def _one_field(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Replace every second line, which shows another moment, by the mean of its neighbours."""
    even = picture[0::2]
    below = np.concatenate([even[1:], even[-1:]])
    whole = np.repeat(even, 2, axis=0)[: len(picture)]
    whole[1::2] = ((even.astype(np.uint16) + below + 1) // 2)[: len(picture) // 2]
    return whole


def _to_rgb(frame: Frame) -> NDArray[np.uint8]:
    """8-bit RGB with the colour matrix and range that the file states, else those usual for its size."""
    known = {int(space) for space in Colorspace}
    stated = int(frame.colorspace)
    # Unmarked pictures: BT.709 for HD, BT.601 below, the rule that players follow.
    usual = Colorspace.ITU709 if frame.height >= 720 else Colorspace.ITU601
    if frame.format.is_rgb:
        rgb: NDArray[np.uint8] = frame.to_ndarray(format="rgb24")
        return rgb
    full = frame.color_range == ColorRange.JPEG or frame.format.name.startswith("yuvj")
    converted = frame.reformat(
        format="rgb24",
        src_colorspace=Colorspace(stated) if stated in known else usual,
        src_color_range=ColorRange.JPEG if full else ColorRange.MPEG,
        dst_color_range=ColorRange.JPEG,
    )
    rgb = converted.to_ndarray()
    return rgb


def _frames(container: InputContainer, stream: Stream) -> Iterator[Frame]:
    """Decoded pictures in the order of showing; broken packets are left out, as players do."""
    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets, None)
        except av.FFmpegError:
            return
        if packet is None:
            return
        try:
            yield from packet.decode()
        except av.FFmpegError:
            continue


def _first_film(container: InputContainer, path: Path) -> Stream:
    for stream in container.streams.video:
        if not is_cover(stream):
            return checked_codec(stream, path, "video")
    raise InputError(
        f"{shown(path)} has no video stream; give a film, or a picture as image.", code="no_video_stream"
    )


def _check_index(stream: Stream, stamp: Stamp, path: Path) -> None:
    """Refuse a file whose own index points beyond its end: it was cut off after its index."""
    entries = stream.index_entries
    last = entries[len(entries) - 1] if len(entries) else None
    if last is not None and last.pos + last.size > stamp.size:
        inside = sum(entry.pos + entry.size <= stamp.size for entry in entries)
        if inside < 0.95 * len(entries):
            raise InputError(
                f"{shown(path)} is cut off: it holds {100 * inside / len(entries):.0f} % of the pictures "
                "that it declares. Copy or download it again.",
                code="media_truncated",
            )


def _pixel_aspect(stream: Stream) -> Fraction:
    """Width of a stored pixel / its height; 1 where the file says nothing or something absurd."""
    aspect = stream.sample_aspect_ratio or stream.codec_context.sample_aspect_ratio
    return Fraction(aspect) if aspect and Fraction(1, 4) <= aspect <= 4 else Fraction(1)


def _upright_size(frame: Frame, aspect: Fraction) -> tuple[int, int]:
    """Height and width as seen: pixels stretched to squares (never shrunk), then turned."""
    height = frame.height if aspect >= 1 else round(frame.height / aspect)
    width = round(frame.width * aspect) if aspect > 1 else frame.width
    return (width, height) if round(frame.rotation / 90) % 2 else (height, width)


def _zero(container: InputContainer, stream: Stream, first: Frame) -> float:
    """Time stamp of the beginning: the first picture's, unless the sound begins far earlier."""
    if first.pts is None:
        return 0.0
    picture = float(first.pts * stream.time_base)
    file = picture if container.start_time is None else container.start_time / 1e6
    return picture if picture - file < SYNC else file
