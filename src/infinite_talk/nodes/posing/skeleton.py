"""``Skeleton``: where a person's joints are; and the movements of one person on the proportions of another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Points = NDArray[np.float64]
_PARENTS = (1, -1, 1, 2, 3, 1, 5, 6, 1, 8, 9, 1, 11, 12, 0, 0, 14, 15, 13, 10)
"""Of OpenPose's 18 body joints and the left and the right toes; the neck (1) has none."""
_ORDER = (0, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19)
"""Parents come before their children."""
_NECK = 1
_SHOULDERS, _HIPS = (2, 5), (8, 11)  # right and left
_WRISTS = (7, 4)  # of the left and the right hand


@dataclass(frozen=True, slots=True, eq=False)
class Skeleton:
    """Shares of a picture's width and height, 0..1; NaN where a joint is not seen."""

    body: Points  # (20, 2)
    hands: Points  # (2, 21, 2): left, right; the wrist first


NOBODY = Skeleton(np.full((20, 2), np.nan), np.full((2, 21, 2), np.nan))


def of_wholebody(points: Points, scores: NDArray[Any], threshold: float) -> Skeleton:
    """From the 133 points of COCO-WholeBody ``(133, 2)``; those with a lower score are not seen.

    The neck is between the shoulders, toes are between the large and the small one (DWPose, UniAnimate).
    """
    seen = np.where((scores > threshold)[:, None], points, np.nan)

    def between(one: int, other: int) -> Points:
        middle: Points = (seen[one] + seen[other]) / 2
        return middle

    body = [seen[0], between(5, 6)]
    body += [seen[i] for i in (6, 8, 10, 5, 7, 9, 12, 14, 16, 11, 13, 15, 2, 1, 4, 3)]
    body += [between(17, 18), between(20, 21)]
    return Skeleton(np.stack(body), np.stack([seen[91:112], seen[112:133]]))


def fitted_to(frames: Sequence[Skeleton], reference: Skeleton) -> list[Skeleton]:
    """The movement of ``frames`` with the proportions and the place that ``reference`` has, joint by joint.

    The first frame is compared with the reference: shoulders for the width, shoulders to hips for the height, and then
    every bone by its length. A bone that is not seen in one of them keeps its length. (UniAnimate's alignment.)
    """
    first = next((frame for frame in frames if frame is not NOBODY), NOBODY)
    scale = _sides(reference.body) / _sides(first.body)
    scale = np.where(np.isfinite(scale) & (scale > 0), scale, 1.0)
    ratios = _lengths(reference.body) / _lengths(first.body * scale)
    ratios = np.where(np.isfinite(ratios), ratios, 1.0)
    offset = reference.body[_NECK] - first.body[_NECK] * scale
    offset = np.where(np.isfinite(offset), offset, 0.0)
    return [frame if frame is NOBODY else _moved(frame, scale, ratios, offset) for frame in frames]


def _moved(frame: Skeleton, scale: Points, ratios: Points, offset: Points) -> Skeleton:
    scaled = frame.body * scale
    body = scaled + offset
    for joint in _ORDER:
        parent = _PARENTS[joint]
        there = body[parent] + ratios[joint] * (scaled[joint] - scaled[parent])
        if np.isfinite(there).all():  # a joint whose parent is not seen stays where the scale puts it
            body[joint] = there
    shift = np.stack([body[wrist] - scaled[wrist] for wrist in _WRISTS])
    shift = np.where(np.isfinite(shift), shift, offset)
    return Skeleton(body, frame.hands * scale + shift[:, None])


def _sides(body: Points) -> Points:
    """Width between the shoulders, and height from them to the hips."""
    width = body[_SHOULDERS[1], 0] - body[_SHOULDERS[0], 0]
    height = body[list(_HIPS), 1].mean() - body[list(_SHOULDERS), 1].mean()
    return np.array([width, height])


def _lengths(body: Points) -> Points:
    """Of the bone from each joint's parent, ``(20,)``; that of the neck is NaN."""
    parents = np.array([max(parent, 0) for parent in _PARENTS])
    lengths: Points = np.linalg.norm(body - body[parents], axis=1)
    lengths[_NECK] = np.nan
    return np.where(lengths > 0, lengths, np.nan)
