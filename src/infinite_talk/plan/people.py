"""People: which pixels of the source picture belong to which speaker."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from infinite_talk.errors import UsageError
from infinite_talk.request import Box

Mask: TypeAlias = NDArray[np.bool_]


MARGIN = 0.05
"""Share of a person's half that the default mask leaves free on each side."""


def person_masks(
    height: int, width: int, given: Sequence[Box | Mask | None], *, margin: float = MARGIN
) -> Mask:
    """Masks of all people and of the background, at the source's size.

    Args:
        height: of the upright source picture in pixels.
        width: likewise.
        given: for each person a box, a mask ``(height, width)``, or ``None``. One person alone owns the whole
            picture when nothing is given; two people without places own the left and the right half, less a
            margin; more people need a place each.
        margin: share of the height and of the half's width left free on each side by default.

    Returns:
        ``(P + 1, height, width)``: the people in order, then the background. For one person without a place
        all of it is true, background included, as the official program has it.

    Raises:
        UsageError: some people have a place and some have not, or more than two have none.
    """
    places = [place for place in given if place is not None]
    if not places:
        return _default_masks(height, width, len(given), margin)
    if len(places) < len(given):
        raise UsageError(
            f"{len(places)} of {len(given)} people have a box or mask; give one to each of them or to none."
        )
    people = np.stack(
        [box_mask(height, width, place) if isinstance(place, Box) else place for place in places]
    )
    return with_background(people)


def _default_masks(height: int, width: int, people: int, margin: float) -> Mask:
    if people == 1:
        return np.ones((2, height, width), np.bool_)
    if people != 2:
        raise UsageError(f"{people} people speak: say where each of them is, with a box or a mask image.")
    masks = np.zeros((2, height, width), np.bool_)
    top, bottom = int(height * margin), int(height * (1 - margin))
    half = width // 2
    left, right = half * margin, half * (1 - margin)
    masks[0, top:bottom, int(left) : int(right)] = True
    masks[1, top:bottom, int(left + half) : int(right + half)] = True
    return with_background(masks)


def with_background(people: Mask) -> Mask:
    """Append the complement of all people to their masks ``(P, H, W)``."""
    return np.concatenate([people, ~people.any(axis=0, keepdims=True)])


def box_mask(height: int, width: int, box: Box) -> Mask:
    """The pixels inside a box, its numbers truncated to whole pixels and cut at the picture's border.

    Raises:
        UsageError: the box contains no pixel of the picture.
    """
    mask = np.zeros((height, width), np.bool_)
    top, bottom, left, right = (max(0, int(value)) for value in (box.top, box.bottom, box.left, box.right))
    mask[top:bottom, left:right] = True
    if not mask.any():
        raise UsageError(
            f"The box left={box.left:g} top={box.top:g} right={box.right:g} bottom={box.bottom:g} contains "
            f"no pixel of the picture, which is {width}x{height} (width x height)."
        )
    return mask


def official_box(numbers: Sequence[float]) -> Box:
    """A box of an official job file, whose first and third number are rows and the others columns.

    The official program calls them x and y, but uses them the other way round.

    Raises:
        UsageError: there are not four numbers.
    """
    if len(numbers) != 4:
        raise UsageError(f"A box has four numbers; came {len(numbers)}: {list(numbers)[:8]}.")
    top, left, bottom, right = numbers
    return Box(left=left, top=top, right=right, bottom=bottom)
