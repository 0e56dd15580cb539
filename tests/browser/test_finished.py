"""What can be done with finished videos: play, take the settings over, measure, compare, delete."""

from __future__ import annotations

import httpx
import pytest
from playwright.sync_api import expect

from . import media, orders
from .person import FINISHING, Person


@pytest.fixture(scope="module")
def finished(studio, tmp_path_factory):
    """Two small videos, made over the HTTP interface; their ids."""
    voice = media.voice(tmp_path_factory.mktemp("voices"), 0.6)
    with httpx.Client(base_url=studio.url, timeout=60) as client:
        made = [
            orders.order(client, voice, f"number {seed}", seed=str(seed), **orders.SMALL) for seed in (7, 8)
        ]
        orders.until_finished(client, made)
        yield made
        orders.remove_all(client)


def test_the_gallery_plays_and_gives_settings_back(visit, finished):
    visitor = visit()
    person = Person(visitor)
    person.tab("gallery")
    card = visitor.page.locator(".it-gallery .it-job").filter(has_text="number 7").first
    expect(card).to_be_visible()
    visitor.picture("gallery-finished")
    player = card.locator("video").element_handle()
    player.evaluate("v => { v.preload = 'auto'; v.load(); }")
    visitor.page.wait_for_function("v => v.readyState >= 2 && v.videoWidth > 0", arg=player)
    card.locator('[data-act="reuse"]').click()
    person.button("advanced").click()
    expect(visitor.page.locator("#seed input")).to_have_value("7")


def test_a_video_that_is_dropped_gives_its_settings(visit, finished, studio, tmp_path):
    """Also one that is known nowhere else: they are in the file."""
    film = tmp_path / "from elsewhere.mp4"
    film.write_bytes(httpx.get(f"{studio.url}/v1/videos/{finished[1]}/content", timeout=60).content)
    visitor = visit()
    person = Person(visitor)
    person.tab("gallery")
    person.button("reuse").click()
    person.give("reuse_file", film)
    person.see(person.say("reuse_done", name=film.name))
    person.button("advanced").click()
    expect(visitor.page.locator("#seed input")).to_have_value("8")


def test_two_videos_are_compared(visit, finished):
    visitor = visit()
    person = Person(visitor)
    person.tab("compare")
    for name in ("compare_first", "compare_second"):
        visitor.page.locator(f"#{name} input").first.click()
        choices = visitor.page.get_by_role("option")
        choices.nth(0 if name == "compare_first" else 1).click()
    players = visitor.page.locator("#compare_pair video")
    expect(players).to_have_count(2)
    visitor.picture("compare-two")
    first, second = (players.nth(number).element_handle() for number in (0, 1))
    visitor.page.wait_for_function("([a, b]) => a.readyState > 0 && b.readyState > 0", arg=[first, second])
    first.evaluate("video => { video.currentTime = 0.4; }")  # what is done to one
    visitor.page.wait_for_function(
        "([a, b]) => a.currentTime === 0.4 && Math.abs(b.currentTime - 0.4) < 0.001", arg=[first, second]
    )
    visitor.page.locator('[data-play="play"]').click()
    visitor.page.wait_for_function("([a, b]) => a.ended && b.ended", arg=[first, second])


def test_a_video_is_measured(visit, finished):
    visitor = visit()
    person = Person(visitor)
    person.tab("quality")
    visitor.page.locator("#quality_job input").first.click()
    visitor.page.get_by_role("option").first.click()
    person.button("quality_measure").click()
    expect(visitor.page.locator("#quality_said .it-empty")).to_have_count(0, timeout=FINISHING)
    expect(visitor.page.locator("#quality_said [role=alert]")).to_have_count(0)
    visitor.picture("quality-measured")


def test_deleting_asks_first(visit, finished, studio):
    """Who says no keeps the video; who says yes has deleted it and its files."""
    visitor = visit()
    person = Person(visitor)
    person.tab("gallery")
    card = visitor.page.locator(".it-gallery .it-job").filter(has_text="number 8")
    said = []
    visitor.page.once("dialog", lambda dialog: (said.append(dialog.message), dialog.dismiss()))
    card.locator('[data-act="delete"]').click()
    assert said == [person.say("confirm_delete")] and len(studio.jobs()) >= 2
    expect(card).to_have_count(1)
    visitor.page.once("dialog", lambda dialog: dialog.accept())
    card.locator('[data-act="delete"]').click()
    expect(card).to_have_count(0)
    assert finished[1] not in {job.id for job in studio.jobs()}
    assert not (studio.data / "jobs" / finished[1]).exists()
