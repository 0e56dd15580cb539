"""The soundtrack: the original recordings, mixed on the time line, decoded anew at each reading."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import soxr
from numpy.typing import NDArray

from infinite_talk.inputs.recording import Recording, blocks


@dataclass(frozen=True, slots=True)
class Part:
    """One recording on the time line."""

    recording: Recording
    begins: Fraction
    """Seconds."""
    gain: float


@dataclass(frozen=True, slots=True)
class RecordedSoundtrack:
    """A ``types.Soundtrack`` over one or more recordings.

    One person's recording passes unchanged (clipped to -1..1). Several are brought to the highest rate and
    the largest channel count among them and added; a mono recording sounds on all channels, one with fewer
    channels on the first ones.
    """

    parts: tuple[Part, ...]
    rate: int
    channels: int
    samples: int

    def blocks(self, start: int = 0, end: int | None = None) -> Iterator[NDArray[np.float32]]:
        """Samples ``start`` to ``end`` as ``(n, channels)``, about a second each; see ``types.Soundtrack``.

        Raises:
            InputError: a recording has changed or vanished since it was checked.
        """
        end = self.samples if end is None else min(end, self.samples)
        position = 0
        streams = [self._aligned(part, end) for part in self.parts]
        for together in zip(*streams, strict=True):
            mixed = together[0]
            for other in together[1:]:
                mixed = mixed + other
            here = mixed[max(0, start - position) :]
            position += len(mixed)
            if len(here):
                yield np.clip(here, -1, 1)

    def _aligned(self, part: Part, end: int) -> Iterator[NDArray[np.float32]]:
        """One part as blocks of a second from 0 to ``end``, with silence before and after it."""
        silence = round(part.begins * self.rate)
        sound = self._converted(part)
        waiting = np.zeros((0, self.channels), np.float32)
        for start in range(0, end, self.rate):
            wanted = min(self.rate, end - start)
            quiet = min(wanted, max(0, silence - start))
            while len(waiting) < wanted - quiet and (block := next(sound, None)) is not None:
                waiting = np.concatenate([waiting, block])
            heard, waiting = waiting[: wanted - quiet], waiting[wanted - quiet :]
            yield np.pad(heard, ((quiet, wanted - quiet - len(heard)), (0, 0)))

    def _converted(self, part: Part) -> Iterator[NDArray[np.float32]]:
        """One part at the mix's rate and channel count."""
        resampler = Resampler(part.recording.rate, self.rate, part.recording.channels)
        for block in blocks(part.recording):
            yield self._spread(resampler.push(block * np.float32(part.gain)))
        yield self._spread(resampler.push(np.zeros((0, part.recording.channels), np.float32), last=True))

    def _spread(self, block: NDArray[np.float32]) -> NDArray[np.float32]:
        have = block.shape[1]
        if have == 1:
            return np.repeat(block, self.channels, axis=1)
        return np.pad(block, ((0, 0), (0, self.channels - have)))


class Resampler:
    """Streaming sample-rate conversion of ``(n, channels)`` blocks, soxr HQ; equal rates pass."""

    def __init__(self, source: int, target: int, channels: int) -> None:
        self._same = source == target
        self._stream = soxr.ResampleStream(source, target, channels, dtype="float32", quality="HQ")

    def push(self, block: NDArray[np.float32], *, last: bool = False) -> NDArray[np.float32]:
        """What can be said after this block; ``last`` gives the rest."""
        if self._same:
            return block
        converted: NDArray[np.float32] = self._stream.resample_chunk(np.ascontiguousarray(block), last=last)
        return converted.reshape(-1, block.shape[1])
