"""Build a speech bank: espeak-ng speech by many processes, joined with travelling banks of natural voices.

    python -m training.speech.build --minutes 120 --workers 16 --espeak DIR --natural natural.safetensors
    --out bank.safetensors

Needs numpy, scipy, safetensors and the espeak-ng library (installed `espeakng-loader`, or its unpacked
wheel named by `--espeak`). The natural part comes first in the bank. The same seed and minutes and workers
give the same bank.
"""

import argparse
import multiprocessing
import random
import time
from pathlib import Path

from training.speech import text, voices
from training.speech.bank import SpeechBank, save_travelling
from training.speech.espeak import Espeak, Prosody
from training.speech.natural import load
from training.speech.utterance import Utterance, assemble

# English is what the natural voices speak; other languages widen the set of sounds.
_LANGUAGE_SHARES = {"en": 62, "cmn": 12, "de": 6, "es": 6, "fr": 6, "it": 4, "pt-BR": 4}


def espeak_utterance(espeak: Espeak, rng: random.Random, held_out: bool) -> Utterance:
    """Speak one passage with a drawn language, voice and prosody."""
    language = rng.choices(list(_LANGUAGE_SHARES), list(_LANGUAGE_SHARES.values()))[0]
    accent = rng.choice(voices.ESPEAK_ACCENTS) if language == "en" else language
    speaker = rng.choice(voices.speakers("espeak", voices.ESPEAK_SPEAKERS, held_out))
    prosody = Prosody(rng.randint(120, 215), rng.randint(20, 80), rng.randint(30, 85))
    passage = text.passage(rng, language, held_out)
    spoken = [espeak.speak(sentence, f"{accent}+{speaker}", prosody) for sentence in passage]
    return assemble(spoken, f"espeak/{speaker}", rng)


def espeak_bank(minutes: float, seed: str, folder: Path | None, held_out: bool = False) -> SpeechBank:
    """Speak until the bank holds `minutes`. One process can hold one engine."""
    espeak = Espeak(folder)
    utterances: list[Utterance] = []
    done = 0.0
    while done < minutes * 60:
        utterances.append(espeak_utterance(espeak, random.Random(f"{seed}/{len(utterances)}"), held_out))
        done += len(utterances[-1].sound) / 16000
    return SpeechBank.of(utterances)


def build(minutes: float, workers: int, seed: int, folder: Path | None, held_out: bool = False) -> SpeechBank:
    """Speak `minutes` with `workers` processes."""
    jobs = [(minutes / workers, f"{seed}/{worker}", folder, held_out) for worker in range(workers)]
    with multiprocessing.get_context("spawn").Pool(workers) as pool:
        return SpeechBank.join(pool.starmap(espeak_bank, jobs))


def pack(folder: Path, kind: str, out: Path, step: float, seconds: float) -> None:
    """Pack the natural utterances `kind`-*.npz of a folder, the same share of each engine, into a
    travelling bank.
    """
    by_engine: dict[str, list[Utterance]] = {}
    for path in sorted(folder.glob(f"{kind}-*.npz")):
        utterance = load(path)
        by_engine.setdefault(utterance.voice.split("/")[0], []).append(utterance)
    total = sum(len(u.sound) for utterances in by_engine.values() for u in utterances) / 16000
    share = min(1.0, seconds / total)
    kept = [
        u for utterances in by_engine.values() for u in utterances[: max(1, round(share * len(utterances)))]
    ]
    save_travelling(kept, out, step)
    print(f"{out}: {len(kept)} utterances, {share * total / 60:.1f} min, {out.stat().st_size / 1e6:.1f} MB")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=60, help="minutes of espeak-ng speech")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--espeak", type=Path, default=None, help="folder of the unpacked espeakng-loader wheel"
    )
    parser.add_argument("--natural", type=Path, nargs="*", default=[], help="travelling banks to put first")
    parser.add_argument("--held-out", action="store_true", help="evaluation voices and sentences")
    parser.add_argument(
        "--pack", type=Path, default=None, help="pack this folder of natural utterances instead"
    )
    parser.add_argument("--step", type=float, default=0.03, help="coarseness of a packed bank")
    args = parser.parse_args()
    if args.pack:
        pack(args.pack, "held" if args.held_out else "train", args.out, args.step, args.minutes * 60)
        return
    started = time.perf_counter()
    banks = [SpeechBank.open(path) for path in args.natural]
    if args.minutes > 0:
        banks.append(build(args.minutes, args.workers, args.seed, args.espeak, args.held_out))
    bank = SpeechBank.join(banks)
    bank.save(args.out)
    took = time.perf_counter() - started
    print(
        f"{args.out}: {len(bank)} utterances, {bank.minutes:.1f} min, {len(bank.voices)} voices, {took:.1f} s"
    )


if __name__ == "__main__":
    main()
