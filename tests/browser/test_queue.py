"""The queue while a long video is being made: its order, pausing and going on."""

from __future__ import annotations

import httpx
import pytest
from playwright.sync_api import expect

from . import media, orders
from .person import Person


@pytest.fixture
def queue(studio, tmp_path):
    """One that is being made, or about to be, and three behind it."""
    voice = media.voice(tmp_path, 0.8)
    with httpx.Client(base_url=studio.url, timeout=60) as client:
        orders.remove_all(client)
        yield [
            orders.order(client, voice, title, **orders.LONG) for title in ("first", "one", "two", "three")
        ]
        orders.remove_all(client)


def test_videos_change_places_pause_and_go_on(visit, queue):
    """Waiting ones move and pause; the running one pauses too, and the next one begins."""
    visitor = visit()
    person = Person(visitor)
    person.tab("queue")
    titles = visitor.page.locator("#queue .it-job h3")
    expect(titles).to_have_text(["first", "one", "two", "three"])
    press(visitor, "up", queue[3])
    expect(titles).to_have_text(["first", "one", "three", "two"])
    press(visitor, "down", queue[1])
    expect(titles).to_have_text(["first", "three", "one", "two"])
    press(visitor, "pause", queue[3])
    expect(state(visitor, "three")).to_have_class("it-state it-state-paused")
    expect(titles).to_have_text(["first", "one", "two", "three"])
    visitor.picture("queue-paused")
    press(visitor, "resume", queue[3])
    expect(state(visitor, "three")).to_have_class("it-state it-state-queued")
    expect(state(visitor, "first")).to_have_class("it-state it-state-running")
    press(visitor, "pause", queue[0])
    expect(state(visitor, "first")).to_have_class("it-state it-state-paused")
    expect(visitor.page.locator("#queue .it-state-running")).to_have_count(1)


def test_the_list_lives_after_a_quick_look_elsewhere(visit, queue, studio):
    """What is changed elsewhere appears, however fast somebody went through the tabs."""
    visitor = visit()
    person = Person(visitor)
    for tab in ("queue", "gallery", "create", "models", "queue"):
        person.tab(tab)
    expect(state(visitor, "three")).to_have_class("it-state it-state-queued")
    visitor.page.wait_for_timeout(3000)  # late answers of the tabs that were left
    with studio.desk() as desk:
        desk.pause(queue[3])
    expect(state(visitor, "three")).to_have_class("it-state it-state-paused")


def test_no_press_is_lost(visit, queue):
    """Presses in quick succession all count, and so does one whose button is drawn anew before it is released."""
    visitor = visit()
    Person(visitor).tab("queue")
    expect(button(visitor, "pause", queue[3])).to_be_visible()
    buttons = [f'#queue [data-act="pause"][data-job="{video}"]' for video in queue[1:]]
    visitor.page.evaluate("names => names.forEach(name => document.querySelector(name).click())", buttons)
    for title in ("one", "two", "three"):
        expect(state(visitor, title)).to_have_class("it-state it-state-paused")

    expect(button(visitor, "pause", queue[0])).to_be_visible()
    old = button(visitor, "pause", queue[0]).element_handle()
    button(visitor, "pause", queue[0]).hover()
    visitor.page.mouse.down()
    visitor.page.evaluate("old => old.closest('.it-acts').innerHTML += ''", old)
    assert not old.evaluate("old => old.isConnected")
    visitor.page.mouse.up()
    expect(state(visitor, "first")).to_have_class("it-state it-state-paused")


def button(visitor, act: str, video: str):
    return visitor.page.locator(f'#queue [data-act="{act}"][data-job="{video}"]')


def press(visitor, act: str, video: str) -> None:
    button(visitor, act, video).click()


def state(visitor, title: str):
    """The coloured word of the card with this title."""
    card = visitor.page.locator("#queue .it-job").filter(has=visitor.page.get_by_text(title, exact=True))
    return card.locator(".it-state")
