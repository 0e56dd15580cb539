"""Fields for what only the nodes do: plain fields ask for nothing, each filled one asks for one thing."""

from __future__ import annotations

import pytest

from infinite_talk import UsageError
from infinite_talk.frontends.web.node_fields import options_of, values_of
from infinite_talk.jobs.node_options import NodeOptions, Resize

PLAIN = {
    "fps": 25,
    "audio_frames": 0,
    "audio_scale": 1,
    "normalize_loudness": True,
    "separate_vocals": False,
    "colour_method": "",
    "resize": "",
    "interpolation": "lanczos",
    "condition": "always",
}


def test_plain_fields_ask_for_nothing():
    assert options_of(PLAIN) == NodeOptions()
    assert options_of(dict.fromkeys(PLAIN)) == NodeOptions()
    assert (
        options_of({**PLAIN, "interpolation": "nearest"}).wanted == ()
    )  # of a resizing that was not asked for


@pytest.mark.parametrize(
    ("name", "value", "wanted"),
    [
        ("fps", 12.5, {"fps": 12.5}),
        ("audio_frames", 40, {"audio_frames": 40}),
        ("audio_scale", 2, {"audio_scale": 2.0}),
        ("normalize_loudness", False, {"normalize_loudness": False}),
        ("separate_vocals", True, {"separate_vocals": True}),
        ("colour_method", "mkl", {"colour_method": "mkl"}),
        ("resize", "pad", {"resize": Resize(method="pad")}),
    ],
)
def test_each_field_asks_for_one_thing(name, value, wanted):
    found = options_of({**PLAIN, name: value})
    assert found == NodeOptions(**wanted)
    assert found.wanted == (name,)


@pytest.mark.parametrize(("name", "value"), [("fps", "fast"), ("colour_method", "own"), ("resize", "melt")])
def test_what_is_no_choice_is_refused(name, value):
    with pytest.raises(UsageError, match=name):
        options_of({**PLAIN, name: value})


def test_every_option_has_a_field():
    assert set(PLAIN) - {"interpolation", "condition"} == set(NodeOptions.__slots__)


@pytest.mark.parametrize(
    "options",
    [
        NodeOptions(),
        NodeOptions(fps=30.0, audio_frames=9, colour_method="hm", separate_vocals=True),
        NodeOptions(resize=Resize(method="pad", interpolation="nearest", condition="if bigger area")),
    ],
)
def test_options_of_a_job_come_back_into_the_fields(options):
    assert set(values_of(options)) == set(PLAIN)
    assert options_of(values_of(options)) == options
