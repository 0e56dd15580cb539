"""What a person does on the page; the tests name no sentence of it, only its key in the catalogue."""

from __future__ import annotations

import re
from pathlib import Path

from playwright.sync_api import Locator, expect

from infinite_talk.frontends.web.texts import Texts

from .visitor import PATIENCE, Visitor

SMALL = {"size": "64x64!", "steps": "1", "window_frames": "17", "motion_frames": "5"}
"""A video that is made in a second."""
FINISHING = 400_000
"""Milliseconds until a video of the embedded model is given up; other programs may have the machine."""


class Person:
    """Somebody who sees the page in ``language`` and uses what it shows."""

    def __init__(self, visitor: Visitor, language: str = "en") -> None:
        self.visitor, self.page, self.language = visitor, visitor.page, language
        expect(self.button("make")).to_be_visible()

    def say(self, key: str, **values: object) -> str:
        return Texts.load().say(self.language, key, **values)

    def button(self, key: str) -> Locator:
        """The first one that is shown; an arrow may follow its words."""
        name = re.compile(f"^{re.escape(self.say(key))}")
        return self.page.get_by_role("button", name=name).locator("visible=true").first

    def field(self, key: str) -> Locator:
        return self.page.get_by_label(self.say(key)).locator("visible=true").first

    def tab(self, key: str) -> None:
        """Open one of the panels; on a phone most of them are behind the button with three dots."""
        name = self.say(f"tab_{key}")
        tab = self.page.get_by_role("tab", name=name, exact=True).locator("visible=true")
        if tab.count():
            tab.first.click()
        else:
            self.page.locator(".overflow-menu > button").first.click()
            self.page.locator(".overflow-dropdown button").filter(has_text=name).first.click()
        expect(self.page.locator(f'[role=tab][aria-selected=true]:has-text("{name}")').first).to_be_attached()

    def see(self, text: str | re.Pattern[str], timeout: int = PATIENCE) -> Locator:
        """Wait until a text is on the page."""
        found = self.page.get_by_text(text).locator("visible=true").first
        expect(found).to_be_visible(timeout=timeout)
        return found

    def sees(self, key: str, timeout: int = PATIENCE) -> Locator:
        return self.see(pattern(self.say_raw(key)), timeout)

    def say_raw(self, key: str) -> str:
        return Texts.load().entries[key][self.language]

    def give(self, what: str, file: Path) -> None:
        """Drop a file on one of the page's fields: the ``elem_id`` of ``picture``, ``voice`` and so on.

        A field that has one already is cleared first, as Gradio asks of people.
        """
        field = self.page.locator(f"#{what}")
        if not field.locator("input[type=file]").count():
            field.get_by_role("button", name=re.compile("^(Clear|清除|清空)")).first.click()
        field.locator("input[type=file]").first.set_input_files(file)

    def sample(self, what: str) -> None:
        """Take the sample ``picture`` or ``voice``, and wait until it has been looked at."""
        self.button(f"sample_{what}").click()
        self.sees(f"{what}_ok")

    def order(self, **options: str) -> None:
        """Fill in options of a video, as small as can be unless they say otherwise, and press the button."""
        self.button("advanced").click()
        self.fill(**SMALL | options)
        self.button("make").click()

    def fill(self, **options: str) -> None:
        """Write into fields that are shown, by the keys of their labels."""
        for name, value in options.items():
            self.field(name).fill(value)

    def state(self, state: str, timeout: int = FINISHING) -> None:
        """Wait until the job that is shown in Create is in ``state``."""
        expect(self.page.locator(f"#status .it-state-{state}").first).to_be_visible(timeout=timeout)


def pattern(sentence: str) -> re.Pattern[str]:
    """A sentence of the catalogue with anything in its ``{places}``."""
    return re.compile(".+?".join(re.escape(part) for part in re.split(r"\{\w+\}", sentence)))
