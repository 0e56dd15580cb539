"""One window of frames becomes one H.264 file that can be joined to others without encoding again.

Every file starts with a key frame and refers to nothing outside itself (a closed group of pictures). There
are no B-frames, so decoding order is display order and packets can be re-timed by counting. A fixed number of
threads and the bit-exact paths of the encoder: the same frames give the same bytes.
"""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.codec.context import Flags, ThreadType
from av.video.reformatter import (
    ColorPrimaries,
    ColorRange,
    Colorspace,
    ColorTrc,
    Interpolation,
    VideoReformatter,
)
from numpy.typing import NDArray

from infinite_talk.types import FPS

KEY_INTERVAL = 250
"""Most frames between key frames inside a window: a player can seek at least every ten seconds."""

THREADS = 8
"""Frames that are encoded at once. x264 repeats itself for the same number on any machine, but not for another one,
so it does not follow the processor. At 832 x 480 a frame is 26 ms of one core's work, two seconds for a window;
more threads than 8 gain little, as each waits for the picture before."""

CONVERTERS = 4
"""Threads that turn a picture into YCbCr, a band of lines each; the bytes do not depend on it."""

# Averages the four pixels under each chroma sample, and rounds correctly whatever the processor.
_SCALER = Interpolation.AREA | Interpolation.ACCURATE_RND | Interpolation.BITEXACT


def write_segment(path: Path, frames: NDArray[np.uint8], *, crf: int) -> None:
    """Encode RGB ``frames (F, H, W, 3)``, 25 per second, into the new mp4 file ``path``.

    Args:
        path: the file to write; not durable by itself, see ``durable.replacing``.
        frames: at least one; height and width even.
        crf: constant rate factor of x264, 0 (lossless) to 51.

    Raises:
        OSError: the file cannot be written.
    """
    count, height, width, channels = frames.shape
    if count == 0 or channels != 3 or height % 2 or width % 2 or frames.dtype != np.uint8:
        raise ValueError(f"frames of {frames.shape} {frames.dtype}; expected uint8 (F, even H, even W, 3)")
    write_pictures(path, frames, height=height, width=width, crf=crf)


def write_pictures(
    path: Path,
    pictures: Iterable[NDArray[np.uint8]],
    *,
    height: int,
    width: int,
    crf: int,
    rate: Fraction = Fraction(FPS),
) -> int:
    """Encode RGB pictures ``(height, width, 3)`` as they come, ``rate`` per second; see ``write_segment``.

    Returns:
        how many there were.
    """
    count = 0
    with av.open(str(path), "w", format="mp4", options={"fflags": "+bitexact"}) as container:
        stream = container.add_stream("libx264", rate=rate)
        context = stream.codec_context
        context.width, context.height, context.pix_fmt = width, height, "yuv420p"
        context.color_range = ColorRange.MPEG
        context.colorspace = Colorspace.ITU709
        context.color_primaries = ColorPrimaries.BT709
        context.color_trc = ColorTrc.BT709
        context.time_base = 1 / rate
        context.thread_count, context.thread_type = THREADS, ThreadType.FRAME  # slices would cost quality
        context.gop_size = KEY_INTERVAL
        context.max_b_frames = 0
        context.flags |= Flags.bitexact | Flags.closed_gop
        context.options = {"crf": str(crf), "preset": "medium"}
        reformatter = VideoReformatter()
        for number, picture in enumerate(pictures):
            frame = yuv420p(picture, reformatter)
            frame.pts, frame.time_base = number, 1 / rate
            container.mux(stream.encode(frame))
            count = number + 1
        container.mux(stream.encode(None))
    return count


def yuv420p(picture: NDArray[np.uint8], reformatter: VideoReformatter) -> av.VideoFrame:
    """Full-range RGB ``(H, W, 3)`` as a studio-range BT.709 frame.

    Args:
        reformatter: keeps its tables for the next picture of that size.
    """
    return reformatter.reformat(
        av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24"),
        format="yuv420p",
        src_color_range=ColorRange.JPEG,
        dst_color_range=ColorRange.MPEG,
        dst_colorspace=Colorspace.ITU709,
        interpolation=_SCALER,
        threads=CONVERTERS,
    )
