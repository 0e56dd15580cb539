"""Speech windows: which five speech features the model sees for each video frame. Indices only."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from infinite_talk.types import Plan, Window

REACH = 2
"""Features before and after a frame that the model sees with it: 5 in all."""


def speech_indices(window: Window, length: int, *, mirror_tail: bool = False) -> NDArray[np.int64]:
    """Feature numbers for every frame of a window, clamped to the recording.

    Args:
        window: covers frames ``start`` to ``start + frames`` of the time line.
        length: speech features of this person, one per frame, at least 1.
        mirror_tail: beyond the end continue with the recording played backwards (``mirrored_tail``) before
            clamping, as the official program does in its last window; else the last feature holds.

    Returns:
        ``(F, 5)``, entry ``[f, o]`` is the feature number at ``start + f + o - 2``.
    """
    order = mirrored_tail(length, window.start + window.frames) if mirror_tail else np.arange(length)
    centre = np.arange(window.start, window.start + window.frames)
    offsets = np.arange(-REACH, REACH + 1)
    at: NDArray[np.int64] = np.clip(centre[:, None] + offsets, 0, len(order) - 1)
    return order[at]


def official_speech_indices(plan: Plan, window: Window, length: int) -> NDArray[np.int64]:
    """``speech_indices`` of the official loop: the tail is mirrored in the last of several windows."""
    last = window.index > 0 and window.index == len(plan.windows) - 1
    return speech_indices(window, length, mirror_tail=last)


def mirrored_tail(length: int, end: int) -> NDArray[np.int64]:
    """A recording followed by its own last frames backwards, so that a feature ``end + 2`` exists.

    Args:
        length: features of the recording.
        end: first frame after the window. A recording longer than that is left as it is.

    Returns:
        ``length`` numbers in order, then the last ``end - length + 3`` reversed (fewer if the recording has
        fewer; the caller clamps).
    """
    own = np.arange(length)
    if end < length:
        return own
    return np.concatenate([own, own[-min(length, end - length + 3) :][::-1]])
