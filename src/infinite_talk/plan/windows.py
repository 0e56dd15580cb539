"""Windows: which frames of the time line each pass of the model covers. Integers only.

A window always has full size F, because the model knows no other; what it has more than the video needs is
cut by its ``new``. Within a shot a window begins every ``F - motion`` frames: neighbours share ``motion``.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from infinite_talk.errors import UsageError
from infinite_talk.types import TEMPORAL_STRIDE, Plan, Window, latent_frames


def plan_windows(length: int, *, frames: int, motion: int, cuts: Iterable[int] = ()) -> Plan:
    """Cover ``length`` frames exactly, shot by shot.

    Args:
        length: frames of the finished video, at least 1; shorter than a window is fine.
        frames: F, frames of one window, 4n + 1.
        motion: frames carried over from the window before, 4n + 1, fewer than ``frames``.
        cuts: frames (0 < cut < length) at which a new shot begins. A shot starts afresh: no overlap, and its
            reference picture is its own first frame.

    Returns:
        windows whose ``new`` add up to ``length``; ``reference`` is the first frame that the window covers.

    Raises:
        UsageError: a number has no meaning; the message says the nearest one that has.
    """
    check_lengths(frames, motion)
    if length < 1:
        raise UsageError(f"A video of {length} frames was asked for; it needs at least one frame.")
    starts = [0, *sorted(set(cuts))]
    if starts[-1] >= length or (len(starts) > 1 and starts[1] <= 0):
        raise UsageError(f"Scene cuts must lie inside the video (1 to {length - 1}); came {starts[1:]}.")
    windows: list[Window] = []
    for first, end in zip(starts, [*starts[1:], length], strict=True):
        windows += _shot(first, end, frames, motion, index=len(windows))
    return Plan(tuple(windows), length)


def _shot(first: int, end: int, frames: int, motion: int, *, index: int) -> list[Window]:
    """Windows of one shot, frames ``first`` to ``end`` of the time line."""
    windows: list[Window] = []
    start, overlap = first, 0
    while not windows or start + overlap < end:
        new = min(frames - overlap, end - start - overlap)
        windows.append(Window(index + len(windows), start, frames, overlap, new, reference=start))
        start, overlap = start + frames - motion, motion
    return windows


def plan_official(lengths: Sequence[int], *, frames: int, motion: int, max_frames: int = 1000) -> Plan:
    """The windows of the official program, with its mistakes, for ``compat="official"``.

    The first person's recording says when to stop, the last person's where to cut; with recordings of unequal
    length the video is therefore too short or too long, and the last windows may add nothing (``new == 0``).

    Args:
        lengths: speech feature frames of each person, in order; each longer than ``frames``.
        frames: F, 4n + 1.
        motion: 4n + 1, fewer than ``frames``.
        max_frames: longest video; at most ``frames`` makes one window ("clip mode").

    Raises:
        UsageError: a recording is not longer than one window, which the official program refuses too.
    """
    check_lengths(frames, motion)
    if not lengths or min(lengths) <= frames:
        raise UsageError(
            f"The official program needs more speech than one window of {frames} frames; came "
            f"{list(lengths)}. Use compat=fixed, which takes any length."
        )
    starts, padded = _official_starts(lengths, frames, motion, max_frames)
    length = min(starts[-1] + frames, max_frames)
    if max_frames > frames and padded:
        length = min(length, lengths[-1])
    windows = []
    for index, start in enumerate(starts):
        overlap = motion if index else 0
        new = max(0, min(start + frames, length) - start - overlap)
        windows.append(Window(index, start, frames, overlap, new, reference=start))
    return Plan(tuple(windows), length)


def _official_starts(
    lengths: Sequence[int], frames: int, motion: int, max_frames: int
) -> tuple[list[int], bool]:
    """First frame of every official window, and whether features were padded for the last one."""
    starts = [0]
    if max_frames <= frames:
        return starts, False
    while True:
        starts.append(starts[-1] + frames - motion)
        end = starts[-1] + frames
        if end >= min(max_frames, lengths[0]):
            return starts, any(end >= length for length in lengths)


def check_lengths(frames: int, motion: int) -> None:
    """Refuse window and motion lengths that the causal video codec cannot represent.

    Raises:
        UsageError: not 4n + 1, or the motion frames leave no room for new ones.
    """
    for name, value in (("Window", frames), ("Motion", motion)):
        if value < 1 or (value - 1) % TEMPORAL_STRIDE:
            nearest = 1 + TEMPORAL_STRIDE * max(0, round((value - 1) / TEMPORAL_STRIDE))
            raise UsageError(f"{name} frames must be 4n + 1; came {value}, the nearest is {nearest}.")
    if motion >= frames:
        raise UsageError(
            f"{motion} motion frames leave nothing new in a window of {frames} frames; "
            f"use at most {max(1, frames - TEMPORAL_STRIDE)}."
        )


def given_frames_mask(frames: int) -> NDArray[np.float32]:
    """The four mask channels beside the reference latents: 1 where the picture is given, else 0.

    Only the first video frame is given. It is repeated four times so that latent frame 0, which stands for
    one video frame, has as many mask values as the others.

    Returns:
        ``(4, T)``, the same at every pixel.
    """
    mask = np.zeros((TEMPORAL_STRIDE, latent_frames(frames)), np.float32)
    mask[:, 0] = 1
    return mask
