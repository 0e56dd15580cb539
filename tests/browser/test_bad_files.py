"""Files that cannot be used are named when they are dropped in, with what to do; a good one after them works."""

from __future__ import annotations

import pytest

from . import media
from .person import Person


@pytest.mark.parametrize("language", ["en", "zh"])
def test_a_text_named_png(visit, tmp_path, language):
    visitor = visit(language={"en": "en-US", "zh": "zh-CN"}[language])
    person = Person(visitor, language)
    person.give("picture", media.no_picture(tmp_path))
    person.page.locator(".it-bad").first.wait_for()
    visitor.picture(f"create-bad-picture-{language}")
    said = person.page.locator(".it-bad").first.inner_text()
    assert "PNG" in said and "Traceback" not in said
    person.give("picture", media.PORTRAIT)
    person.sees("picture_ok")
    assert person.page.locator(".it-bad").count() == 0


def test_a_silent_recording_and_an_empty_one(visit, tmp_path):
    person = Person(visit())
    person.give("voice", media.no_sound(tmp_path))
    person.sees("silent_warning")
    empty = tmp_path / "empty.wav"
    empty.write_bytes(b"")
    person.give("voice", empty)
    person.page.locator(".it-bad").first.wait_for()


def test_nothing_chosen(visit):
    """The button says what is missing and starts nothing."""
    visitor = visit()
    person = Person(visitor)
    person.button("make").click()
    person.sees("missing_picture")
    person.sample("picture")
    person.button("make").click()
    person.sees("missing_voice")
    visitor.picture("create-nothing-chosen")
