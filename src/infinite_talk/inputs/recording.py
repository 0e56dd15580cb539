"""Decoding of one audio recording: float samples at its own rate, block by block, trimmed and repaired."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import av
import numpy as np
from av.container import InputContainer
from numpy.typing import NDArray

from infinite_talk.errors import InputError
from infinite_talk.inputs.files import Frame, Stamp, Stream, open_container, open_file, shown, stamp_of

RATES = (1_000, 768_000)
"""Lowest and highest sampling rate that is read."""
MAX_CHANNELS = 64
LATE = 0.02
"""Seconds by which sound may begin after the picture of its own file before silence is put in front."""
GATHERED = 1 << 15
"""Samples that are worked on at a time, or one frame where frames are larger."""
SHORT = 0.95
"""A recording that decodes to less than this share of its declared length is called truncated."""


@dataclass(frozen=True, slots=True)
class Recording:
    """A recording whose beginning has been checked; ``blocks`` decodes it."""

    path: Path
    stamp: Stamp
    rate: int
    channels: int
    declared: float | None
    """Seconds that the file says it lasts, ``None`` if it does not say, or not reliably."""
    streams: int
    """Audio streams in the file; the first one is used."""
    lead: float = 0.0
    """Seconds by which the sound begins after the picture of the same file."""
    start: float = 0.0
    end: float | None = None


@dataclass(slots=True)
class Tally:
    """What was seen while decoding."""

    samples: int = 0
    """Samples per channel before trimming, without the lead."""
    values: int = 0
    not_finite: int = 0
    peak: float = 0.0
    broken_packets: int = 0
    power: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    """Sum of squares of each channel after trimming."""


def open_recording(path: Path, *, start: float = 0.0, end: float | None = None) -> Recording:
    """Check that a file has sound that can be decoded, without decoding all of it.

    Args:
        path: any audio or video file.
        start: seconds that are left out at the beginning.
        end: second at which the recording is cut, ``None`` for its end.

    Raises:
        InputError: ``audio_not_found``, ``audio_empty``, ``audio_unsupported``, ``no_audio_stream``,
            ``audio_corrupt``.
    """
    with open_file(path, "audio") as file:
        stamp = stamp_of(file)
        share = min(1.0, _share_of_wav(file))
        vague = _vague_duration(file)
    with open_container(path, "audio", stamp=stamp) as container:
        if not container.streams.audio:
            raise InputError(
                f"{shown(path)} has no audio stream; give a file with speech in it.", code="no_audio_stream"
            )
        checked_codec(container.streams.audio[0], path, "audio")
        first = next(_frames(container, Tally()), None)
        if first is None:
            raise InputError(f"No sound could be decoded from {shown(path)}.", code="audio_empty")
        declared = None if vague else _declared_seconds(container, first)
        rate, channels = first.sample_rate, first.layout.nb_channels
        if not (RATES[0] <= rate <= RATES[1] and 1 <= channels <= MAX_CHANNELS):
            raise InputError(
                f"{shown(path)} has {channels} channels at {rate} Hz; {RATES[0]} to {RATES[1]} Hz and at "
                f"most {MAX_CHANNELS} channels are read.",
                code="audio_unsupported",
            )
        return Recording(
            path=path,
            stamp=stamp,
            rate=rate,
            channels=channels,
            declared=declared / share if declared and share else declared,
            streams=len(container.streams.audio),
            lead=_lead(container, first),
            start=start,
            end=end,
        )


def blocks(recording: Recording, tally: Tally | None = None) -> Iterator[NDArray[np.float32]]:
    """Decode a recording: ``(n, channels)`` float32 at its own rate, from ``start`` to ``end``.

    NaN and infinity become 0, a lead becomes silence. Integer formats lie in -1..1; float formats are passed
    as they are, up to +-1000.

    Args:
        recording: from ``open_recording``.
        tally: is filled on the way.

    Raises:
        InputError: ``audio_changed``, ``audio_corrupt``.
    """
    tally = tally if tally is not None else Tally()
    tally.power = np.zeros(recording.channels)
    rate = recording.rate
    skip = round(recording.start * rate)
    left = None if recording.end is None else round(recording.end * rate) - skip
    for block in _with_lead(recording, tally):
        part = block[skip:] if skip else block
        skip = max(0, skip - len(block))
        if left is not None:
            part = part[:left]
            left -= len(part)
        if len(part):
            tally.power += np.square(part, dtype=np.float64).sum(axis=0)
            yield part
        if left == 0:
            return


def _with_lead(recording: Recording, tally: Tally) -> Iterator[NDArray[np.float32]]:
    lead = round(recording.lead * recording.rate)
    for start in range(0, lead, recording.rate):
        yield np.zeros((min(recording.rate, lead - start), recording.channels), np.float32)
    with open_container(recording.path, "audio", stamp=recording.stamp) as container:
        for block in _gathered(_decoded(recording, container, tally)):
            yield _repair(block, tally)


def _decoded(recording: Recording, container: InputContainer, tally: Tally) -> Iterator[NDArray[np.float32]]:
    """Samples of each frame, with the channels that the recording began with."""
    for frame in _frames(container, tally):
        if frame.sample_rate != recording.rate:
            raise InputError(
                f"{shown(recording.path)} changes its sampling rate from {recording.rate} to "
                f"{frame.sample_rate} Hz on the way; save it anew as WAV.",
                code="audio_corrupt",
            )
        yield _fit_channels(samples_of(frame), recording.channels)


def _gathered(frames: Iterator[NDArray[np.float32]]) -> Iterator[NDArray[np.float32]]:
    """Several frames in one array: each call of numpy costs more than the thousand samples of an MP3 frame."""
    waiting: list[NDArray[np.float32]] = []
    for frame in frames:
        waiting.append(frame)
        if sum(map(len, waiting)) >= GATHERED:
            yield np.concatenate(waiting)
            waiting = []
    if waiting:
        yield np.concatenate(waiting)


def _frames(container: InputContainer, tally: Tally) -> Iterator[Frame]:
    """Decoded frames of the first audio stream; broken packets are counted and left out, as players do."""
    stream = container.streams.audio[0]
    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets, None)
            if packet is None:
                return
            frames = packet.decode()
        except (av.FFmpegError, ValueError) as error:
            if (
                isinstance(error, av.InvalidDataError)
                and packet is not None
                and tally.broken_packets < 10_000
            ):
                tally.broken_packets += 1
                continue
            return
        for frame in frames:
            if frame.samples:
                tally.samples += frame.samples
                yield frame


def samples_of(frame: Frame) -> NDArray[np.float32]:
    """Samples of a decoded frame as ``(n, channels)`` float32; integers of any width become -1..1."""
    raw = frame.to_ndarray()
    channels = frame.layout.nb_channels
    rows: NDArray[Any] = raw.T if frame.format.is_planar else raw.reshape(-1, channels)
    if rows.dtype == np.uint8:
        return (rows.astype(np.float32) - np.float32(128)) / np.float32(128)
    if np.issubdtype(rows.dtype, np.integer):
        return (rows / -float(np.iinfo(rows.dtype).min)).astype(np.float32)
    with np.errstate(over="ignore", invalid="ignore"):
        return np.array(rows, np.float32)  # a copy, since the frame's memory is used again


def _fit_channels(samples: NDArray[np.float32], channels: int) -> NDArray[np.float32]:
    """Keep the number of channels that the recording began with."""
    have = samples.shape[1]
    if have == channels:
        return samples
    return samples[:, :channels] if have > channels else np.pad(samples, ((0, 0), (0, channels - have)))


def _repair(samples: NDArray[np.float32], tally: Tally) -> NDArray[np.float32]:
    finite = np.isfinite(samples)
    tally.values += samples.size
    if not finite.all():
        tally.not_finite += int(samples.size - finite.sum())
        samples = np.where(finite, samples, np.float32(0))
    samples = np.clip(samples, -1000, 1000)
    tally.peak = max(tally.peak, float(np.abs(samples).max(initial=0)))
    return samples


def _declared_seconds(container: InputContainer, first: Frame) -> float | None:
    """How long the first audio stream says it is, as far as the format can be trusted with it."""
    stream = container.streams.audio[0]
    if "matroska" in container.format.name:
        # Matroska has one length for the whole file; writers put each stream's into a tag.
        tag = stream.metadata.get("DURATION", "")
        try:
            hours, minutes, seconds = (float(part) for part in tag.split(":"))
        except ValueError:
            only = len(container.streams) == 1 and container.duration is not None
            return container.duration / 1e6 if only and container.duration else None
        # The tag is the time at which the stream ends.
        begins = float(first.pts * first.time_base) if first.pts is not None else 0.0
        return hours * 3600 + minutes * 60 + seconds - begins
    if stream.duration is None or stream.time_base is None:
        return None
    return float(stream.duration * stream.time_base)


def _vague_duration(file: BinaryIO) -> bool:
    """Whether the length of this file is an estimate from its bit rate: ADTS, MPEG, MP3 without a table."""
    file.seek(0)
    head = file.read(10)
    if head[:3] == b"ID3":
        # Tag size: four bytes of seven bits each.
        size = sum((byte & 0x7F) << shift for byte, shift in zip(head[6:10], (21, 14, 7, 0), strict=False))
        file.seek(10 + size)
        head = file.read(4096)
    else:
        head += file.read(4086)
    mpeg_frame = len(head) > 1 and head[0] == 0xFF and head[1] & 0xE0 == 0xE0
    if mpeg_frame:
        return not any(mark in head for mark in (b"Xing", b"Info", b"VBRI"))
    return head[0:1] == b"G" or head[:3] == b"\x00\x00\x01"


def _share_of_wav(file: BinaryIO) -> float:
    """How much of its data chunk a WAV file holds, 1 for everything else; the demuxer takes what is there.

    Lengths of 0 or near 2**32 or 2**31 are written by programs that stream and do not know the length.
    """
    total = file.seek(0, 2)
    file.seek(0)
    head = file.read(12)
    if head[:4] != b"RIFF" or head[8:12] != b"WAVE":
        return 1.0
    position = 12
    for _ in range(64):
        file.seek(position)
        chunk = file.read(8)
        if len(chunk) < 8:
            return 1.0
        name, size = struct.unpack("<4sI", chunk)
        if name == b"data":
            return (total - position - 8) / size if 0 < size < 0x7FFFF000 else 1.0
        position += 8 + size + size % 2
    return 1.0


def truncated(path: Path, share: float) -> InputError:
    """The error for a file that holds only ``share`` of what it declares."""
    return InputError(
        f"{shown(path)} is cut off: it holds {100 * share:.0f} % of the sound that it declares. "
        "Copy or download it again.",
        code="media_truncated",
    )


def _lead(container: InputContainer, first: Frame) -> float:
    """Seconds by which the sound of a film begins after its picture."""
    films = [stream for stream in container.streams.video if not is_cover(stream)]
    if not films or films[0].start_time is None or films[0].time_base is None or first.pts is None:
        return 0.0
    late = float(first.pts * first.time_base) - float(films[0].start_time * films[0].time_base)
    return late if LATE < late < 60 else 0.0


def checked_codec(stream: Stream, path: Path, what: str) -> Stream:
    """The stream itself, if there is a decoder for it.

    Raises:
        InputError: ``<what>_unsupported``.
    """
    if stream.codec_context is None:
        raise InputError(
            f"{shown(path)} holds {what} of a kind that cannot be decoded; save it in a common format.",
            code=f"{what}_unsupported",
        )
    return stream


def is_cover(stream: Stream) -> bool:
    """Whether a video stream is only the cover picture of a recording."""
    return bool(stream.disposition & av.stream.Disposition.attached_pic)
