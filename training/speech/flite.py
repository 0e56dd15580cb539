"""Speech with phoneme times from flite (Debian package `flite`; CMU licence), a small unit and HMM
synthesiser.

Its voices were recorded from people (CMU ARCTIC: slt, rms, awb; kal16 is made of diphones), so they are
closer to real speech than espeak-ng.
"""

import subprocess
import tempfile
import wave
from pathlib import Path

import numpy as np
from scipy.signal import resample_poly

from training.speech.phones import SAMPLE_RATE, Phone, Spoken

# Natural pitch of each voice, Hz.
PITCH = {"slt": 170.0, "rms": 100.0, "awb": 125.0, "kal16": 105.0}


def speak(text: str, voice: str, stretch: float = 1.0, pitch: float = 1.0) -> Spoken:
    """Speak `text`: `stretch` > 1 is slower, `pitch` multiplies the voice's own."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "speech.wav"
        options = [f"duration_stretch={stretch:.3f}", f"int_f0_target_mean={pitch * PITCH[voice]:.1f}"]
        settings = [word for option in options for word in ("--setf", option)]
        command = ["flite", "-voice", voice, *settings, "-psdur", "-t", text, "-o", str(path)]
        said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        with wave.open(str(path)) as file:
            rate = file.getframerate()
            sound = np.frombuffer(file.readframes(file.getnframes()), np.int16).astype(np.float32) / 32768
    if rate != SAMPLE_RATE:
        sound = resample_poly(sound, SAMPLE_RATE, rate).astype(np.float32)
    return Spoken(sound, parse_durations(said))


def parse_durations(said: str) -> list[Phone]:
    """Read flite's `-psdur` output, "name:end name:end ...", ends in seconds."""
    phones, start = [], 0.0
    for word in said.split():
        name, _, end = word.rpartition(":")
        if name:
            phones.append(Phone(start, float(end), name))
            start = float(end)
    return phones
