"""Sentences to be spoken, made without any network: patterns over word lists, and Python's own documentation.

A sentence belongs for ever to training or to evaluation, decided by its checksum alone.
"""

import random
import re
import zlib
from collections.abc import Callable
from configparser import ConfigParser
from functools import cache
from pathlib import Path

HELD_OUT_SHARE = 12  # one sentence in so many is kept for evaluation
LANGUAGES = ("en", "cmn", "de", "es", "fr", "it", "pt-BR")


def is_held_out(sentence: str) -> bool:
    """Whether this sentence is spoken in evaluation only."""
    return zlib.crc32(sentence.strip().lower().encode()) % HELD_OUT_SHARE == 0


def sentence(rng: random.Random, language: str = "en", held_out: bool = False) -> str:
    """Draw a sentence of `language` from the training or the evaluation part."""
    while True:
        drawn = _draw(rng, language)
        if is_held_out(drawn) == held_out:
            return drawn


def passage(rng: random.Random, language: str = "en", held_out: bool = False) -> list[str]:
    """Draw one to four sentences, spoken one after the other with pauses between."""
    return [sentence(rng, language, held_out) for _ in range(rng.choice((1, 2, 2, 3, 3, 4)))]


def _draw(rng: random.Random, language: str) -> str:
    if language == "en" and rng.random() < 0.25:
        return rng.choice(documentation())
    words = _words(language)
    choices = _english_choices(rng, words) if language == "en" else _other_choices(rng, words)
    return re.sub(r"\{(.)\}", lambda match: choices[match[1]](), rng.choice(words["patterns"]))


def _english_choices(rng: random.Random, words: dict[str, list[str]]) -> dict[str, Callable[[], str]]:
    return {
        "n": lambda: rng.choice(words["nouns"]),
        "N": lambda: rng.choice(words["nouns"]).capitalize(),
        "v": lambda: rng.choice(words["verbs"]),
        "a": lambda: rng.choice(words["adjectives"]),
        "p": lambda: rng.choice(words["names"]),
        "i": lambda: str(rng.randint(2, rng.choice((20, 100, 9999)))),
        "d": lambda: str(rng.randint(0, 9)),
        "h": lambda: str(rng.randint(1, 12)),
        "y": lambda: str(rng.randint(1700, 2040)),
    }


def _other_choices(rng: random.Random, words: dict[str, list[str]]) -> dict[str, Callable[[], str]]:
    return {
        "0": lambda: rng.choice(words["subjects"]),
        "1": lambda: rng.choice(words["verbs"]),
        "2": lambda: rng.choice(words["objects"]),
        "i": lambda: str(rng.randint(2, 999)),
    }


@cache
def _words(language: str) -> dict[str, list[str]]:
    """The lists of one language from `words.ini`."""
    parser = ConfigParser(interpolation=None)
    parser.read_string(Path(__file__).with_name("words.ini").read_text("utf-8"))
    return {
        name: [" ".join(word.split()) for word in text.split("|" if name == "patterns" else ",")]
        for name, text in parser[language].items()
    }


@cache
def documentation() -> list[str]:
    """Plain sentences of 25 to 140 letters from the language reference that ships with Python."""
    from pydoc_data import topics

    text = re.sub(r"\s+", " ", " ".join(topics.topics[key] for key in sorted(topics.topics)))
    plain = re.compile(r"[A-Z][A-Za-z ,'.!?]{24,139}")
    return [found for found in re.split(r"(?<=[.!?])\s+", text) if plain.fullmatch(found)]
