"""Progress lines."""

from __future__ import annotations

import io

import pytest

from infinite_talk import Phase, Progress
from infinite_talk.frontends.cli.show import Show, bar, clean, duration, line, size


def step(window: int, number: int) -> Progress:
    return Progress(
        phase=Phase.SAMPLING, window=window, windows=3, step=number, steps=4, seconds_per_step=1.5, eta=61.2
    )


def test_a_line_has_phase_window_step_pace_and_remaining_time():
    assert line(step(1, 2)) == "drawing, window 2/3, step 2/4, 1.50 s/step, 1:01 left"
    assert line(Progress(phase=Phase.LOADING)) == "loading the model"


@pytest.mark.parametrize(("window", "number", "full"), [(0, 0, 0), (1, 2, 12), (3, 0, 24)])
def test_the_bar_grows_with_all_steps_of_all_windows(window, number, full):
    plain = bar(step(window, number), width=24).plain
    assert plain.startswith("━" * 24 + "  drawing")
    green = [s for s in bar(step(window, number), width=24).spans if s.style == "green"]
    assert sum(s.end - s.start for s in green) == full


def test_plain_output_tells_each_window_once_and_then_every_ten_seconds():
    out = io.StringIO()
    with Show(stream=out, live=False) as show:
        for now, event in [
            (0, step(0, 0)),
            (1, step(0, 1)),
            (12, step(0, 2)),
            (13, step(0, 3)),
            (14, step(1, 0)),
        ]:
            show.progress(event, now)
    steps = [text.split(", ")[1:3] for text in out.getvalue().splitlines()]
    assert steps == [["window 1/3", "step 0/4"], ["window 1/3", "step 2/4"], ["window 2/3", "step 0/4"]]


def test_quiet_says_only_warnings():
    out = io.StringIO()
    with Show(quiet=True, stream=out) as show:
        show.progress(step(0, 0), 0)
        show.note("a note")
        show.warn("careful")
    assert out.getvalue() == "note: careful\n"


def test_no_markup_and_no_control_characters_from_outside():
    out = io.StringIO()
    with Show(stream=out, live=False) as show:
        show.note("[bold]me[/bold]\x1b[2J.png")
    assert out.getvalue() == "[bold]me[/bold]\\x1b[2J.png\n"
    assert clean("好 é\tx") == "好 é\tx"


def test_units():
    assert [duration(s) for s in (0.4, 59.6, 3723)] == ["0:00", "1:00", "1:02:03"]
    assert [size(b) for b in (3.4e8, 1.44e9)] == ["340 MB", "1.4 GB"]


def test_writing_is_told_once_at_the_end():
    out = io.StringIO()
    with Show(stream=out, live=False) as show:
        for window in (1, 2, 3):
            show.progress(Progress(phase=Phase.WRITING, window=window, windows=3, steps=4), window)
        show.progress(Progress(phase=Phase.DONE, window=3, windows=3), 4)
    assert out.getvalue() == "writing the file\n"
    assert bar(Progress(phase=Phase.WRITING, window=3, windows=3), width=6).plain.startswith(
        "━━━━━━  writing"
    )
