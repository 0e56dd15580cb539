"""Spoken sentences with pauses between become one utterance: sound and a mouth class for each 10 ms."""

import random
from dataclasses import dataclass

import numpy as np

from training.speech.phones import SAMPLE_RATE, Phone, Spoken
from training.speech.tracks import HOP, MouthTrack, classes_at, mouth_track, settle, speech_level

LOUDNESS = 0.07  # root mean square of the spoken parts, about -23 LUFS


@dataclass(frozen=True)
class Utterance:
    """`sound` (S,) float32 at 16 kHz, S = 160 T; `classes` (T,) uint8 at 100 Hz; `voice` "engine/name"."""

    sound: np.ndarray
    classes: np.ndarray
    voice: str

    def track(self) -> MouthTrack:
        """The mouth track that belongs to this utterance."""
        return mouth_track(self.classes, speech_level(self.sound))


def assemble(sentences: list[Spoken], voice: str, rng: random.Random) -> Utterance:
    """Join spoken sentences with silences of 0.2 to 1.5 s around them, at the standard loudness."""
    sounds: list[np.ndarray] = []
    phones: list[Phone] = []
    time = 0.0
    for spoken in sentences:
        time += _pause(sounds, rng)
        phones += [Phone(p.start + time, p.stop + time, p.name) for p in spoken.phones]
        sounds.append(spoken.sound)
        time += len(spoken.sound) / SAMPLE_RATE
    _pause(sounds, rng)
    sound = np.concatenate(sounds)
    sound = level_out(sound[: len(sound) // HOP * HOP])
    level = speech_level(sound)
    return Utterance(sound, settle(classes_at(phones, len(level)), level), voice)


def _pause(sounds: list[np.ndarray], rng: random.Random) -> float:
    """Append a silence and return its seconds. Short ones are more frequent, as in speech."""
    samples = int((0.2 + 1.3 * rng.random() ** 2.5) * SAMPLE_RATE)
    sounds.append(np.zeros(samples, np.float32))
    return samples / SAMPLE_RATE


def level_out(sound: np.ndarray) -> np.ndarray:
    """Scale so that the spoken parts (above -30 dB of the loudest 10 ms) have the standard loudness."""
    power = (sound[: len(sound) // HOP * HOP].reshape(-1, HOP) ** 2).mean(1)
    spoken = power[power > 1e-3 * power.max() + 1e-12]
    if len(spoken) == 0:
        return sound
    scaled = sound * (LOUDNESS / float(np.sqrt(spoken.mean())))
    return np.clip(scaled, -1, 1).astype(np.float32)
