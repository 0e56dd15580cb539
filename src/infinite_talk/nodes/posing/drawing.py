"""A skeleton as the coloured sticks of OpenPose and DWPose, which UniAnimate was trained on."""

from __future__ import annotations

import colorsys
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from infinite_talk.nodes.posing.skeleton import Points, Skeleton

_COLOURS = (
    *((255, 0, 0), (255, 85, 0), (255, 170, 0), (255, 255, 0), (170, 255, 0), (85, 255, 0), (0, 255, 0)),
    *((0, 255, 85), (0, 255, 170), (0, 255, 255), (0, 170, 255), (0, 85, 255), (0, 0, 255), (85, 0, 255)),
    *((170, 0, 255), (255, 0, 255), (255, 0, 170), (255, 0, 85), (170, 255, 255), (255, 255, 0)),
)
"""Of sticks and joints by their numbers."""
_BODY = ((1, 2), (1, 5), (2, 3), (3, 4), (5, 6), (6, 7), (1, 8), (8, 9), (9, 10), (1, 11), (11, 12), (12, 13))
_HEAD = ((1, 0), (0, 14), (14, 16), (0, 15), (15, 17))
_FEET = ((13, 18), (10, 19))
_FINGERS = tuple((0 if joint % 4 == 1 else joint - 1, joint) for joint in range(1, 21))
_FADED = 0.6  # sticks are darker than joints
_HAND_WIDTH = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Style:
    """What is drawn, in pixels."""

    stick_width: int = 4
    """Half the width of a stick in its middle."""
    body: bool = True
    body_radius: int = 4
    feet: bool = True
    hands: bool = True
    hand_radius: int = 4
    head: bool = True


def draw(skeleton: Skeleton, height: int, width: int, style: Style) -> NDArray[np.uint8]:
    """A picture ``(height, width, 3)``, RGB on black. What is not seen is left out."""
    image = Image.new("RGB", (width, height))
    size = np.array([width, height])
    body, hands = skeleton.body * size, skeleton.hands * size
    pen = ImageDraw.Draw(image)
    sticks = (*_BODY, *_HEAD, *_FEET)
    shown = (style.body,) * len(_BODY) + (style.head,) * len(_HEAD) + (style.feet,) * len(_FEET)
    joints: dict[int, None] = {}
    for stick, colour, show in zip(sticks, _COLOURS, shown, strict=False):
        ends = body[list(stick)]
        if show and np.isfinite(ends).all():
            pen.polygon(_ellipse(ends, style.stick_width), fill=colour)
        if show:
            joints |= dict.fromkeys(stick)
    image = image.point(lambda value: int(value * _FADED))
    pen = ImageDraw.Draw(image)
    for joint in sorted(joints):
        _dot(pen, body[joint], style.body_radius, _COLOURS[joint])
    for hand in hands:
        _draw_hand(pen, hand, style)
    return np.array(image)


def _draw_hand(pen: ImageDraw.ImageDraw, hand: Points, style: Style) -> None:
    if style.hands:
        for number, bone in enumerate(_FINGERS):
            ends = hand[list(bone)]
            if np.isfinite(ends).all():
                red, green, blue = colorsys.hsv_to_rgb(number / len(_FINGERS), 1.0, 1.0)
                colour = (int(255 * red), int(255 * green), int(255 * blue))
                pen.line([tuple(end) for end in ends.tolist()], fill=colour, width=_HAND_WIDTH)
    for joint in hand:
        _dot(pen, joint, style.hand_radius, (0, 0, 255))


def _dot(pen: ImageDraw.ImageDraw, at: Points, radius: int, colour: tuple[int, int, int]) -> None:
    if radius and np.isfinite(at).all():
        x, y = at.tolist()
        pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=colour)


def _ellipse(ends: Points, half_width: float) -> list[tuple[float, float]]:
    """Points of an ellipse along a stick."""
    (x, y), along = ends.mean(axis=0).tolist(), (ends[1] - ends[0]) / 2
    length = float(np.linalg.norm(along)) or 1.0
    across = np.array([-along[1], along[0]]) / length * half_width
    turns = [math.tau * i / 40 for i in range(40)]
    return [
        (
            x + math.cos(turn) * float(along[0]) + math.sin(turn) * float(across[0]),
            y + math.cos(turn) * float(along[1]) + math.sin(turn) * float(across[1]),
        )
        for turn in turns
    ]
