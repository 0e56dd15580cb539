"""Who reads the page: two languages, keyboard alone, a phone, dark and light; nothing comes from elsewhere."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from infinite_talk.frontends.web.texts import Texts

from . import access
from .person import Person
from .visitor import DESKTOP, PHONE

PANELS = ("create", "queue", "gallery", "compare", "models", "quality")
FOLDED = {
    "create": ("trim", "two_people", "advanced", "more"),
    "gallery": ("reuse",),
    "models": ("models_loras", "models_memory", "models_speed"),
}
"""What is folded away in a panel."""
LANGUAGES = {"en": "en-US", "zh": "zh-CN"}


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_page_speaks_the_language_of_the_browser(visit, language):
    """All of it: no sentence of the catalogue is shown in the other language."""
    visitor = visit(language=LANGUAGES[language])
    person = Person(visitor, language)
    assert visitor.page.evaluate("document.documentElement.lang").startswith(language)
    for panel in PANELS:
        person.tab(panel)
        for part in FOLDED.get(panel, ()):
            person.button(part).click()
        if language == "zh":
            visitor.picture(f"{panel}-zh")
        shown = visitor.page.locator("body").inner_text().splitlines()
        assert foreign(shown, language) == [], panel


def foreign(lines: list[str], language: str) -> list[str]:
    """Lines that are a sentence of the catalogue in the other language and not one in this."""
    entries = [entry for key, entry in Texts.load().entries.items() if key != "title"]  # a name is a name
    own = {entry[language] for entry in entries} | set(LANGUAGES)
    others = {
        text for entry in entries for name, text in entry.items() if name != language and text not in own
    }
    return [line for line in map(str.strip, lines) if line in others]


def test_the_language_can_be_switched_and_stays(visit):
    visitor = visit()
    Person(visitor, "en")
    visitor.page.get_by_role("button", name="中文").click()
    Person(visitor, "zh")
    visitor.page.reload()
    Person(visitor, "zh")
    visitor.page.get_by_role("button", name="English").click()
    Person(visitor, "en")


@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_every_panel_can_be_read_and_used(visit, size):
    """Names, contrast, sizes; no scrolling sideways; in light and dark. Pictures of all screens on the way."""
    visitor = visit(size=size)
    person = Person(visitor)
    found = []
    for panel in PANELS:
        person.tab(panel)
        where = f"{panel}-{'phone' if size == PHONE else 'desktop'}"
        if panel in FOLDED:
            visitor.picture(f"{where}-folded")
        for part in FOLDED.get(panel, ()):
            person.button(part).click()
        visitor.page.wait_for_timeout(300)  # panels that are filled when they are opened
        for dark in (False, True):
            visitor.lights(dark)
            visitor.page.wait_for_function(
                "dark => document.body.classList.contains('dark') === dark", arg=dark
            )
            visitor.picture(f"{where}-{'dark' if dark else 'light'}")
            checks = (access.pale,) if dark else (access.unnamed, access.pale, access.small, access.wide)
            found += [
                f"{panel}, {check.__name__}: {fault}" for check in checks for fault in check(visitor.page)
            ]
    assert found == []


def test_the_theme_can_be_switched_and_stays(visit):
    visitor = visit()
    person = Person(visitor)
    person.button("theme_switch").click()
    expect(visitor.page.locator("body")).to_have_class("dark")
    visitor.page.reload()
    Person(visitor)
    assert visitor.page.evaluate("document.body.classList.contains('dark')")


def test_a_keyboard_is_enough(visit):
    """From the top, Tab goes through everything in order; each stop is to be seen; Enter and space do the rest."""
    visitor = visit()
    person = Person(visitor)
    stops = access.walk(visitor.page, 40)
    assert [stop["what"] for stop in stops if not (stop["seen"] and stop["ring"])] == []
    visitor.page.reload()
    person = Person(visitor)
    reach(person, "sample_picture")
    visitor.page.keyboard.press("Enter")
    person.sees("picture_ok")
    reach(person, "make")
    visitor.page.keyboard.press("Enter")
    person.sees("missing_voice")


def reach(person: Person, key: str, most: int = 120) -> None:
    """Press Tab until the button has the focus."""
    target = person.button(key)
    for _ in range(most):
        if target.evaluate("e => e === document.activeElement"):
            return
        person.page.keyboard.press("Tab")
    raise AssertionError(f"{key} cannot be reached with {most} presses of Tab")
