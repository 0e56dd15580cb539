"""What else can be given: a voice that is spoken here, places of two people, a sampler; and what a model would do."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import expect

from . import media
from .person import SMALL, Person


def test_speaking_into_the_microphone(visit):
    """Chromium's own microphone, which beeps; what was heard is looked at as any recording."""
    visitor = visit()
    person = Person(visitor)
    voice = visitor.page.locator("#voice")
    voice.get_by_label("Record audio").click()
    voice.locator("button.record-button").click()
    expect(voice.locator("#timestamps, .timestamps, time").filter(has_text="0:01").first).to_be_visible()
    voice.locator("button.stop-button").click()
    person.sees("voice_ok")


def test_boxes_are_drawn_for_two_people(visit, studio, tmp_path):
    """Press, pull and let go on the picture; the numbers are pixels of it, and the order has them."""
    visitor = visit()
    person = Person(visitor)
    person.sample("picture")
    person.button("two_people").click()
    frame = visitor.page.locator(".it-frame.it-drawable")
    pull(visitor, frame, (0.1, 0.2), (0.4, 0.9))
    visitor.page.get_by_role("radio", name=person.say("draw_second"), exact=True).check()
    pull(visitor, frame, (0.9, 0.8), (0.6, 0.1))
    width, height = (int(frame.get_attribute(f"data-{side}")) for side in ("width", "height"))
    expected = [(0.1, 0.2, 0.4, 0.9), (0.6, 0.1, 0.9, 0.8)]
    for name, shares in zip(("box_first", "box_second"), expected, strict=True):
        numbers = visitor.page.locator(f"#{name} input, #{name} textarea").input_value()
        near = [share * side for share, side in zip(shares, (width, height) * 2, strict=True)]
        assert [float(number) for number in numbers.split(",")] == pytest.approx(near, abs=2)
    visitor.picture("create-two-people")
    for field in ("voice", "voice2"):
        person.give(field, media.voice(tmp_path, 0.4, f"{field}.wav"))
        expect(visitor.page.locator(f"#found_{field} .it-good")).to_be_visible()
    person.order(settings_title="two")
    visitor.page.locator("#status h3").filter(has_text="two").wait_for()
    job = studio.jobs()[0]
    boxes = [speaker.box for speaker in job.order.request.speakers]
    assert [box.left for box in boxes] == pytest.approx([0.1 * width, 0.6 * width], abs=2)
    visitor.page.request.delete(f"{studio.url}/v1/videos/{job.id}")


def pull(visitor, frame, start: tuple[float, float], end: tuple[float, float]) -> None:
    """With the mouse, from one place of the picture to another, both as shares of its sides."""
    frame.scroll_into_view_if_needed()
    area = frame.bounding_box()
    places = [(area["x"] + x * area["width"], area["y"] + y * area["height"]) for x, y in (start, end)]
    visitor.page.mouse.move(*places[0])
    visitor.page.mouse.down()
    visitor.page.mouse.move(*places[1], steps=3)
    visitor.page.mouse.up()


def test_sampler_and_scheduler_follow_each_other(visit):
    visitor = visit()
    person = Person(visitor)
    person.button("advanced").click()
    choose(visitor, "sampler", "dpmpp_sde")
    expect(visitor.page.locator("#scheduler input")).to_have_value("dpm++_sde")
    choose(visitor, "scheduler", "unipc/beta")
    expect(visitor.page.locator("#sampler input")).to_have_value("unipc")


def test_what_cannot_run_is_told_before_and_what_ran_is_told_after(visit, studio, tmp_path):
    """Kernels of another GPU, kept under a name that Create knows without a reload; its video says what made it."""
    visitor = visit()
    person = Person(visitor)
    person.tab("models")
    expect(visitor.page.locator("#models_status [role=status]")).to_be_visible()
    choose(visitor, "models_attention", "sageattn_3_fp4")
    choose(visitor, "models_quantization", "fp4_scaled_fast")
    person.button("models_check").click()
    warned = visitor.page.locator("#models_said .it-warn")
    for name in ("sageattn_3_fp4", "fp4_scaled_fast"):
        expect(warned.filter(has_text=f"{name} needs").first).to_be_visible()
    visitor.page.locator("#models_said summary").first.click()
    expect(visitor.page.locator("#models_said th", has_text="sdpa").first).to_be_visible()
    visitor.picture("models-what-would-run")
    person.field("models_name").fill("another GPU")
    person.button("models_save").click()
    person.see(person.say("models_saved", name="another GPU"))
    person.tab("create")
    person.sample("picture")
    person.give("voice", media.voice(tmp_path, 0.4))
    person.sees("voice_ok")
    person.button("advanced").click()
    choose(visitor, "profile", "another GPU")
    person.fill(settings_title="ran", **SMALL)
    person.button("make").click()
    visitor.page.locator("#status h3").filter(has_text="ran").wait_for()
    person.state("completed")
    told = visitor.page.locator("#status")
    expect(told).to_contain_text(re.compile("Runs on: cpu.*fp4_scaled, attention sdpa"))
    expect(told).to_contain_text("sageattn_3_fp4 needs")
    visitor.picture("create-what-ran")


def choose(visitor, name: str, value: str) -> None:
    """Take an entry of a list."""
    visitor.page.locator(f"#{name} input").first.click()
    visitor.page.get_by_role("option", name=value, exact=True).click()
