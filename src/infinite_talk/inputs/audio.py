"""Speech: recordings become mono 16 kHz tracks for the model, and a soundtrack for the viewer.

Downmix: the mean of all channels. Where they cancel out (the mean is over 12 dB below the loudest channel, as
with an inverted channel, or speech in one channel of many) the loudest channel is taken instead.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from infinite_talk.errors import InputError
from infinite_talk.inputs.files import shown
from infinite_talk.inputs.loudness import normalise_loudness
from infinite_talk.inputs.recording import SHORT, Recording, Tally, blocks, open_recording, truncated
from infinite_talk.inputs.soundtrack import Part, RecordedSoundtrack, Resampler
from infinite_talk.inputs.store import SampleStore
from infinite_talk.request import AudioLayout, Compat
from infinite_talk.types import FPS, SPEECH_RATE, Soundtrack

CANCELLED_DB = -12.0
"""Level of the channel mean against the loudest channel below which the mean is not used."""
MAX_NOT_FINITE = 0.01
"""Share of NaN and infinite samples above which a recording counts as damaged."""
OVERS = 1.41
"""Peaks up to +3 dB are clipped, as players do with lossy formats; louder recordings are turned down."""


@dataclass(frozen=True, slots=True)
class Track:
    """One person's recording, decoded."""

    recording: Recording
    samples: int  # per channel after trimming, at the recording's own rate
    peak: float
    speech: NDArray[np.float32]  # (samples,) mono, 16 kHz, -23 LUFS
    gain: float | None = None
    """The factor that brought the speech to -23 LUFS; ``None`` for silence."""

    @property
    def seconds(self) -> Fraction:
        """Length, exact."""
        return Fraction(self.samples, self.recording.rate)


@dataclass(frozen=True, slots=True)
class Sound:
    """All people's sound on the time line of the video."""

    speech: tuple[NDArray[np.float32], ...]
    """Per person ``(samples,)``, 16 kHz, all equally long."""
    soundtrack: Soundtrack
    frames: int


def open_recordings(
    paths: Sequence[Path | None], *, start: float, end: float | None, max_seconds: float
) -> list[Recording | None]:
    """Check the beginning of every recording and its declared length; ``None`` is a silent person.

    Raises:
        InputError: see ``open_recording``; ``audio_too_long``, ``audio_trim``.
    """
    recordings = [None if path is None else open_recording(path, start=start, end=end) for path in paths]
    for recording in recordings:
        if recording is None or recording.declared is None:
            continue
        if start >= recording.declared + recording.lead:
            raise _nothing_left(recording, recording.declared)
        used = min(recording.declared, end if end is not None else math.inf) - start
        if used > max_seconds:
            raise _too_long(recording, used, max_seconds)
    return recordings


def read_track(recording: Recording, *, max_seconds: float) -> tuple[Track, list[str]]:
    """Decode one person's speech.

    Args:
        recording: from ``open_recordings``.
        max_seconds: longest speech accepted; also holds for files that declare less.

    Returns:
        the track, and one line for everything that was changed.

    Raises:
        InputError: ``audio_empty``, ``audio_trim``, ``audio_too_long``, ``audio_corrupt``,
            ``media_truncated``.
    """
    tally = Tally()
    samples, store, mean_power = _decode_mono(recording, tally, None, max_seconds)
    notes = _judge(recording, tally, samples)
    loudest = int(np.argmax(tally.power))
    if mean_power < tally.power[loudest] * 10 ** (CANCELLED_DB / 10):
        _, store, _ = _decode_mono(recording, Tally(), loudest, max_seconds)
        notes.append(
            f"{shown(recording.path)}: the channels cancel each other; channel {loudest + 1} of "
            f"{recording.channels} is used as speech."
        )
    speech = store.finish(math.ceil(Fraction(samples * SPEECH_RATE, recording.rate)))
    gain = normalise_loudness(speech, SPEECH_RATE)
    if gain is None:
        notes.append(f"{shown(recording.path)}: nothing louder than -70 LUFS; the mouth will rest.")
    return Track(recording, samples, tally.peak, speech, gain), notes


def _decode_mono(
    recording: Recording, tally: Tally, channel: int | None, max_seconds: float
) -> tuple[int, SampleStore, float]:
    """Decode to 16 kHz: the mean of all channels, or one ``channel``.

    Returns:
        samples at the recording's rate, the 16 kHz samples, and the sum of squares before resampling.
    """
    store, samples, power = SampleStore(), 0, 0.0
    resampler = Resampler(recording.rate, SPEECH_RATE, 1)
    for block in blocks(recording, tally):
        samples += len(block)
        if samples > max_seconds * recording.rate:
            raise _too_long(recording, samples / recording.rate, max_seconds)
        mono = block.mean(axis=1, keepdims=True) if channel is None else block[:, channel : channel + 1]
        power += float(np.square(mono, dtype=np.float64).sum())
        store.append(resampler.push(mono)[:, 0])
    store.append(resampler.push(np.zeros((0, 1), np.float32), last=True)[:, 0])
    return samples, store, power


