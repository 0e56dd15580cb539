"""Phoneme names of the synthesisers, and the mouth shape (viseme) that each one asks for.

Two alphabets come in: IPA (espeak-ng, Kokoro, Piper) and ARPAbet (flite). Both end in one of 23 viseme
classes; a class is six mouth channels in 0..1 and a dominance, the strength with which it holds its shape
against its neighbours (Cohen and Massaro 1993, "Modeling coarticulation in synthetic visual speech").

Channels: open (jaw and lips), width (0.5 is rest), round (protrusion), teeth, tongue (tip shown), tuck (lower
lip under the upper teeth).
"""

import unicodedata
from dataclasses import dataclass

import numpy as np

CHANNELS = ("open", "width", "round", "teeth", "tongue", "tuck")


@dataclass(frozen=True)
class Viseme:
    """Target of one mouth class: six channels in 0..1, and its dominance over its neighbours (> 0)."""

    channels: tuple[float, float, float, float, float, float]
    dominance: float


VISEMES: dict[str, Viseme] = {
    "sil": Viseme((0.00, 0.50, 0.00, 0.0, 0.0, 0.0), 0.7),
    "pbm": Viseme((0.00, 0.50, 0.10, 0.0, 0.0, 0.0), 2.4),
    "fv": Viseme((0.12, 0.55, 0.00, 0.9, 0.0, 1.0), 1.8),
    "th": Viseme((0.22, 0.50, 0.00, 0.7, 0.9, 0.0), 1.2),
    "td": Viseme((0.25, 0.58, 0.00, 0.7, 0.4, 0.0), 0.6),
    "l": Viseme((0.35, 0.55, 0.00, 0.4, 0.9, 0.0), 0.7),
    "s": Viseme((0.12, 0.72, 0.00, 1.0, 0.0, 0.0), 1.2),
    "sh": Viseme((0.20, 0.30, 0.75, 0.9, 0.0, 0.0), 1.3),
    "k": Viseme((0.30, 0.50, 0.00, 0.3, 0.0, 0.0), 0.35),
    "r": Viseme((0.25, 0.35, 0.50, 0.3, 0.2, 0.0), 0.8),
    "w": Viseme((0.10, 0.08, 1.00, 0.0, 0.0, 0.0), 1.5),
    "y": Viseme((0.18, 0.85, 0.00, 0.6, 0.2, 0.0), 0.8),
    "iy": Viseme((0.24, 1.00, 0.00, 0.8, 0.2, 0.0), 1.1),
    "ih": Viseme((0.32, 0.75, 0.00, 0.6, 0.2, 0.0), 0.9),
    "eh": Viseme((0.52, 0.72, 0.00, 0.5, 0.15, 0.0), 1.0),
    "ae": Viseme((0.78, 0.78, 0.00, 0.5, 0.1, 0.0), 1.1),
    "aa": Viseme((1.00, 0.50, 0.00, 0.3, 0.05, 0.0), 1.2),
    "ah": Viseme((0.60, 0.50, 0.00, 0.35, 0.1, 0.0), 1.0),
    "ao": Viseme((0.78, 0.28, 0.50, 0.1, 0.0, 0.0), 1.1),
    "uh": Viseme((0.32, 0.25, 0.60, 0.1, 0.0, 0.0), 1.0),
    "uw": Viseme((0.20, 0.08, 0.95, 0.0, 0.0, 0.0), 1.2),
    "er": Viseme((0.36, 0.40, 0.35, 0.3, 0.1, 0.0), 0.9),
    "ax": Viseme((0.36, 0.50, 0.00, 0.3, 0.1, 0.0), 0.6),
}
CLASSES = tuple(VISEMES)
SILENCE = CLASSES.index("sil")
BILABIAL = CLASSES.index("pbm")
TARGETS = np.array([VISEMES[name].channels for name in CLASSES], np.float32)  # (23, 6)
DOMINANCE = np.array([VISEMES[name].dominance for name in CLASSES], np.float32)  # (23,)

# The first part of a diphthong is held a little longer than the second.
FIRST_SHARE = 0.55

_ARPABET = {
    "aa": "aa", "ae": "ae", "ah": "ah", "ao": "ao", "aw": "aa uw", "ax": "ax", "axr": "er", "ay": "aa ih",
    "b": "pbm", "ch": "sh", "d": "td", "dh": "th", "dx": "td", "eh": "eh", "el": "l", "em": "pbm", "en": "td",
    "er": "er", "ey": "eh iy", "f": "fv", "g": "k", "hh": "k", "hv": "k", "ih": "ih", "ix": "ih", "iy": "iy",
    "jh": "sh", "k": "k", "l": "l", "m": "pbm", "n": "td", "ng": "k",
    "nx": "td", "ow": "ao uw", "oy": "ao ih",
    "p": "pbm", "r": "r", "s": "s", "sh": "sh", "t": "td", "th": "th", "uh": "uh", "uw": "uw", "v": "fv",
    "w": "w", "y": "y", "z": "s", "zh": "sh",
}  # fmt: skip
_PAUSES = frozenset(("", "_", "pau", "sil", "ssil", "h#", "brth"))

