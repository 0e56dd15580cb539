"""From fields to a request and back."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from infinite_talk import AudioLayout, Box, EasyCache, Request, Speaker, UsageError
from infinite_talk.frontends.web.form import Form, FormError, fields_of, parse_box, request_of

FILLED = Form(picture=Path("me.png"), voice=Path("hello.wav"))


def test_untouched_fields_leave_everything_open():
    expected = Request(image=Path("me.png"), speakers=(Speaker(audio=Path("hello.wav")),))
    assert request_of(FILLED, film=False) == expected


def test_a_film_is_dubbed():
    request = request_of(replace(FILLED, scene_cuts=True), film=True)
    assert request.video == Path("me.png") and request.image is None and request.scene_cuts


def test_scene_cuts_of_a_picture_mean_nothing():
    assert not request_of(replace(FILLED, scene_cuts=True), film=False).scene_cuts


@pytest.mark.parametrize(
    ("form", "code"),
    [
        (Form(), "missing_picture"),
        (replace(FILLED, voice=None), "missing_voice"),
        (replace(FILLED, box_second="1,2,3,4"), "box_needs_second"),
        (replace(FILLED, mask_first=Path("m.png")), "box_needs_second"),
        (replace(FILLED, voice2=Path("b.wav"), box_first="1,2,3,4"), "one_box"),
        (replace(FILLED, box_first="left"), "bad_box"),
    ],
)
def test_what_is_missing_is_said(form, code):
    with pytest.raises(FormError) as error:
        request_of(form, film=False)
    assert error.value.code == code


def test_two_people_with_their_places():
    form = replace(
        FILLED, voice2=Path("b.wav"), layout="in_turn", box_first="1, 2, 30, 40", mask_second=Path("m.png")
    )
    request = request_of(form, film=False)
    assert request.audio_layout is AudioLayout.IN_TURN
    assert request.speakers == (
        Speaker(audio=Path("hello.wav"), box=Box(1, 2, 30, 40)),
        Speaker(audio=Path("b.wav"), mask=Path("m.png")),
    )


def test_a_negative_seed_draws_one():
    seeds = {request_of(replace(FILLED, seed=-1), film=False).seed for _ in range(4)}
    assert len(seeds) > 1 and all(0 <= seed < 2**32 for seed in seeds)


@pytest.mark.parametrize("steps", [2.5, float("nan"), float("inf")])
def test_half_a_step_is_refused(steps):
    with pytest.raises(UsageError, match="whole number"):
        request_of(replace(FILLED, steps=steps), film=False)


@pytest.mark.parametrize(
    "text", ["80,60,420,470", " 80 , 60,420 ,470 ", "80，60，420，470", "80、60、420、470"]
)
def test_boxes_as_people_write_them(text):
    assert parse_box(text) == Box(80, 60, 420, 470)


@given(st.text("0123456789.,-e ，、xn", max_size=30))
def test_a_box_is_four_numbers_or_a_complaint(text):
    try:
        box = parse_box(text)
    except FormError as error:
        assert error.code == "bad_box"
    else:
        assert box is None or isinstance(box, Box)


def test_a_request_comes_back_into_the_fields():
    """What a video was made with, put into the form again, is the same request."""
    form = replace(
        FILLED,
        voice2=Path("b.wav"),
        box_first="1,2,30,40",
        box_second="50,2,90,40",
        prompt="a | b",
        negative_prompt="blur",
        size="256x256",
        seed=7,
        steps=6,
        scheduler="unipc",
        shift=3.5,
        text_guidance=2.0,
        audio_guidance=1.5,
        trim_start=0.5,
        trim_end=3.0,
        window_frames=33,
        motion_frames=5,
        max_frames=60,
        colour_strength=0.5,
        step_cache="easycache",
        distilled="lightx2v-4step",
    )
    request = request_of(form, film=False)
    assert request.step_cache == EasyCache()
    back = fields_of(TypeAdapter(Request).dump_python(request, mode="json"), {"preset": "draft"})
    assert replace(Form(), **back) == replace(form, picture=None, voice=None, voice2=None, preset="draft")


def test_a_scheduler_that_is_none_of_the_list_is_left_out():
    assert fields_of({"scheduler": "heun"}, {})["scheduler"] == ""
    assert fields_of({"scheduler": "dpm++_sde/beta"}, {})["scheduler"] == "dpm++_sde/beta"


def test_fields_that_a_request_leaves_open_are_emptied():
    back = fields_of({"steps": None}, {})
    assert back["steps"] == 0 and back["prompt"] == "" and back["preset"] == "balanced"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
KEYS = st.sampled_from(
    [
        "audio_layout",
        "audio_start",
        "prompt",
        "seed",
        "steps",
        "step_cache",
        "distilled",
        "speakers",
        "scene_cuts",
    ]
)


@given(st.dictionaries(KEYS, JSON), st.dictionaries(st.just("preset"), JSON))
def test_a_strangers_recipe_gives_values_that_fields_can_hold(written, extra):
    """A recipe is in a file that anybody may have written."""
    back = fields_of(written, extra)
    for name, value in back.items():
        usual = getattr(Form(), name)
        assert isinstance(value, type(usual)) or (isinstance(usual, float) and isinstance(value, int)), name
