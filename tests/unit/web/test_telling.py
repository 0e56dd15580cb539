"""Texts are complete in both languages, and nothing from outside becomes markup."""

from __future__ import annotations

import re
from pathlib import Path
from string import Formatter

import pytest

pytest.importorskip("gradio")

import infinite_talk
from infinite_talk import Distilled, Phase
from infinite_talk.frontends.presets import Preset
from infinite_talk.frontends.web.language import language_of, preferred
from infinite_talk.frontends.web.telling import amount, duration, error_text, length
from infinite_talk.frontends.web.texts import LANGUAGES, Texts
from infinite_talk.jobs import State

TEXTS = Texts.load()
ELSEWHERE = {
    "checksum", "exists", "hub_busy", "hub_login", "hub_unknown", "hub_unreachable", "job_folder_missing",
    "job_invalid", "key_reused", "not_found", "not_ready", "offline", "output_exists", "path_outside",
    "unknown_preset", "unreadable",
}  # fmt: skip
"""Codes of downloads, job files, programs, and files that are named on a command line."""
BAD = '<img src=x onerror="alert(1)">'


def test_every_text_is_there_in_both_languages_with_the_same_places():
    for key, entry in TEXTS.entries.items():
        assert set(entry) == set(LANGUAGES) and all(entry.values()), key
        places = [{place for _, place, _, _ in Formatter().parse(text) if place} for text in entry.values()]
        assert places[0] == places[1] or key.startswith("error_"), (
            key
        )  # Chinese errors need not repeat the message


def test_chinese_is_chinese():
    for key, entry in TEXTS.entries.items():
        text = re.sub(r"\{\w+\}", "", entry["zh"])
        assert re.search(r"[\u4e00-\u9fff]", text) or not re.search(r"\b[a-z]{4,}", text), key


@pytest.mark.parametrize(
    "room", ["inputs", "jobs/inspector.py", "jobs/checking.py", "jobs/desk.py", "weights"]
)
def test_whatever_is_refused_is_refused_in_chinese_too(room):
    """Each code of an error that a visitor can run into has a sentence of its own."""
    place = Path(infinite_talk.__file__).parent / room
    files = place.rglob("*.py") if place.is_dir() else [place]
    codes = {code for file in files for code in re.findall(r'code="([a-z_]+)"', file.read_text())}
    assert [code for code in sorted(codes - ELSEWHERE) if not TEXTS.has(f"error_{code}")] == []


def test_every_state_phase_and_preset_has_a_name():
    for prefix, values in (("state", State), ("phase", Phase), ("preset", [p.name.lower() for p in Preset])):
        for value in values:
            assert TEXTS.has(f"{prefix}_{value}")
    assert all(TEXTS.has(f"preset_{preset.name.lower()}_help") for preset in Preset)
    assert Distilled  # their names are names of files, in no language


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("code", ["audio_empty", "capability", "never_heard_of"])
def test_an_error_is_told_and_harmless(language, code):
    said = error_text(TEXTS, language, code, BAD)
    assert "<img" not in said and "onerror" in said


def test_chinese_errors_say_what_to_do_and_keep_the_message():
    said = error_text(TEXTS, "zh", "audio_empty", "No sound could be decoded from 'a.wav'.")
    assert "请" in said and "a.wav" in said


@pytest.mark.parametrize(
    ("header", "language"),
    [
        ("", "en"),
        ("zh-CN,zh;q=0.9,en;q=0.8", "zh"),
        ("de, zh;q=0.4, en;q=0.6", "en"),
        ("en;q=0, zh;q=0.1", "zh"),
        ("fr, de", "en"),
        ("zh;q=oops", "zh"),
        ("ZH-Hant", "zh"),
    ],
)
def test_the_browser_is_asked(header, language):
    assert preferred(header) == language


class Asking:
    def __init__(self, cookie: str, header: str) -> None:
        self.cookies, self.headers = {"infinite_talk_language": cookie}, {"accept-language": header}


def test_a_choice_wins_over_the_browser_and_nonsense_does_not():
    assert language_of(Asking("zh", "en")) == "zh"
    assert language_of(Asking("<script>", "zh")) == "zh"


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0.2, "1 s"), (59.1, "60 s"), (61, "61 s"), (200, "4 min"), (5400, "1 h 30 min"), (7201, "2 h 1 min")],
)
def test_times_are_rounded_up(seconds, said):
    assert duration(TEXTS, "en", seconds) == said


@pytest.mark.parametrize(("seconds", "said"), [(4.25, "4.2 s"), (89, "89 s"), (2412.4, "40 min 12 s")])
def test_lengths_are_said_as_people_say_them(seconds, said):
    assert length(TEXTS, "en", seconds) == said


def test_sizes():
    assert (amount(8.5e8), amount(1.23e10)) == ("850 MB", "12.3 GB")
