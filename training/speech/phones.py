"""The value that every synthesiser returns: sound, and which phoneme is spoken when."""

from dataclasses import dataclass

import numpy as np

SAMPLE_RATE = 16000


@dataclass(frozen=True)
class Phone:
    """One phoneme (IPA or ARPAbet; "" or "pau" is a pause) from `start` to `stop`, in seconds."""

    start: float
    stop: float
    name: str


@dataclass(frozen=True)
class Spoken:
    """A spoken text: `sound` float32 (S,) at 16 kHz in -1..1, and its phones in order."""

    sound: np.ndarray
    phones: list[Phone]
