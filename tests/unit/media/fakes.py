"""Sound, pictures and a reader of finished files, for the tests of this folder."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np


@dataclass(frozen=True)
class ArraySound:
    """A soundtrack over an array ``(samples, channels)``."""

    array: np.ndarray
    rate: int
    block: int = 4800

    @property
    def channels(self) -> int:
        return self.array.shape[1]

    @property
    def samples(self) -> int:
        return len(self.array)

    def blocks(self, start: int = 0, end: int | None = None) -> Iterator[np.ndarray]:
        array = self.array[start:end]
        for at in range(0, len(array), self.block):
            yield array[at : at + self.block]


def tone(seconds: float, rate: int = 16_000, channels: int = 1, pitch: float = 300.0) -> ArraySound:
    times = np.arange(round(seconds * rate)) / rate
    wave = 0.3 * np.sin(2 * np.pi * pitch * times)
    return ArraySound(np.repeat(wave[:, None], channels, 1).astype(np.float32), rate)


def pictures(count: int, start: int = 0, height: int = 64, width: int = 64) -> np.ndarray:
    """Frames ``start``.. of a smooth moving pattern, uint8 ``(count, H, W, 3)``; always the same."""
    y, x = np.mgrid[:height, :width]
    frames = []
    for number in range(start, start + count):
        red = 127 + 100 * np.sin((x + 2 * number) / 9)
        green = 127 + 100 * np.sin((y - number) / 7)
        blue = 127 + 100 * np.sin((x + y + number) / 11)
        frames.append(np.stack([red, green, blue], -1))
    return np.array(frames).round().astype(np.uint8)


@dataclass(frozen=True)
class Played:
    """What a player gets from a file."""

    times: list[Fraction]  # seconds, per frame
    keys: list[int]  # numbers of the key frames
    levels: list[float]  # mean grey level of each frame
    sound: np.ndarray  # (samples, channels) as decoded, from `sound_start`
    sound_start: Fraction
    sound_rate: int
    sound_length: Fraction  # seconds, as the container states
    tags: dict[str, str]


def play(path: Path) -> Played:
    times, keys, levels = [], [], []
    with av.open(str(path)) as file:
        for number, frame in enumerate(file.decode(video=0)):
            times.append(frame.pts * frame.time_base)
            levels.append(float(frame.to_ndarray(format="gray").mean()))
            if frame.key_frame:
                keys.append(number)
        tags = dict(file.metadata)
    with av.open(str(path)) as file:
        if not file.streams.audio:
            return Played(times, keys, levels, np.zeros((0, 0)), Fraction(0), 0, Fraction(0), tags)
        stream = file.streams.audio[0]
        frames = [(frame.pts, frame.to_ndarray()) for frame in file.decode(stream)]
        sound = np.concatenate([planes for _, planes in frames], 1).T
        first, length = frames[0][0] * stream.time_base, stream.duration * stream.time_base
        return Played(times, keys, levels, sound, first, stream.rate, length, tags)