def _judge(recording: Recording, tally: Tally, samples: int) -> list[str]:
    """Refuse what cannot be used; a line for each thing worth knowing."""
    name = shown(recording.path)
    if not tally.samples:
        raise InputError(f"No sound could be decoded from {name}.", code="audio_empty")
    if not samples:
        raise _nothing_left(recording, tally.samples / recording.rate)
    share = tally.not_finite / max(1, tally.values)
    if share >= MAX_NOT_FINITE:
        raise InputError(
            f"{100 * share:.1f} % of the samples of {name} are NaN or infinite; save the recording anew.",
            code="audio_corrupt",
        )
    decoded = tally.samples / recording.rate
    to_the_end = recording.end is None or recording.lead + decoded < recording.end
    if to_the_end and recording.declared and decoded < SHORT * recording.declared:
        raise truncated(recording.path, decoded / recording.declared)
    notes = []
    if tally.not_finite:
        notes.append(f"{name}: {tally.not_finite} NaN or infinite samples were replaced by silence.")
    if tally.broken_packets:
        notes.append(f"{name}: {tally.broken_packets} damaged packets were left out.")
    if recording.streams > 1:
        notes.append(f"{name}: the first of {recording.streams} audio streams is used.")
    if tally.peak > OVERS:
        notes.append(f"{name}: louder than full scale by a factor of {tally.peak:.2f}; turned down.")
    return notes


def place_speech(
    tracks: Sequence[NDArray[np.float32] | None], layout: AudioLayout, length: int | None = None
) -> tuple[NDArray[np.float32], ...]:
    """Lay mono recordings of the same rate on one time line, with silence around them.

    Args:
        tracks: ``(samples,)`` per person, any lengths; ``None`` is a silent person.
        layout: all begin at 0, or each begins when the one before has ended.
        length: cut or pad everything to this many samples; by default the end of the last recording.

    Returns:
        one array per person, all of the same length.
    """
    lengths = [0 if track is None else track.size for track in tracks]
    in_turn = layout is AudioLayout.IN_TURN
    begins = [sum(lengths[:person]) if in_turn else 0 for person in range(len(tracks))]
    if length is None:
        length = sum(lengths) if in_turn else max(lengths, default=0)
    placed = []
    for track, begin in zip(tracks, begins, strict=True):
        if track is not None and begin == 0 and track.size == length:
            placed.append(track)
            continue
        store = SampleStore()
        for start in range(0, min(begin, length), SPEECH_RATE * 60):
            store.append(np.zeros(min(SPEECH_RATE * 60, min(begin, length) - start), np.float32))
        if track is not None and begin < length:
            store.append(track[: length - begin])
        placed.append(store.finish(length))
    return tuple(placed)


def lay_out(
    tracks: Sequence[Track | None], layout: AudioLayout, *, max_frames: int | None, compat: Compat
) -> Sound:
    """Put all people's sound on the time line of the video, whose length follows from it.

    The video is as long as the sound, rounded to the nearest frame (at least one); the speech is cut or
    padded to whole frames. The official program rounds down and leaves the speech as it is.
    """
    begins = [Fraction(0)]
    for track in tracks:
        in_turn = layout is AudioLayout.IN_TURN and track is not None
        begins.append(begins[-1] + (track.seconds if in_turn and track is not None else 0))
    ends = [begin + track.seconds for begin, track in zip(begins, tracks, strict=False) if track is not None]
    speech = [None if track is None else track.speech for track in tracks]
    if compat is Compat.OFFICIAL:
        placed = place_speech(speech, layout)
        frames = max(1, int(placed[0].size / SPEECH_RATE * FPS))
        frames = min(frames, max_frames or frames)
    else:
        frames = max(1, math.floor(max(ends) * FPS + Fraction(1, 2)))
        frames = min(frames, max_frames or frames)
        placed = place_speech(speech, layout, frames * SPEECH_RATE // FPS)
    parts = tuple(
        Part(track.recording, begin, 1 / track.peak if track.peak > OVERS else 1.0)
        for begin, track in zip(begins, tracks, strict=False)
        if track is not None
    )
    rate = max(part.recording.rate for part in parts)
    channels = max(part.recording.channels for part in parts)
    samples = math.floor(Fraction(frames * rate, FPS) + Fraction(1, 2))
    return Sound(placed, RecordedSoundtrack(parts, rate, channels, samples), frames)


def _too_long(recording: Recording, seconds: float, most: float) -> InputError:
    return InputError(
        f"{shown(recording.path)} has {seconds:.0f} s of sound or more; at most {most:.0f} s are accepted. "
        "Cut it with the audio start and end options, or raise max_audio_seconds.",
        code="audio_too_long",
    )


def _nothing_left(recording: Recording, seconds: float) -> InputError:
    return InputError(
        f"{shown(recording.path)} lasts {seconds:.2f} s; starting at {recording.start:g} s leaves nothing.",
        code="audio_trim",
    )
