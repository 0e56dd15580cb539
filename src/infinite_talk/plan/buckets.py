"""Sizes: which picture size is generated for a source of some shape."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Final

from infinite_talk.errors import UsageError
from infinite_talk.types import Size

STEP = 16
"""Sizes are multiples of this: 8 of the video codec times 2 of the transformer's patches."""
MIN_SIDE = 64
MAX_SIDE = 4096
MAX_AREA = 2304 * 1296
"""Pixels of the largest picture: somewhat more than 1080p, far beyond what the weights were trained on."""

# Official tables: aspect ratio key (height / width) -> height, width. The key is what is compared with the
# source's ratio, and differs a little from the true ratio of the size behind it.
_BUCKETS: Final[dict[str, tuple[tuple[float, int, int], ...]]] = {
    "480": (
        (0.26, 320, 1216),
        (0.38, 384, 1024),
        (0.50, 448, 896),
        (0.67, 512, 768),
        (0.82, 576, 704),
        (1.00, 640, 640),
        (1.22, 704, 576),
        (1.50, 768, 512),
        (1.86, 832, 448),
        (2.00, 896, 448),
        (2.50, 960, 384),
        (2.83, 1088, 384),
        (3.60, 1152, 320),
        (3.80, 1216, 320),
        (4.00, 1280, 320),
    ),
    "720": (
        (0.22, 448, 2048),
        (0.29, 512, 1792),
        (0.36, 576, 1600),
        (0.45, 640, 1408),
        (0.55, 704, 1280),
        (0.63, 768, 1216),
        (0.76, 832, 1088),
        (0.88, 896, 1024),
        (1.00, 960, 960),
        (1.14, 1024, 896),
        (1.31, 1088, 832),
        (1.50, 1152, 768),
        (1.58, 1216, 768),
        (1.82, 1280, 704),
        (1.91, 1344, 704),
        (2.20, 1408, 640),
        (2.30, 1472, 640),
        (2.67, 1536, 576),
        (2.89, 1664, 576),
        (3.62, 1856, 512),
        (3.75, 1920, 512),
    ),
}


@dataclass(frozen=True, slots=True)
class SizeRule:
    """How the size of the output follows from the source's shape."""

    tier: str | None = None
    """``"480"`` or ``"720"``: an official table; else ``None``."""
    width: int = 0
    height: int = 0
    exact: bool = False
    """Take ``width`` x ``height`` as it is; else only its area, with the source's shape."""


def parse_size(text: str) -> SizeRule:
    """Read ``"480"``, ``"720"``, ``"WxH"`` or ``"WxH!"``.

    Raises:
        UsageError: another form, a size outside the limits, or an exact size that is no multiple of 16.
    """
    if text in _BUCKETS:
        return SizeRule(tier=text)
    match = re.fullmatch(r"(-?[0-9]{1,9})[xX×](-?[0-9]{1,9})(!?)", text.strip())
    if not match:
        raise UsageError(f'Size {text[:40]!r} is not understood; use "480", "720", "WxH" or "WxH!".')
    width, height, exact = int(match[1]), int(match[2]), bool(match[3])
    legal = nearest_legal(height, width)
    inside = min(width, height) >= MIN_SIDE and max(width, height) <= MAX_SIDE and width * height <= MAX_AREA
    if not inside or (exact and (legal.height, legal.width) != (height, width)):
        multiple = f"multiples of {STEP} of " if exact else ""
        raise UsageError(
            f"Size {width}x{height} cannot be made: sides must be {multiple}{MIN_SIDE} to {MAX_SIDE} pixels, "
            f"{MAX_AREA} pixels in all. The nearest legal size is {legal.width}x{legal.height}."
        )
    return SizeRule(width=width, height=height, exact=exact)


def choose_size(rule: SizeRule, height: int, width: int) -> Size:
    """The size to generate for an upright source picture of ``height`` x ``width`` pixels."""
    if rule.tier is not None:
        return nearest_bucket(height, width, rule.tier)
    if rule.exact:
        return Size(rule.height, rule.width)
    return nearest_shape(rule.width * rule.height, height / width)


def nearest_bucket(height: int, width: int, tier: str) -> Size:
    """The official bucket whose ratio key is nearest to ``height / width``; the first one wins ties."""
    ratio = height / width
    _, bucket_height, bucket_width = min(_BUCKETS[tier], key=lambda bucket: abs(bucket[0] - ratio))
    return Size(bucket_height, bucket_width)


def nearest_shape(area: int, ratio: float) -> Size:
    """The size in multiples of 16 that is nearest to ``area`` and to ``ratio`` (height / width).

    The two neighbours of each ideal side are compared, in octaves; keeping the shape counts twice as much as
    keeping the area, since a wrong shape crops the picture.
    """
    ideal_height, ideal_width = math.sqrt(area * ratio), math.sqrt(area / ratio)

    def distance(size: Size) -> float:
        shape = abs(math.log2(size.height / size.width / ratio))
        return 2 * shape + abs(math.log2(size.height * size.width / area))

    candidates = [Size(h, w) for h in _multiples_around(ideal_height) for w in _multiples_around(ideal_width)]
    legal = [size for size in candidates if size.height * size.width <= MAX_AREA] or [
        nearest_legal(round(ideal_height), round(ideal_width))
    ]
    return min(legal, key=distance)


def nearest_legal(height: int, width: int) -> Size:
    """The nearest size that can be generated; too large an area is shrunk in its own shape."""
    height, width = (min(max(side, MIN_SIDE), MAX_SIDE) for side in (height, width))
    shrink = math.sqrt(MAX_AREA / (height * width))
    if shrink < 1:
        return Size(*(max(MIN_SIDE, int(side * shrink) // STEP * STEP) for side in (height, width)))
    size = Size(*(math.floor(side / STEP + 0.5) * STEP for side in (height, width)))
    if size.height * size.width <= MAX_AREA:
        return size
    return Size(height // STEP * STEP, width // STEP * STEP)


def _multiples_around(side: float) -> tuple[int, ...]:
    """The legal multiples of 16 just below and above a side."""
    below = math.floor(side / STEP) * STEP
    return tuple(sorted({min(max(value, MIN_SIDE), MAX_SIDE) for value in (below, below + STEP)}))
