"""Recordings as files, and where their sound has ended up in a finished video."""

from __future__ import annotations

import wave
from pathlib import Path

import av
import numpy as np


def write_wav(path: Path, samples: np.ndarray, rate: int) -> Path:
    """One channel of int16 ``(S,)``."""
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(samples.astype("<i2").tobytes())
    return path


def heard(video: Path, start: float, end: float) -> tuple[np.ndarray, int]:
    """What a player plays from ``start`` to ``end`` seconds, by the file's own clock: ``(S,)`` and its rate.

    A place where nothing is played is silent.
    """
    with av.open(str(video)) as container:
        stream = container.streams.audio[0]
        rate = stream.rate
        samples = np.zeros(round((end - start) * rate), np.float32)
        container.seek(max(0, int((start - 1) / stream.time_base)), stream=stream)
        for frame in container.decode(stream):
            assert frame.pts is not None and frame.time_base is not None
            at = round(frame.pts * frame.time_base * rate) - round(start * rate)
            block = frame.to_ndarray().astype(np.float32).mean(axis=0)
            first, last = max(0, at), min(len(samples), at + len(block))
            if last > first:
                samples[first:last] = block[first - at : last - at]
    return samples, rate


def delay(original: np.ndarray, played: np.ndarray, rate: int) -> float:
    """By how many seconds ``played`` is later than ``original``, both ``(S,)``: the peak of their correlation."""
    size = 2 * max(len(original), len(played))
    spectrum = np.fft.rfft(played, size) * np.conj(np.fft.rfft(original.astype(np.float64), size))
    peak = int(np.argmax(np.fft.irfft(spectrum, size)))
    return (peak if peak < size // 2 else peak - size) / rate


def lengths(video: Path) -> tuple[int, float, float]:
    """Number of pictures, and the seconds that pictures and sound last."""
    with av.open(str(video)) as container:
        pictures = sum(1 for packet in container.demux(video=0) if packet.size)
        seconds = [
            float(stream.duration * stream.time_base)
            for stream in (container.streams.video[0], container.streams.audio[0])
        ]
    return pictures, seconds[0], seconds[1]
