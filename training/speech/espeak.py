"""Speech with phoneme times from espeak-ng, through its C interface.

The shared library and its data come from the `espeakng-loader` wheel, either installed or unpacked into a
folder. espeak-ng (GPL-3.0) is a tool of the training alone: nothing of it is shipped, and nothing at run
time needs it.
"""

import ctypes
import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.signal import resample_poly

from training.speech.phones import Phone, Spoken

_RETRIEVE, _PHONEME_EVENTS_IN_IPA = 1, 3
_EVENT_END, _EVENT_PHONEME = 0, 7
_RATE, _VOLUME, _PITCH, _RANGE = 1, 2, 3, 4
_UTF8 = 1
_LATE = 0.015  # its events come this many seconds after the sound (measured against loudness)


class _Id(ctypes.Union):
    _fields_ = (("number", ctypes.c_int), ("name", ctypes.c_char_p), ("string", ctypes.c_char * 8))


class _Event(ctypes.Structure):
    _fields_ = (
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", _Id),
    )


_Callback = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event)
)


@dataclass(frozen=True)
class Prosody:
    """How to speak: words per minute (80..450), pitch and pitch range (0..100)."""

    rate: int = 165
    pitch: int = 50
    range: int = 50


def find_espeak(folder: Path | None = None) -> Path:
    """Return the folder that holds `libespeak-ng.so` and `espeak-ng-data`.

    `folder` may be that folder or one above it (an unpacked wheel); None takes the installed package.
    """
    if folder is None:
        spec = importlib.util.find_spec("espeakng_loader")
        if spec is None or spec.origin is None:
            raise FileNotFoundError(
                "espeakng_loader is not installed; name a folder that holds its unpacked wheel"
            )
        folder = Path(spec.origin).parent
    for place in (folder, folder / "espeakng_loader"):
        if (place / "espeak-ng-data").is_dir():
            return place
    raise FileNotFoundError(f"no espeak-ng-data under {folder}")


class Espeak:
    """One espeak-ng engine. The library keeps global state: one instance to a process."""

    def __init__(self, folder: Path | None = None):
        place = find_espeak(folder)
        self._library = ctypes.CDLL(str(place / "libespeak-ng.so"))
        self._library.espeak_TextToPhonemes.restype = ctypes.c_char_p
        self._sample_rate = self._library.espeak_Initialize(
            _RETRIEVE, 500, str(place).encode(), _PHONEME_EVENTS_IN_IPA
        )
        if self._sample_rate <= 0:
            raise RuntimeError(f"espeak-ng did not start from {place}")
        self._sound = bytearray()
        self._events: list[tuple[float, str]] = []
        self._callback = _Callback(self._collect)  # kept alive: the library holds only the pointer
        self._library.espeak_SetSynthCallback(self._callback)

    def _collect(self, wave, count, events) -> int:
        if wave and count > 0:
            self._sound += ctypes.string_at(wave, 2 * count)
        at = 0
        while events[at].type != _EVENT_END:
            if events[at].type == _EVENT_PHONEME:
                name = bytes(events[at].id.string).split(b"\0")[0].decode("utf-8", "ignore")
                self._note(events[at].sample / self._sample_rate - _LATE, name)
            at += 1
        return 0

    def _note(self, time: float, name: str) -> None:
        """Keep a phoneme event; "(en)" says that the language changes and is no sound."""
        if not name.startswith("("):
            self._events.append((max(time, 0.0), name))

    def _set_voice(self, voice: str) -> None:
        if self._library.espeak_SetVoiceByName(voice.encode()) != 0:
            raise ValueError(f"espeak-ng has no voice {voice!r}")

    def speak(self, text: str, voice: str, prosody: Prosody) -> Spoken:
        """Speak `text` with a voice such as "en-gb+female2": 16 kHz sound and phones that cover it."""
        self._sound.clear()
        self._events.clear()
        self._set_voice(voice)
        for parameter, value in ((_RATE, prosody.rate), (_PITCH, prosody.pitch), (_RANGE, prosody.range)):
            self._library.espeak_SetParameter(parameter, value, 0)
        raw = text.encode()
        self._library.espeak_Synth(raw, len(raw) + 1, 0, 1, 0, _UTF8, None, None)
        self._library.espeak_Synchronize()
        sound = np.frombuffer(bytes(self._sound), np.int16).astype(np.float32) / 32768
        phones = _phones(self._events, len(sound) / self._sample_rate)
        return Spoken(_to_16k(sound, self._sample_rate), phones)

    def ipa(self, text: str, voice: str) -> str:
        """IPA of one clause of `text` (its punctuation is dropped)."""
        self._set_voice(voice)
        pointer = ctypes.c_char_p(text.encode())
        parts = []
        while pointer.value:
            part = self._library.espeak_TextToPhonemes(ctypes.byref(pointer), _UTF8, 2)
            parts.append((part or b"").decode("utf-8", "ignore").strip())
        return " ".join(part for part in parts if part)


def _phones(events: Sequence[tuple[float, str]], end: float) -> list[Phone]:
    """Turn starts into spans. A phone of no length takes the last 45 % of a long phone before it."""
    starts = [time for time, _ in events] + [end]
    spans = [[starts[i], starts[i + 1], name] for i, (_, name) in enumerate(events)]
    for i in range(1, len(spans) - 1):
        before, here = spans[i - 1], spans[i]
        if here[1] - here[0] < 1e-3 and before[1] - before[0] > 0.06:
            middle = before[0] + 0.55 * (before[1] - before[0])
            before[1] = here[0] = middle
    return [Phone(start, stop, name) for start, stop, name in spans if stop > start]


def _to_16k(sound: np.ndarray, sample_rate: int) -> np.ndarray:
    if sample_rate == 22050:
        return resample_poly(sound, 320, 441).astype(np.float32)
    return resample_poly(sound, 16000, sample_rate).astype(np.float32)
