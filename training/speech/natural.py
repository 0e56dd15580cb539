"""Speak passages with the natural voices (flite, Kokoro, Piper; espeak-ng too) and keep each as a small file.

    python -m training.speech.natural --out build/natural --packages SITE_PACKAGES --seconds 600 --engine
    kokoro

Runs until it has added `--seconds` of sound; run it again with another `--seed` for more. Needs the Debian
package `flite`, or `onnx`, `onnxruntime` and the voice packages named in `neural.py`. `pack.py` turns the
folder into a bank.
"""

import argparse
import random
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np

from training.speech import flite, neural, text, voices
from training.speech.espeak import Espeak, Prosody
from training.speech.phones import Spoken
from training.speech.utterance import Utterance, assemble

Speaker = Callable[[list[str], random.Random], tuple[str, list[Spoken]]]


def flite_speaker(held_out: bool) -> Speaker:
    """A speaker that draws a flite voice and prosody for each passage."""
    names = voices.speakers("flite", voices.FLITE_VOICES, held_out)

    def speak(passage: list[str], rng: random.Random) -> tuple[str, list[Spoken]]:
        name = rng.choice([n for n in names for _ in range(1 if n == "kal16" else 3)])
        stretch, pitch = rng.uniform(0.85, 1.3), rng.uniform(0.82, 1.25)
        return f"flite/{name}", [flite.speak(sentence, name, stretch, pitch) for sentence in passage]

    return speak


def espeak_speaker(espeak: Espeak, held_out: bool) -> Speaker:
    """A speaker with English espeak-ng voices, for held-out banks that travel."""
    names = voices.speakers("espeak", voices.ESPEAK_SPEAKERS, held_out)

    def speak(passage: list[str], rng: random.Random) -> tuple[str, list[Spoken]]:
        name, accent = rng.choice(names), rng.choice(voices.ESPEAK_ACCENTS)
        prosody = Prosody(rng.randint(130, 200), rng.randint(30, 70), rng.randint(30, 80))
        return f"espeak/{name}", [espeak.speak(s, f"{accent}+{name}", prosody) for s in passage]

    return speak


def piper_speaker(packages: Path, work: Path, espeak: Espeak) -> Speaker:
    """A speaker with the Piper voice."""
    piper = neural.Piper.load(packages, work)

    def speak(passage: list[str], rng: random.Random) -> tuple[str, list[Spoken]]:
        length, variation = rng.uniform(0.85, 1.25), rng.uniform(0.5, 0.8)
        return "piper/joe", [piper.speak(_ipa(espeak, s, "en-us"), length, variation) for s in passage]

    return speak


def kokoro_speaker(packages: Path, work: Path, espeak: Espeak, held_out: bool) -> Speaker:
    """A speaker that draws a Kokoro voice, or a blend of two or three, for each passage."""
    kokoro = neural.Kokoro.load(packages, work)
    names = voices.speakers("kokoro", voices.KOKORO_VOICES, held_out)

    def speak(passage: list[str], rng: random.Random) -> tuple[str, list[Spoken]]:
        several = rng.sample(names, min(len(names), rng.choice((1, 2, 2, 3))))
        if "jm_kumo" in names and "jm_kumo" not in several and rng.random() < 0.4:
            several[0] = "jm_kumo"  # the only man among them
        shares = np.array([rng.uniform(0.2, 1.0) for _ in several])
        blend = {name: float(share) for name, share in zip(several, shares / shares.sum(), strict=True)}
        speed, accent = rng.uniform(0.85, 1.25), rng.choice(("en-us", "en-us", "en"))
        spoken = [kokoro.speak(_ipa(espeak, sentence, accent), blend, speed) for sentence in passage]
        return "kokoro/" + "+".join(sorted(several)), spoken

    return speak


def _ipa(espeak: Espeak, sentence: str, accent: str) -> str:
    """IPA of a sentence with its punctuation between the clauses."""
    parts, clause = [], ""
    for letter in sentence:
        if letter in ",;:.!?":
            if clause.strip():
                parts.append(espeak.ipa(clause, accent) + letter)
            clause = ""
        else:
            clause += letter
    if clause.strip():
        parts.append(espeak.ipa(clause, accent) + ".")
    return " ".join(parts)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--engine", choices=("espeak", "flite", "kokoro", "piper"), required=True)
    parser.add_argument("--packages", type=Path, default=Path(), help="folder that holds the voice packages")
    parser.add_argument("--espeak", type=Path, default=None)
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--held-out", action="store_true")
    parser.add_argument("--min-sentences", type=int, default=1)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    if args.engine == "flite":
        speaker = flite_speaker(args.held_out)
    elif args.engine == "espeak":
        speaker = espeak_speaker(Espeak(args.espeak), args.held_out)
    elif args.engine == "piper":
        speaker = piper_speaker(args.packages, args.out, Espeak(args.espeak))
    else:
        speaker = kokoro_speaker(args.packages, args.out, Espeak(args.espeak), args.held_out)
    done, number = 0.0, 0
    while done < args.seconds:
        rng = random.Random(f"{args.engine}/{args.seed}/{number}")
        passage = text.passage(rng, "en", args.held_out)
        while len(passage) < args.min_sentences:
            passage.append(text.sentence(rng, "en", args.held_out))
        voice, spoken = speaker(passage, rng)
        utterance = assemble(spoken, voice, rng)
        done += len(utterance.sound) / 16000
        kind = "held" if args.held_out else "train"
        save(utterance, args.out / f"{kind}-{args.engine}-{args.seed}-{number:05d}.npz")
        number += 1
        if number % 20 == 0:
            print(f"{args.engine}: {number} utterances, {done / 60:.1f} min", file=sys.stderr, flush=True)


def save(utterance: Utterance, path: Path) -> None:
    """Write one utterance: sound as int16, classes as bytes."""
    sound = np.round(utterance.sound * 32767).astype(np.int16)
    np.savez(path, sound=sound, classes=utterance.classes, voice=np.array(utterance.voice))


def load(path: Path) -> Utterance:
    """Read what `save` wrote."""
    with np.load(path) as file:
        return Utterance(file["sound"].astype(np.float32) / 32767, file["classes"], str(file["voice"]))


if __name__ == "__main__":
    main()
