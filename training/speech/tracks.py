"""Phones and sound become the mouth track: what the mouth does, 100 times a second.

Each viseme pulls the mouth towards its shape with its dominance; the pulls are smoothed in time
(coarticulation), so lips round before a "w" sounds and a "k" borrows its neighbours' shape. On top of that
lips meet for p, b and m however short these are, the mouth rests in pauses, and loud speech opens it a
little wider than soft speech.
"""

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter1d, minimum_filter1d

from training.speech.phonemes import BILABIAL, CHANNELS, CLASSES, DOMINANCE, SILENCE, TARGETS, viseme_parts
from training.speech.phones import SAMPLE_RATE, Phone

RATE = 100  # track frames a second
HOP = SAMPLE_RATE // RATE
_SMOOTHING = (3.2, 4.0, 4.0, 3.0, 3.0, 2.5)  # standard deviation of each channel's smoothing, track frames
_STOPS = np.isin(np.arange(len(CLASSES)), [CLASSES.index(name) for name in ("pbm", "td", "k", "sh")])


@dataclass(frozen=True)
class MouthTrack:
    """The mouth over T frames of 10 ms: `mouth` (T, 6) and `level` (T,) float32 in 0..1, `classes` (T,)
    uint8.
    """

    mouth: np.ndarray
    level: np.ndarray
    classes: np.ndarray


def speech_level(sound: np.ndarray) -> np.ndarray:
    """Loudness of each 10 ms, relative to the loud parts of the clip: (S,) -> (S // 160,) float32 in 0..1."""
    frames = len(sound) // HOP
    power = (sound[: frames * HOP].astype(np.float32).reshape(frames, HOP) ** 2).mean(1)
    rms = np.sqrt(gaussian_filter1d(power, 3.0, mode="nearest") + 1e-12)
    return np.clip(rms / (1.15 * np.percentile(rms, 95) + 1e-5), 0, 1).astype(np.float32)


def classes_at(phones: list[Phone], frames: int) -> np.ndarray:
    """Viseme class of each 10 ms: (frames,) uint8; time outside every phone is silence."""
    classes = np.full(frames, SILENCE, np.uint8)
    for phone in phones:
        start = phone.start
        for viseme, share in viseme_parts(phone.name):
            stop = start + share * (phone.stop - phone.start)
            first = round(start * RATE)
            classes[first : max(round(stop * RATE), first + 1)] = viseme
            start = stop
    return classes


def settle(classes: np.ndarray, level: np.ndarray) -> np.ndarray:
    """Let the sound overrule the phone times where these are surely wrong.

    Sound in a "pause" belongs to the sound beside it (languages spell some gestures as nothing), and a
    quiet stretch of 120 ms or more is a pause whatever the phones say.
    """
    classes = classes.copy()
    loud = level > 0.12
    spoken = np.flatnonzero(classes != SILENCE)
    if len(spoken):
        ghosts = np.flatnonzero((classes == SILENCE) & loud)
        after = np.clip(np.searchsorted(spoken, ghosts), 0, len(spoken) - 1)
        before = np.clip(after - 1, 0, None)
        closer = np.where(spoken[after] - ghosts < ghosts - spoken[before], spoken[after], spoken[before])
        near = np.abs(closer - ghosts) <= 8
        classes[ghosts[near]] = classes[closer[near]]
    for start, stop in runs(level < 0.012):
        if stop - start >= 12:
            classes[start + 2 : stop - 2] = SILENCE
    return classes


def runs(mask: np.ndarray) -> list[tuple[int, int]]:
    """Maximal stretches of True as (start, stop)."""
    edges = np.flatnonzero(np.diff(np.concatenate(([0], mask.astype(np.int8), [0]))))
    return [(int(a), int(b)) for a, b in edges.reshape(-1, 2)]


def mouth_track(classes: np.ndarray, level: np.ndarray) -> MouthTrack:
    """Coarticulated mouth of a class sequence (T,) spoken at a level (T,)."""
    target, dominance = TARGETS[classes], DOMINANCE[classes]
    mouth = np.empty((len(classes), len(CHANNELS)), np.float32)
    for i, width in enumerate(_SMOOTHING):
        pull = gaussian_filter1d(dominance, width, mode="nearest")
        mouth[:, i] = gaussian_filter1d(target[:, i] * dominance, width, mode="nearest") / pull
    mouth[:, 0] *= (0.62 + 0.38 * np.minimum(level * 1.15, 1.0) ** 0.7) * _lips_apart(classes)
    return MouthTrack(np.clip(mouth, 0, 1), level, classes)


def _lips_apart(classes: np.ndarray) -> np.ndarray:
    """0 where the lips must touch (p, b, m, and pauses of more than 150 ms), 1 elsewhere, soft between:
    (T,).
    """
    closure = np.zeros(len(classes), np.float32)
    for start, stop in runs(classes == BILABIAL):
        closure[max(0, min(start, (start + stop) // 2 - 2)) : max(stop, (start + stop) // 2 + 3)] = 1
    touching = np.minimum(1.0, 1.5 * gaussian_filter1d(closure, 1.5, mode="nearest"))
    rest = np.zeros(len(classes), np.float32)
    for start, stop in runs(classes == SILENCE):
        if stop - start >= 15:
            rest[start:stop] = 1
    resting = np.minimum(1.0, 1.25 * gaussian_filter1d(minimum_filter1d(rest, 5), 3.0, mode="nearest"))
    return (1 - touching) * (1 - resting)


def to_frames(track: np.ndarray, frames: int, fps: float = 25.0) -> np.ndarray:
    """Sample a 100 Hz track (T, ...) at the centres (f + 0.5) / fps of `frames` video frames, linearly.

    Track frame i stands for the time (i + 0.5) / 100. Beyond the end the last value stays.
    """
    position = np.clip((np.arange(frames) + 0.5) * (RATE / fps) - 0.5, 0, len(track) - 1)
    low = np.floor(position).astype(int)
    high = np.minimum(low + 1, len(track) - 1)
    share = (position - low).astype(np.float32).reshape(-1, *([1] * (track.ndim - 1)))
    return track[low] * (1 - share) + track[high] * share
