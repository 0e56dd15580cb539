"""Files that people bring: good ones, and the kinds of bad ones that they bring too."""

from __future__ import annotations

import wave
from pathlib import Path

import numpy as np

import infinite_talk

EMBEDDED = Path(infinite_talk.__file__).parent / "bundled" / "embedded"
PORTRAIT = EMBEDDED / "portrait.png"


def voice(folder: Path, seconds: float, name: str = "voice.wav", loud: float = 0.2) -> Path:
    """A voice-like buzz that comes and goes, 16 kHz."""
    time = np.arange(round(seconds * 16000)) / 16000
    buzz = sum(np.sin(2 * np.pi * 120 * harmonic * time) / harmonic for harmonic in range(1, 12))
    samples = loud * buzz * (0.5 + 0.5 * np.sin(2 * np.pi * 3 * time))
    path = folder / name
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16000)
        file.writeframes((samples * 20000).astype("<i2").tobytes())
    return path


def no_picture(folder: Path) -> Path:
    """A text that is called a picture."""
    path = folder / "holiday.png"
    path.write_text("This is not a picture.")
    return path


def no_sound(folder: Path) -> Path:
    """A recording of nothing at all."""
    return voice(folder, 1.0, "silence.wav", loud=0.0)
