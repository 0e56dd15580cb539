"""The speech bank: hours of speech with mouth tracks in one safetensors file, and the smaller form that
travels.

A bank is one long sequence: 16 kHz sound as 8-bit mu-law, and per 10 ms six mouth channels, speech level
and viseme class as bytes; `starts` says where each utterance begins, `voice` who speaks. The travelling
form holds only coded sound and classes; tracks are computed again when it is opened.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from training.speech import codec
from training.speech.tracks import HOP
from training.speech.utterance import Utterance


@dataclass(frozen=True)
class SpeechBank:
    """T frames of 10 ms, U utterances.

    `sound` (160 T,) mu-law bytes; `mouth` (T, 6), `level` (T,) bytes = 255 x value; `classes` (T,) viseme
    class; `starts` (U + 1,) int64 in frames, the last is T; `voice` (U,) int32, index into `voices`.
    """

    sound: np.ndarray
    mouth: np.ndarray
    level: np.ndarray
    classes: np.ndarray
    starts: np.ndarray
    voice: np.ndarray
    voices: tuple[str, ...]

    @classmethod
    def of(cls, utterances: Sequence[Utterance]) -> "SpeechBank":
        """Pack utterances, in order."""
        tracks = [utterance.track() for utterance in utterances]
        names = tuple(sorted({utterance.voice for utterance in utterances}))
        return cls(
            sound=np.concatenate([to_mulaw(utterance.sound) for utterance in utterances]),
            mouth=np.concatenate([_to_bytes(track.mouth) for track in tracks]),
            level=np.concatenate([_to_bytes(track.level) for track in tracks]),
            classes=np.concatenate([track.classes for track in tracks]),
            starts=np.cumsum([0] + [len(track.level) for track in tracks]).astype(np.int64),
            voice=np.array([names.index(utterance.voice) for utterance in utterances], np.int32),
            voices=names,
        )

    @classmethod
    def join(cls, banks: "Sequence[SpeechBank]") -> "SpeechBank":
        """Put banks one after the other."""
        names = tuple(sorted({name for bank in banks for name in bank.voices}))
        offsets = np.cumsum([0] + [int(bank.starts[-1]) for bank in banks])
        starts = [bank.starts[:-1] + offset for bank, offset in zip(banks, offsets[:-1], strict=True)]
        return cls(
            sound=np.concatenate([bank.sound for bank in banks]),
            mouth=np.concatenate([bank.mouth for bank in banks]),
            level=np.concatenate([bank.level for bank in banks]),
            classes=np.concatenate([bank.classes for bank in banks]),
            starts=np.concatenate([*starts, offsets[-1:]]).astype(np.int64),
            voice=np.concatenate(
                [np.array([names.index(n) for n in bank.voices], np.int32)[bank.voice] for bank in banks]
            ),
            voices=names,
        )

    @classmethod
    def open(cls, path: Path) -> "SpeechBank":
        """Read a bank; one in the travelling form is decoded (about 1 s for 10 minutes)."""
        with safe_open(str(path), "np") as file:
            voices = tuple(json.loads(file.metadata()["voices"]))
        tensors = load_file(str(path))
        if "coded_sound" in tensors:
            return cls.of(_decode(tensors, voices))
        return cls(**tensors, voices=voices)

    def save(self, path: Path) -> None:
        """Write the bank in the form that opens at once."""
        tensors = {k: v for k, v in vars(self).items() if k != "voices"}
        save_file(tensors, str(path), {"voices": json.dumps(self.voices)})

    @property
    def minutes(self) -> float:
        """Length of the whole bank."""
        return len(self.level) / 6000

    def __len__(self) -> int:
        return len(self.voice)

    def frames_of(self, utterance: int) -> slice:
        """The 10 ms frames of one utterance."""
        return slice(int(self.starts[utterance]), int(self.starts[utterance + 1]))

    def sound_of(self, utterance: int) -> np.ndarray:
        """Sound of one utterance: float32 (S,) at 16 kHz."""
        frames = self.frames_of(utterance)
        return from_mulaw(self.sound[frames.start * HOP : frames.stop * HOP])

    def mouth_of(self, utterance: int) -> np.ndarray:
        """Mouth of one utterance: float32 (T, 6) in 0..1 at 100 Hz."""
        return self.mouth[self.frames_of(utterance)].astype(np.float32) / 255

    def voice_of(self, utterance: int) -> str:
        """Who speaks, as "engine/name"."""
        return self.voices[int(self.voice[utterance])]


def to_mulaw(sound: np.ndarray) -> np.ndarray:
    """Sound in -1..1 to mu-law bytes (mu = 255, ITU-T G.711's curve without its segments)."""
    curve = np.sign(sound) * np.log1p(255 * np.abs(np.clip(sound, -1, 1))) / np.log(256)
    return np.round((curve + 1) * 127.5).astype(np.uint8)


def from_mulaw(coded: np.ndarray) -> np.ndarray:
    """Mu-law bytes to float32 sound."""
    return mulaw_table()[coded]


def mulaw_table() -> np.ndarray:
    """The 256 values of mu-law bytes, float32."""
    curve = np.arange(256) / 127.5 - 1
    return (np.sign(curve) * (256 ** np.abs(curve) - 1) / 255).astype(np.float32)


def save_travelling(utterances: Sequence[Utterance], path: Path, step: float = 0.03) -> None:
    """Write utterances in the small form."""
    values, steps = codec.encode(np.concatenate([utterance.sound for utterance in utterances]), step)
    classes = codec.pack(np.concatenate([utterance.classes for utterance in utterances]))
    names = sorted({utterance.voice for utterance in utterances})
    tensors = {
        "coded_sound": np.frombuffer(values, np.uint8),
        "coded_steps": np.frombuffer(steps, np.uint8),
        "coded_classes": np.frombuffer(classes, np.uint8),
        "step": np.array([step], np.float64),
        "starts": np.cumsum([0] + [len(utterance.classes) for utterance in utterances]).astype(np.int64),
        "voice": np.array([names.index(utterance.voice) for utterance in utterances], np.int32),
    }
    save_file(tensors, str(path), {"voices": json.dumps(names)})


def _decode(tensors: dict[str, np.ndarray], voices: tuple[str, ...]) -> list[Utterance]:
    starts = tensors["starts"]
    coded = (tensors["coded_sound"].tobytes(), tensors["coded_steps"].tobytes())
    sound = codec.decode(coded, int(starts[-1]) * HOP, float(tensors["step"][0]))
    classes = np.frombuffer(codec.unpack(tensors["coded_classes"].tobytes()), np.uint8)
    return [
        Utterance(sound[start * HOP : stop * HOP], classes[start:stop], voices[int(voice)])
        for start, stop, voice in zip(starts[:-1], starts[1:], tensors["voice"], strict=True)
    ]


def _to_bytes(values: np.ndarray) -> np.ndarray:
    return np.round(np.clip(values, 0, 1) * 255).astype(np.uint8)
