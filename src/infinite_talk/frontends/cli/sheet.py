"""A contact sheet: pictures of a video at several points in time, side by side with their times."""

from __future__ import annotations

from pathlib import Path

import av
from PIL import Image, ImageDraw, ImageFont

COLUMNS, ROWS = 6, 2
TILE = 240  # pixels; height of a picture on the sheet
_MARGIN, _CAPTION = 8, 22
_PAPER, _INK = "white", "#30343b"


def write_sheet(video: Path, sheet: Path) -> None:
    """Draw ``COLUMNS * ROWS`` pictures, evenly spaced over the video, into the PNG file ``sheet``."""
    with av.open(str(video), format="mp4") as container:
        stream = container.streams.video[0]
        total = max(1, stream.frames)
        wanted = {round(i * (total - 1) / (COLUMNS * ROWS - 1)) for i in range(COLUMNS * ROWS)}
        tiles = [
            (number / float(stream.average_rate), frame.to_image())
            for number, frame in enumerate(container.decode(stream))
            if number in wanted
        ]
    _draw(tiles).save(sheet, optimize=True)


def _draw(tiles: list[tuple[float, Image.Image]]) -> Image.Image:
    width = max(1, round(tiles[0][1].width * TILE / tiles[0][1].height)) if tiles else TILE
    page = Image.new(
        "RGB",
        (COLUMNS * (width + _MARGIN) + _MARGIN, ROWS * (TILE + _CAPTION + _MARGIN) + _MARGIN),
        _PAPER,
    )
    draw, font = ImageDraw.Draw(page), ImageFont.load_default(14)
    for i, (seconds, picture) in enumerate(tiles):
        x = _MARGIN + i % COLUMNS * (width + _MARGIN)
        y = _MARGIN + i // COLUMNS * (TILE + _CAPTION + _MARGIN)
        page.paste(picture.resize((width, TILE), Image.Resampling.LANCZOS), (x, y))
        draw.text((x + width / 2, y + TILE + 3), f"{seconds:.2f} s", fill=_INK, font=font, anchor="ma")
    return page
