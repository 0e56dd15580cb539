"""Estimates before the start, and the texts of the panels in both languages."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from infinite_talk import AudioLayout, Request, Settings, Speaker
from infinite_talk.frontends.web.panels import Panels
from infinite_talk.jobs.adviser import Forecasted
from infinite_talk.jobs.node_options import NodeOptions

REQUEST = Request(
    image=Path("me.png"), speakers=(Speaker(audio=Path("a.wav")), Speaker(audio=Path("bb.wav"))), size="480"
)


class Findings:
    """Two recordings of 2 and 3 seconds, and a picture that will be 640x480."""

    def picture(self, _path, _size):
        return SimpleNamespace(output_width=640, output_height=480)

    def sound(self, path, _start, _end):
        return SimpleNamespace(seconds=2.0 if path.name == "a.wav" else 3.0)


class Adviser:
    def forecast(self, request, settings, *, size, seconds):
        self.asked = (request.steps, settings.crf, size, seconds)
        return Forecasted("m", "card", 640, 480, 2, 4, 8, seconds, 60.0, 9e9, 0.0, "fits")


@pytest.mark.parametrize(("layout", "seconds"), [(AudioLayout.TOGETHER, 3.0), (AudioLayout.IN_TURN, 5.0)])
def test_an_estimate_is_of_the_size_and_length_that_were_found(layout, seconds):
    desk = SimpleNamespace(store=SimpleNamespace(profiles=lambda: {"fast": Settings(crf=1)}))
    adviser = Adviser()
    panels = Panels(desk, adviser, Settings())
    asked = replace(REQUEST, audio_layout=layout, steps=3)
    found = panels.estimate(asked, "fast", Findings(), NodeOptions())
    assert adviser.asked == (3, 1, "640x480!", seconds)
    assert (found.width, found.height, found.video_seconds, found.seconds, found.memory) == (
        640,
        480,
        seconds,
        60.0,
        9e9,
    )


@pytest.mark.parametrize(
    ("options", "pictures", "seconds"),
    [
        (NodeOptions(fps=50), 150, 3.0),  # twice as many pictures of the same length
        (NodeOptions(audio_frames=10), 10, 0.4),
        (NodeOptions(fps=10, audio_frames=10), 10, 1.0),
    ],
)
def test_an_estimate_counts_the_pictures_that_are_made(options, pictures, seconds):
    """The work is that of the pictures; how long they play is another matter."""
    adviser = Adviser()
    panels = Panels(SimpleNamespace(store=SimpleNamespace(profiles=dict)), adviser, Settings())
    found = panels.estimate(REQUEST, "", Findings(), options)
    assert adviser.asked[-1] == pytest.approx(pictures / 25)
    assert found.video_seconds == pytest.approx(seconds)
