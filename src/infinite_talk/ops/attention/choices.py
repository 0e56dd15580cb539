"""Remembering which of several ways is the fastest."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable
from threading import RLock
from typing import Generic, TypeVar

T = TypeVar("T")
MARGIN = 0.9
"""A later candidate must take less than this share of the time of an earlier one. Two that are about equal
would otherwise change places from run to run, and the last bits of the video with them."""


def fastest(candidates: Iterable[T], seconds: Callable[[T], float | None]) -> T | None:
    """The best candidate, in doubt an earlier one.

    Args:
        seconds: time of a candidate, ``None`` if it cannot do it.

    Returns:
        ``None`` if none can.
    """
    best, least = None, float("inf")
    for candidate in candidates:
        took = seconds(candidate)
        if took is not None and took < least * MARGIN:
            best, least = candidate, took
    return best


class Choices(Generic[T]):
    """A dictionary that keeps the newest entries, for several threads.

    Args:
        size: how many are kept.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self.lock = RLock()
        self._made: OrderedDict[Hashable, T] = OrderedDict()

    def get(self, key: Hashable) -> T | None:
        with self.lock:
            return self._made.get(key)

    def set(self, key: Hashable, value: T) -> T:
        with self.lock:
            self._made[key] = value
            while len(self._made) > self.size:
                self._made.popitem(last=False)
        return value

    def __contains__(self, key: Hashable) -> bool:
        return key in self._made

    def __len__(self) -> int:
        return len(self._made)
