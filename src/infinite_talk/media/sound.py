"""The soundtrack as AAC takes it: exactly as long as the video, at a rate and with channels that AAC has."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import soxr
from numpy.typing import NDArray

from infinite_talk.types import FPS, Soundtrack

AAC_RATES = (7350, 8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000, 64000, 88200, 96000)
"""Sampling rates of MPEG-4 audio (ISO/IEC 14496-3, table 1.16)."""
AAC_LAYOUTS = {1: "mono", 2: "stereo", 3: "3.0", 4: "4.0", 5: "5.0", 6: "5.1"}
"""Channel counts that are kept, and FFmpeg names of their AAC layouts. (PyAV cannot read the 7.1 of AAC.)"""
AAC_FRAME = 1024
"""Samples per AAC packet, and the encoder's delay."""

Block = NDArray[np.float32]  # (n, channels)


@dataclass(frozen=True, slots=True)
class SoundFormat:
    """Rate and layout in the file, and one line for every way in which they differ from the original."""

    rate: int
    channels: int
    notes: tuple[str, ...] = ()

    @property
    def layout(self) -> str:
        """FFmpeg's name of the channel layout."""
        return AAC_LAYOUTS[self.channels]

    @property
    def bit_rate(self) -> int:
        """96 kbit/s per channel, less at rates below 24 kHz (AAC caps a packet at 6144 bits per channel)."""
        return self.channels * min(96_000, 4 * self.rate)

    def samples(self, frames: int, fps: Fraction = Fraction(FPS)) -> int:
        """Length in samples of ``frames`` video frames, ``fps`` of them per second."""
        return round(frames * self.rate / fps)


def format_for(rate: int, channels: int) -> SoundFormat:
    """The AAC format nearest to an original of ``rate`` Hz: itself, or the next higher one AAC has."""
    notes = []
    legal = next((r for r in AAC_RATES if r >= rate), AAC_RATES[-1])
    if legal != rate:
        notes.append(f"sound resampled from {rate} Hz to {legal} Hz: AAC has no {rate} Hz")
    kept = channels if channels in AAC_LAYOUTS else 1
    if kept != channels:
        notes.append(f"sound mixed down from {channels} channels to mono: six at most are kept")
    return SoundFormat(legal, kept, tuple(notes))


def blocks_for(
    soundtrack: Soundtrack, form: SoundFormat, frames: int, fps: Fraction = Fraction(FPS)
) -> Iterator[Block]:
    """The sound of ``frames`` video frames in ``form``, in blocks of ``AAC_FRAME`` (the last shorter)."""
    length = round(frames * soundtrack.rate / fps)
    blocks = fitted(soundtrack.blocks(), soundtrack.channels, length)
    if form.channels != soundtrack.channels:
        blocks = map(mixed, blocks)
    if form.rate != soundtrack.rate:
        blocks = resampled(blocks, soundtrack.rate, form)
    return cut(fitted(blocks, form.channels, form.samples(frames, fps)), AAC_FRAME)


def fitted(blocks: Iterable[Block], channels: int, length: int) -> Iterator[Block]:
    """The same sound, cut or continued with silence to exactly ``length`` samples."""
    left = length
    for block in blocks:
        if left <= 0:
            return
        yield block[:left]
        left -= len(block[:left])
    while left > 0:
        silence = np.zeros((min(left, 1 << 16), channels), np.float32)
        yield silence
        left -= len(silence)


def mixed(block: Block) -> Block:
    """One channel as loud as many unrelated ones: a voice in one of eight is not lost in their mean."""
    total: Block = block.sum(axis=1, keepdims=True) / np.sqrt(block.shape[1], dtype=np.float32)
    return total.clip(-1.0, 1.0)


def resampled(blocks: Iterable[Block], rate: int, form: SoundFormat) -> Iterator[Block]:
    """The same sound at ``form.rate``, without delay."""
    stream = soxr.ResampleStream(rate, form.rate, form.channels, dtype="float32", quality="HQ")
    for block in blocks:
        yield stream.resample_chunk(np.ascontiguousarray(block)).reshape(-1, form.channels)
    yield stream.resample_chunk(np.zeros((0, form.channels), np.float32), last=True).reshape(
        -1, form.channels
    )


def cut(blocks: Iterable[Block], size: int) -> Iterator[Block]:
    """The same sound in blocks of exactly ``size`` samples; only the last may be shorter."""
    waiting: list[Block] = []
    held = 0
    for block in blocks:
        waiting.append(block)
        held += len(block)
        if held < size:
            continue
        joined = np.concatenate(waiting)
        whole = held - held % size
        yield from (joined[start : start + size] for start in range(0, whole, size))
        waiting, held = [joined[whole:]], held - whole
    if held:
        yield np.concatenate(waiting)
