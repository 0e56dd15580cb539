"""Charts: points where the values are, no more of them than are seen, and text that cannot break out."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infinite_talk.frontends.web.charts import Line, bars, chart, thinned
from infinite_talk.frontends.web.panels import Panels
from infinite_talk.frontends.web.quality import charts


def svg_of(html: str) -> ET.Element:
    return ET.fromstring(re.search(r"<svg.*</svg>", html, re.S)[0])


@given(st.lists(st.floats(0, 10), min_size=1, max_size=400), st.integers(1, 50))
def test_thinning_keeps_the_mean_of_each_part(values, most):
    found = thinned(values, most)
    size = -(-len(values) // most)
    assert len(found) <= most
    assert found[0] == pytest.approx(sum(values[:size]) / len(values[:size]))
    assert len(found) == -(-len(values) // size)


def test_a_line_goes_from_left_to_right_and_up_for_more():
    html = chart("t", "said", [Line("a", [0.0, 1.0, 2.0], "sound", 1.0)], top=2.0, unit="")
    points = svg_of(html).find("polyline").get("points").split()
    places = [tuple(map(float, point.split(","))) for point in points]
    assert [x for x, _ in places] == sorted(x for x, _ in places)
    assert places[0][1] > places[1][1] > places[2][1]


def test_seams_stand_where_windows_begin():
    html = chart(
        "t", "said", [Line("a", [0.0] * 100, "sound", 0.04)], top=1.0, unit="", seams=[1.0, 3.0, 9.0]
    )
    seams = [float(one.get("x1")) for one in svg_of(html).iter("line") if one.get("class") == "it-seam"]
    assert len(seams) == 2  # the third lies behind the end
    assert (seams[1] - 84) / (seams[0] - 84) == pytest.approx(3.0, abs=0.01)


def test_text_is_escaped_and_said_to_those_who_cannot_see():
    html = chart('<i>"', 'over "two" <b>', [Line("<u>", [1.0], "sound", 1.0)], top=0.0, unit="<s>")
    assert not re.search(r"<(i|b|u|s)>", html)
    assert svg_of(html).get("aria-label") == 'over "two" <b>'


def test_a_bar_for_each_window_with_its_value():
    root = svg_of(bars("t", "said", [1.0, 4.0], unit="s", style="pace"))
    heights = [float(bar.get("height")) for bar in root.iter("rect")]
    assert heights[1] == pytest.approx(4 * heights[0], abs=0.3)
    assert [bar.find("title").text for bar in root.iter("rect")] == ["1: 1.0 s", "2: 4.0 s"]


MEASURED = {
    "frames": 50,
    "loudness": [0.5] * 50,
    "opening": [0.01 * (n % 5) for n in range(50)],
    "expected": [0.02 * (n % 5) for n in range(50)],
    "r": 0.71,
    "lag": 2,
    "speech_r": 0.8,
    "speech_lag": -1,
    "agreement": 0.9,
    "believable": True,
    "seams": [17, 29],
    "drift": [0.0, 1.0, *[3.5] * 8],
    "windows": [
        {"start": 0, "seconds": 2.0, "memory": 2_000_000_000},
        {"start": 17, "seconds": 4.0, "memory": None},
    ],
    "shortcomings": [],
}
PANELS = Panels(None, None, None)


def test_a_measurement_in_words_and_pictures():
    html = charts(PANELS, "en", MEASURED)
    assert "correlation 0.71, lag +80 ms" in html
    assert "correlation 0.80, lag -40 ms" in html
    assert "At most 3.5, at the end 3.5; above 2.3 it is noticed" in html
    assert "Windows: 2, 3 s each on average" in html
    assert "At most 2.0 GB" in html
    assert html.count("it-seam") == 6  # two in each of three charts
    assert "嘴形跟得上语音" in charts(PANELS, "zh", MEASURED)


def test_doubtful_and_missing_things_are_said():
    doubtful = charts(PANELS, "en", {**MEASURED, "believable": False, "agreement": 0.1})
    assert "could not be read reliably" in doubtful
    assert "The mouth follows" not in doubtful
    silent = {
        **MEASURED,
        "r": None,
        "lag": None,
        "speech_r": None,
        "speech_lag": None,
        "expected": [],
        "windows": [],
    }
    assert "no sound to compare with" in charts(PANELS, "en", silent)
    assert "is not known" in charts(PANELS, "en", silent)
