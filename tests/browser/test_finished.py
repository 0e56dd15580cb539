"""What can be done with finished videos: play, take the settings over, measure, compare, delete."""

from __future__ import annotations

import time

import httpx
import pytest
from playwright.sync_api import expect

from . import media
from .person import FINISHING, Person


@pytest.fixture(scope="module")
def finished(studio, tmp_path_factory):
    """Two small videos, made over the HTTP interface; their ids."""
    voice = media.voice(tmp_path_factory.mktemp("voices"), 0.6)
    with httpx.Client(base_url=studio.url, timeout=60) as client:
        made = [_order(client, voice, seed) for seed in (7, 8)]
        until = time.monotonic() + FINISHING / 1000
        while time.monotonic() < until:
            states = [client.get(f"/v1/videos/{video}").json()["status"] for video in made]
            if set(states) <= {"completed", "failed"}:
                break
            time.sleep(0.3)
    assert states == ["completed", "completed"]
    return made


def _order(client: httpx.Client, voice, seed: int) -> str:
    files = {
        "input_reference": ("portrait.png", media.PORTRAIT.read_bytes(), "image/png"),
        "audio": ("voice.wav", voice.read_bytes(), "audio/wav"),
    }
    fields = {"prompt": f"number {seed}", "size": "64x64", "num_inference_steps": "1", "seed": str(seed)}
    answer = client.post("/v1/videos", data=fields, files=files)
    assert answer.status_code < 300, answer.text
    return answer.json()["id"]


def test_the_gallery_plays_and_gives_settings_back(visit, finished):
    visitor = visit()
    person = Person(visitor)
    person.tab("gallery")
    card = visitor.page.locator(".it-gallery .it-job").filter(has_text="number 7").first
    expect(card).to_be_visible()
    player = card.locator("video").element_handle()
    player.evaluate("v => { v.preload = 'auto'; v.load(); }")
    visitor.page.wait_for_function("v => v.readyState >= 2 && v.videoWidth > 0", arg=player)
    visitor.picture("gallery-finished")
    card.locator('[data-act="reuse"]').click()
    person.button("advanced").click()
    expect(visitor.page.locator("#seed input")).to_have_value("7")


def test_two_videos_are_compared(visit, finished):
    visitor = visit()
    person = Person(visitor)
    person.tab("compare")
    for name in ("compare_first", "compare_second"):
        visitor.page.locator(f"#{name} input").first.click()
        choices = visitor.page.get_by_role("option")
        choices.nth(0 if name == "compare_first" else 1).click()
    expect(visitor.page.locator("#compare_pair video")).to_have_count(2)
    visitor.picture("compare-two")


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
