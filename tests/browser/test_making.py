"""From the first visit to a finished video, and what can come between."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from . import media
from .person import Person


@pytest.fixture
def short(tmp_path):
    return media.voice(tmp_path, 0.4, "hello.wav")


@pytest.fixture
def long(tmp_path):
    return media.voice(tmp_path, 4.0, "story.wav")


def test_three_actions_make_a_video(visit, short):
    """Somebody who has never been here: a picture, a voice, the button."""
    visitor = visit()
    person = Person(visitor)
    visitor.picture("create-first-visit")
    person.button("sample_picture").click()
    person.give("voice", short)
    person.sees("voice_ok")
    visitor.picture("create-ready")
    person.button("make").click()
    person.state("completed")
    visitor.picture("create-finished")
    assert plays(person) == pytest.approx(0.4, abs=0.1)
    with visitor.page.expect_download() as download:
        visitor.page.get_by_role("link", name=person.say("download")).locator("visible=true").first.click()
    assert download.value.path().read_bytes()[4:8] == b"ftyp"
    assert download.value.suggested_filename.endswith(".mp4")


def test_a_running_video_is_found_again_and_can_be_watched(visit, long):
    """Reloaded in the middle: the page finds its job, shows the finished part, and later the video."""
    visitor = visit()
    person = Person(visitor)
    begin(person, long)
    person.state("running")
    visitor.page.reload()
    person = Person(visitor)
    person.state("running")
    expect(visitor.page.locator("video[data-preview]")).to_be_visible(timeout=60_000)
    visitor.page.wait_for_function("document.querySelector('video[data-preview]')?.readyState >= 2")
    visitor.picture("create-running")
    person.state("completed")
    assert plays(person) == pytest.approx(4.0, abs=0.1)


def test_cancel_stops_it_soon(visit):
    """The sample voice would take long; cancelled, it is over at once, and says so."""
    visitor = visit()
    person = Person(visitor)
    person.button("sample_picture").click()
    person.button("sample_voice").click()
    person.button("make").click()
    person.state("running")
    person.button("cancel").click()
    person.state("cancelled")
    visitor.picture("create-cancelled")
    person.sees("stopped_cancelled")
    assert person.button("make").is_enabled()


def test_two_people_at_once(visit, short):
    """Each sees their own video; both are finished, and the queue knows both."""
    first, second = Person(visit()), Person(visit(language="zh-CN"), "zh")
    for person, name in ((first, "Anna"), (second, "Boris")):
        begin(person, short, title=name)
    for person in (first, second):
        person.state("completed")
    assert first.page.locator("#status").inner_text().count("Boris") == 0
    assert second.page.locator("#status").inner_text().count("Anna") == 0
    sources = {
        person.page.locator("video.it-player").first.get_attribute("src") for person in (first, second)
    }
    assert len(sources) == 2


def begin(person: Person, voice, *, title: str = "") -> None:
    """Press the button for a video as small as can be."""
    person.button("sample_picture").click()
    person.give("voice", voice)
    person.sees("voice_ok")
    person.button("advanced").click()
    person.field("size").fill("64x64!")
    person.field("steps").fill("1")
    person.field("window_frames").fill("17")
    person.field("motion_frames").fill("5")
    if title:
        person.field("settings_title").fill(title)
    person.button("make").click()


def plays(person: Person) -> float:
    """Seconds of the finished video, once the browser has decoded a picture of it."""
    video = person.page.locator("#status video.it-player, #result video.it-player").first
    expect(video).to_be_visible()
    handle = video.element_handle()
    person.page.wait_for_function("v => v.readyState >= 2 && v.videoWidth > 0", arg=handle)
    return handle.evaluate("v => v.duration")