# Affricates are one gesture, diphthongs two. (Capitals below are Kokoro's letters for diphthongs.)
_IPA_CLUSTERS = {
    "tʃ": "sh", "dʒ": "sh", "tɕ": "sh", "dʑ": "sh", "ʈʂ": "sh", "ts": "s", "dz": "s", "pf": "fv", "kw": "w",
    "aɪ": "aa ih", "aʊ": "aa uw", "ai": "aa ih", "au": "aa uw", "ɑu": "aa uw", "ɔɪ": "ao ih",
    "oʊ": "ao uw", "əʊ": "ax uw", "eɪ": "eh iy",
}  # fmt: skip
_IPA = {
    "a": "aa", "ɑ": "aa", "ɒ": "aa", "æ": "ae", "ɐ": "ah", "ʌ": "ah",
    "ə": "ax", "ɚ": "er", "ɜ": "er", "ɝ": "er",
    "ɘ": "ax", "ɵ": "uh", "ɛ": "eh", "e": "eh", "ɪ": "ih", "i": "iy",
    "ɨ": "ih", "ᵻ": "ih", "ɯ": "ih", "ɤ": "ah",
    "ɔ": "ao", "o": "ao", "ʊ": "uh", "u": "uw", "ʉ": "uw", "y": "uw",
    "ʏ": "uh", "ø": "uh", "œ": "uh", "ɶ": "uh",
    "p": "pbm", "b": "pbm", "m": "pbm", "ɓ": "pbm", "f": "fv", "v": "fv", "ʋ": "fv", "ɱ": "fv", "β": "fv",
    "ɸ": "fv", "θ": "th", "ð": "th", "t": "td", "d": "td", "n": "td",
    "ɾ": "td", "ʈ": "td", "ɖ": "td", "ɳ": "td",
    "ɗ": "td", "ɲ": "y", "ʎ": "l", "l": "l", "ɫ": "l", "ɭ": "l", "ɬ": "l", "s": "s", "z": "s", "ʦ": "s",
    "ʣ": "s", "ʃ": "sh", "ʒ": "sh", "ʧ": "sh", "ʤ": "sh", "ɕ": "sh",
    "ʑ": "sh", "ʂ": "sh", "ʐ": "sh", "ʨ": "sh",
    "ʥ": "sh", "ç": "y", "ʝ": "y", "j": "y", "ɟ": "y", "c": "k", "k": "k", "ɡ": "k", "g": "k", "ŋ": "k",
    "ɴ": "k", "x": "k", "ɣ": "k", "χ": "k", "h": "k", "ɦ": "k", "ħ": "k", "ʔ": "k", "q": "k", "ʁ": "k",
    "ɰ": "k", "ɥ": "uw", "w": "w", "ʍ": "w", "r": "r", "ɹ": "r", "ɻ": "r", "ʀ": "r", "ɽ": "td",
    "A": "eh iy", "I": "aa ih", "O": "ao uw", "Q": "ax uw", "W": "aa uw", "Y": "ao ih", "ᵊ": "ax", "T": "td",
}  # fmt: skip


def viseme_parts(phoneme: str) -> list[tuple[int, float]]:
    """Map one phoneme name to viseme classes and their shares of its duration (shares sum to 1).

    Total: stress, length and tone marks are ignored, pauses give silence, and a name that is not known gives
    the neutral vowel, because a sound of unknown shape is still a sound.
    """
    if phoneme in _PAUSES:
        return [(SILENCE, 1.0)]
    names = _ARPABET[phoneme].split() if phoneme in _ARPABET and len(phoneme) > 1 else _from_ipa(phoneme)
    if not names:
        return [(CLASSES.index("ax"), 1.0)]
    if len(names) == 1:
        return [(CLASSES.index(names[0]), 1.0)]
    rest = (1.0 - FIRST_SHARE) / (len(names) - 1)
    return [(CLASSES.index(name), FIRST_SHARE if i == 0 else rest) for i, name in enumerate(names)]


def _from_ipa(phoneme: str) -> list[str]:
    letters = "".join(_plain(letter) for letter in phoneme.replace("͡", ""))
    names: list[str] = []
    at = 0
    while at < len(letters):
        cluster = _IPA_CLUSTERS.get(letters[at : at + 2])
        names += (cluster or _IPA.get(letters[at], "")).split()
        at += 2 if cluster else 1
    return names


def _plain(letter: str) -> str:
    """A letter of the table, or the letter without its accents."""
    return letter if letter in _IPA else unicodedata.normalize("NFD", letter)
