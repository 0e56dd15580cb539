"""T2: what a client writes is text wherever it is shown: on the page, in the terminal."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path

import pytest

from infinite_talk import InputError, Request
from infinite_talk.frontends.cli.main import run
from infinite_talk.frontends.web.cards import Cards
from infinite_talk.frontends.web.finding import picture_html, sound_html
from infinite_talk.frontends.web.telling import told
from infinite_talk.frontends.web.texts import LANGUAGES, Texts
from infinite_talk.jobs import Job, JobError, JobProgress, Order, State
from infinite_talk.jobs.facts import Crop, PictureFacts, SoundFacts
from tests.safety.service import serving

EVIL = "\"><script>alert(1)</script><img src=x onerror=alert(2)>'<svg/onload=alert(3)> javascript:x {x} &lt; \x1b[31m"
TEXTS = Texts.load()


class Shown(HTMLParser):
    """What a browser would make of HTML: elements with their attributes, and text."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.text = ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.elements.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_data(self, data):
        self.text += data


def job_in(state: State) -> Job:
    return Job(
        id="video_" + "0" * 32,
        state=state,
        order=Order(request=Request(prompt=EVIL), title=EVIL, profile=EVIL),
        created=datetime(2026, 1, 1, tzinfo=UTC),
        progress=JobProgress(window=1, windows=2, notes=(EVIL,), runs=EVIL),
        error=JobError("x_unheard_of", EVIL) if state is State.FAILED else None,
    )


def safe(html: str) -> Shown:
    """Parse, and refuse anything that a client could have put there."""
    shown = Shown(html)
    assert not {"script", "svg", "iframe", "object", "embed", "link", "style"} & set(shown.elements)
    assert not [name for name, _ in shown.attributes if name.startswith("on")]
    for name, value in shown.attributes:
        if name in ("src", "href", "poster", "data-preview"):
            assert value.startswith(("/v1/videos/", "/ui/gradio_api/file=")), value
        if name == "download":
            assert not re.search(r"[\"'<>/\\\x00-\x1f]", value)
    return shown


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("state", State)
def test_t2_cards_show_titles_prompts_and_notes_as_text(language, state):
    cards, job = Cards(TEXTS, language, "/v1/videos"), job_in(state)
    shown = safe(cards.progress(job))
    assert EVIL.strip() in shown.text
    for html in (cards.player(job), cards.queue([job], [job]), cards.gallery([job]), cards.download(job)):
        safe(html)
    assert EVIL[:100] in safe(cards.gallery([job])).text


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize(
    "code", ["x_unheard_of", "audio_too_long", "image_unsupported", "queue_full", "media_limit"]
)
def test_t2_errors_and_findings_are_text(language, code):
    """A file's name is in the message, and in the notes."""
    assert EVIL.strip() in safe(told(TEXTS, language, InputError(EVIL, code=code))).text or TEXTS.has(
        f"error_{code}"
    )
    picture = PictureFacts(
        format=EVIL, bytes=1, width=64, height=64, output_width=64, output_height=64, crop=Crop(0, 0, 64, 64),
        moving=False, notes=(EVIL,),
    )  # fmt: skip
    assert (
        EVIL in safe(picture_html(TEXTS, language, Path("/x") / EVIL.replace("/", "_"), picture, EVIL)).text
    )
    sound = SoundFacts(
        format=EVIL,
        bytes=1,
        seconds=1.0,
        rate=1,
        channels=1,
        loudness=-20.0,
        peak=1.0,
        outline=(),
        notes=(EVIL,),
    )
    assert EVIL in safe(sound_html(TEXTS, language, sound)).text


def test_t2_the_terminal_shows_no_control_characters(tmp_path, capsys):
    """Colours, a bell or a cleared screen from a title, on a terminal of the owner."""
    title = "\x1b[2J\x1b]0;owned\x07\r\n[bold]x[/bold]\x9b31m"
    with serving(tmp_path) as service:
        job = service.order(data={"title": title, "prompt": title}).json()["id"]
    for command in (["list"], ["show", job], ["list", "--json"], ["show", job, "--json"]):
        assert run(["jobs", *command, "--data-dir", str(tmp_path)]) == 0
        out, err = capsys.readouterr()
        assert job in out
        assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]", out + err)
