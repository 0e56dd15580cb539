"""The server dies while somebody watches, and comes back."""

from __future__ import annotations

from . import media
from .person import Person


def test_the_page_says_that_the_server_is_gone_and_finds_its_video_again(visit, studio, tmp_path):
    visitor = visit()
    person = Person(visitor)
    person.sample("picture")
    person.give("voice", media.voice(tmp_path, 0.8, "story.wav"))
    person.sees("voice_ok")
    person.order(steps="4", settings_title="survivor")
    person.state("running")
    studio.kill()
    person.sees("offline_note")
    visitor.picture("create-server-gone")
    studio.start_again()
    person.page.locator(".it-offline").first.wait_for(state="hidden")
    person.page.locator("#status h3").filter(has_text="survivor").wait_for()
    person.state("completed")
    visitor.faults.clear()  # scripts that heard nothing while nobody answered
