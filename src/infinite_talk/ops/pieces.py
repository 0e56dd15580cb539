"""Work that treats every row alike, done for some rows at a time, so that what it needs meanwhile is small."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor


def cuts_of(groups: int, rows: int, at_once: int | None) -> tuple[slice, ...]:
    """Cut ``groups`` groups of ``rows`` rows each into pieces of at most ``at_once`` rows.

    A piece is several whole groups, or a part of one; ``None`` is everything in one piece.
    """
    total = groups * rows
    if at_once is None or at_once >= total:
        return (slice(0, total),)
    if at_once < 1:
        raise ValueError(f"pieces of {at_once} rows")
    if at_once >= rows:
        step = at_once // rows * rows
        return tuple(slice(i, min(i + step, total)) for i in range(0, total, step))
    return tuple(
        slice(start + i, start + min(i + at_once, rows))
        for start in range(0, total, rows)
        for i in range(0, rows, at_once)
    )


def by_pieces(function: Callable[[slice], tuple[Tensor, ...]], cuts: Sequence[slice]) -> tuple[Tensor, ...]:
    """The results ``(B, n, ...)`` of each piece, put together along the second axis.

    They are written to their place at once, so that only one piece exists twice. One piece is passed through,
    and can be differentiated.
    """
    if len(cuts) == 1:
        return function(cuts[0])
    whole: tuple[Tensor, ...] = ()
    for cut in cuts:
        parts = function(cut)
        if not whole:
            whole = tuple(part.new_empty(part.shape[0], cuts[-1].stop, *part.shape[2:]) for part in parts)
        _put(parts, whole, cut)
        del parts  # before the next piece is made
    return whole


def _put(parts: tuple[Tensor, ...], whole: tuple[Tensor, ...], cut: slice) -> None:
    for part, place in zip(parts, whole, strict=True):
        place[:, cut].copy_(part)
