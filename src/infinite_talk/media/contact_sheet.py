"""A video at a glance: one picture with frames from its whole length and their times."""

from __future__ import annotations

import io
from fractions import Fraction
from pathlib import Path

import av
from PIL import Image, ImageDraw, ImageFont

from infinite_talk.errors import InputError
from infinite_talk.media.durable import write_bytes

_GAP = 4  # pixels around each frame
_PAPER, _INK = (24, 24, 24), (235, 235, 235)


def contact_sheet(
    video: Path, path: Path, columns: int = 4, rows: int = 3, *, width: int = 240
) -> list[float]:
    """Write the PNG ``path`` with ``columns * rows`` frames of ``video``, evenly spaced from first to last.

    Args:
        video: an mp4 file. It is decoded once, front to back; memory holds the small pictures only.
        path: the picture to write; appears when it is complete.
        columns: pictures side by side, at least 1.
        rows: of pictures, at least 1. A video with fewer frames than places leaves the rest empty.
        width: of each picture in pixels; the height follows.

    Returns:
        The times shown, in seconds.

    Raises:
        InputError: ``video`` is not an mp4 file with pictures in it.
        NoSpaceError: ``path`` cannot be written.
    """
    if columns < 1 or rows < 1 or width < 16:
        raise ValueError(f"{columns} x {rows} pictures of {width} pixels; expected at least 1 x 1 of 16")
    shots = _shots(video, columns * rows, width)
    font = ImageFont.load_default(size=max(10, width // 16))
    label = font.getbbox("0:00.00")[3] + 4
    cell = shots[0][1].height + label
    sheet = Image.new("RGB", (_GAP + columns * (width + _GAP), _GAP + rows * (round(cell) + _GAP)), _PAPER)
    draw = ImageDraw.Draw(sheet)
    for place, (time, picture) in enumerate(shots):
        left = _GAP + place % columns * (width + _GAP)
        top = _GAP + place // columns * (round(cell) + _GAP)
        sheet.paste(picture, (left, top))
        draw.text((left + 2, top + picture.height + 1), clock(time), fill=_INK, font=font)
    png = io.BytesIO()
    sheet.save(png, "PNG", optimize=True)
    write_bytes(path, png.getvalue())
    return [float(time) for time, _ in shots]


def clock(time: Fraction) -> str:
    """``m:ss.hh``, hundredths cut off."""
    hundredths = int(time * 100)
    return f"{hundredths // 6000}:{hundredths // 100 % 60:02d}.{hundredths % 100:02d}"


def _shots(video: Path, places: int, width: int) -> list[tuple[Fraction, Image.Image]]:
    """Time and small picture of up to ``places`` frames; the first and the last are among them."""
    try:
        with video.open("rb") as file, av.open(file, format="mp4") as container:
            stream = container.streams.video[0]
            count = stream.frames
            shown = min(places, count)
            wanted = {round(place * (count - 1) / max(shown - 1, 1)) for place in range(shown)}
            shots = []
            for number, frame in enumerate(container.decode(stream)):
                if number in wanted:
                    shots.append((frame.pts * frame.time_base, _small(frame, width)))
    except (OSError, ValueError, IndexError, av.FFmpegError) as error:
        raise InputError(f"{video} cannot be shown: expected an mp4 file with pictures.") from error
    if not shots:
        raise InputError(f"{video} has no pictures in it.")
    return shots


def _small(frame: av.VideoFrame, width: int) -> Image.Image:
    height = max(1, round(frame.height * width / frame.width))
    picture: Image.Image = frame.to_image()
    return picture.resize((width, height), Image.Resampling.LANCZOS)
