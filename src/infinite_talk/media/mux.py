"""Finished windows and the sound become one mp4: pictures are copied by packet, sound is encoded once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.codec.context import Flags

from infinite_talk.errors import TakeError
from infinite_talk.media.sound import AAC_FRAME, SoundFormat, blocks_for, format_for
from infinite_talk.types import FPS, Soundtrack

_SILENT_TIMESCALE = 1000


def join(
    segments: Sequence[Path],
    target: Path,
    *,
    frames: int,
    soundtrack: Soundtrack | None,
    tags: Mapping[str, str],
    rate: Fraction = Fraction(FPS),
) -> SoundFormat | None:
    """Write the mp4 file ``target``, index first ("faststart"), from files of ``encode.write_segment``.

    Memory does not depend on the length but for the index (some bytes per packet). The same input gives the
    same bytes: no dates, no random identifiers.

    Args:
        segments: at least one, in order; together ``frames`` frames.
        target: the new file; not durable by itself, see ``durable.replacing``.
        frames: length of the result; the sound is cut or continued with silence to it.
        soundtrack: what is heard; ``None`` makes a silent file without a sound track.
        tags: ``title``, ``comment`` and other tags that mp4 knows.
        rate: frames per second.

    Returns:
        In which form the sound went in.

    Raises:
        OSError: ``target`` cannot be written.
        TakeError: the segments do not belong together.
    """
    form = format_for(soundtrack.rate, soundtrack.channels) if soundtrack else None
    options = {
        "fflags": "+bitexact",
        "movflags": "+faststart",
        # Lengths of tracks are stored in this unit; one sample is exact, the usual millisecond is not.
        "movie_timescale": str(form.rate if form else _SILENT_TIMESCALE),
    }
    with (
        av.open(str(segments[0]), format="mp4") as first,
        av.open(str(target), "w", format="mp4", options=options) as container,
    ):
        container.metadata.update(tags)
        video = container.add_stream_from_template(first.streams.video[0])
        sound: Iterator[av.Packet] = iter(())
        if soundtrack and form:
            sound = _sound(_add_audio(container, form), soundtrack, form, frames, rate)
        for packet in _by_time(_pictures(segments, video, frames, rate), sound):
            container.mux(packet)
    return form


def write_sound(
    target: Path, soundtrack: Soundtrack, *, frames: int, rate: Fraction = Fraction(FPS)
) -> SoundFormat:
    """Write the sound that ``join`` would add to ``frames`` frames, packet for packet, as an mp4 file without pictures.

    Raises:
        OSError: ``target`` cannot be written.
    """
    form = format_for(soundtrack.rate, soundtrack.channels)
    options = {"fflags": "+bitexact", "movflags": "+faststart", "movie_timescale": str(form.rate)}
    with av.open(str(target), "w", format="mp4", options=options) as container:
        for packet in _sound(_add_audio(container, form), soundtrack, form, frames, rate):
            container.mux(packet)
    return form


def _by_time(pictures: Iterator[av.Packet], sound: Iterator[av.Packet]) -> Iterator[av.Packet]:
    """Both in the order of time, so that the muxer holds no more than a moment of either."""
    ahead = next(sound, None)
    for picture in pictures:
        while ahead is not None and ahead.pts * ahead.time_base <= picture.pts * picture.time_base:
            yield ahead
            ahead = next(sound, None)
        yield picture
    while ahead is not None:
        yield ahead
        ahead = next(sound, None)


def _pictures(
    segments: Sequence[Path], stream: av.VideoStream, frames: int, rate: Fraction
) -> Iterator[av.Packet]:
    """All video packets, timed by counting. Segments of one encoder and size share their configuration."""
    configuration: bytes | None = None
    count = 0
    for segment in segments:
        with av.open(str(segment), format="mp4") as container:
            source = container.streams.video[0]
            configuration = configuration or source.codec_context.extradata
            if source.codec_context.extradata != configuration:
                raise TakeError(
                    f"{segment} was encoded differently from the windows before it, perhaps by another "
                    "version of the video encoder. Start again with --force."
                )
            for packet in container.demux(source):
                if not packet.size:  # the end-of-file mark
                    continue
                packet.stream, packet.time_base = stream, 1 / rate
                packet.pts = packet.dts = count
                packet.duration = 1
                count += 1
                yield packet
    if count != frames:
        raise TakeError(
            f"The finished windows hold {count} frames, expected {frames}. Start again with --force."
        )


def _add_audio(container: av.container.OutputContainer, form: SoundFormat) -> av.AudioStream:
    stream = container.add_stream("aac", rate=form.rate, layout=form.layout)
    context = stream.codec_context
    context.bit_rate = form.bit_rate
    context.thread_count = 1
    context.flags |= Flags.bitexact
    return stream


def _sound(
    stream: av.AudioStream, soundtrack: Soundtrack, form: SoundFormat, frames: int, rate: Fraction
) -> Iterator[av.Packet]:
    """AAC packets from a time of -1024 samples: the encoder's delay, which the file's edit list skips."""
    for number, block in enumerate(blocks_for(soundtrack, form, frames, rate)):
        samples = np.ascontiguousarray(block, dtype=np.float32).reshape(1, -1)  # channels side by side
        frame = av.AudioFrame.from_ndarray(samples, format="flt", layout=form.layout)
        frame.sample_rate, frame.time_base, frame.pts = form.rate, Fraction(1, form.rate), number * AAC_FRAME
        yield from stream.encode(frame)
    yield from stream.encode(None)
