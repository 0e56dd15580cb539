"""From the first visit to a finished video, and what can come between."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from . import media
from .person import Person


@pytest.fixture
def short(tmp_path):
    return media.voice(tmp_path, 0.4, "hello.wav")


def test_three_actions_make_a_video(visit, short):
    """Somebody who has never been here: a picture, a voice, the button. Their file has a name that they know."""
    visitor = visit()
    person = Person(visitor)
    visitor.picture("create-first-visit")
    person.sample("picture")
    person.give("voice", short)
    person.sees("voice_ok")
    visitor.picture("create-ready")
    person.button("make").click()
    person.state("completed")
    assert plays(person) == pytest.approx(0.4, abs=0.1)
    visitor.picture("create-finished")
    with visitor.page.expect_download() as download:
        visitor.page.get_by_role("link", name=person.say("download")).locator("visible=true").first.click()
    assert download.value.path().read_bytes()[4:8] == b"ftyp"
    assert download.value.suggested_filename.startswith("portrait - hello 20")
    assert download.value.suggested_filename.endswith(".mp4")


def test_a_running_video_is_found_again_and_can_be_watched(visit, tmp_path, studio):
    """Reloaded in the middle: the page finds its job, shows the finished part, and later the video.

    The job rests while the part is looked at, so that it cannot be finished before.
    """
    visitor = visit()
    person = Person(visitor)
    person.sample("picture")
    person.give("voice", media.voice(tmp_path, 1.2, "story.wav"))
    person.sees("voice_ok")
    person.order(steps="12")
    person.state("running")
    visitor.page.reload()
    person = Person(visitor)
    while not (job := studio.jobs()[0]).progress.window:
        assert not job.state.ended
        visitor.page.wait_for_timeout(50)
    with studio.desk() as desk:
        desk.pause(job.id)
    person.state("paused")
    expect(visitor.page.locator("video[data-preview]")).to_be_visible()
    visitor.page.wait_for_function("document.querySelector('video[data-preview]')?.readyState >= 2")
    visitor.picture("create-running")
    with studio.desk() as desk:
        desk.resume(job.id)
    person.state("completed")
    assert plays(person) == pytest.approx(1.2, abs=0.1)


def test_cancel_stops_it(visit, studio):
    """The sample voice in so many steps would take minutes; cancelled, it is over, and says so."""
    visitor = visit()
    person = Person(visitor)
    person.sample("picture")
    person.sample("voice")
    person.order(steps="400")
    person.state("running")
    person.button("cancel").click()
    person.state("cancelled")
    visitor.picture("create-cancelled")
    person.sees("stopped_cancelled")
    assert person.button("make").is_enabled()
    stopped = studio.jobs()[0]
    assert stopped.state == "cancelled" and stopped.progress.window < stopped.progress.windows


def test_two_people_at_once(visit, short, studio):
    """Each sees their own video; both are finished, and the queue knows both."""
    first, second = Person(visit()), Person(visit(language="zh-CN"), "zh")
    for person, name in ((first, "Anna"), (second, "Boris")):
        person.sample("picture")
        person.give("voice", short)
        person.sees("voice_ok")
        person.order(settings_title=name)
    for person in (first, second):
        person.state("completed")
    assert first.page.locator("#status").inner_text().count("Boris") == 0
    assert second.page.locator("#status").inner_text().count("Anna") == 0
    sources = {
        person.page.locator("video.it-player").first.get_attribute("src") for person in (first, second)
    }
    assert len(sources) == 2
    assert {job.order.title for job in studio.jobs()} >= {"Anna", "Boris"}


def plays(person: Person) -> float:
    """Seconds of the finished video, once the browser has decoded a picture of it."""
    video = person.page.locator("#status video.it-player, #result video.it-player").first
    expect(video).to_be_visible()
    handle = video.element_handle()
    person.page.wait_for_function("v => v.readyState >= 2 && v.videoWidth > 0", arg=handle)
    return handle.evaluate("v => v.duration")
