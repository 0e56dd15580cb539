"""Speed and time left of a run, from the moments at which its steps were done."""

from __future__ import annotations

import pytest

from infinite_talk.progress import Clock, Phase, Progress


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """What the clock on the wall shows, in seconds."""
    shown = [100.0]
    monkeypatch.setattr("infinite_talk.progress.perf_counter", lambda: shown[0])
    return shown


def test_the_time_left_follows_from_the_steps_and_not_from_reading_the_model(time: list[float]) -> None:
    told: list[Progress] = []
    clock = Clock(told.append, windows=3, steps=4, first=1)
    clock.phase(Phase.SAMPLING)
    assert told[-1].eta is None and told[-1].seconds_per_step is None
    time[0] += 60  # the model is read
    clock.ready()
    for step in range(4):
        time[0] += 2
        clock.step(step)
        assert told[-1].seconds_per_step == pytest.approx(2)
        assert told[-1].eta == pytest.approx(2 * (7 - step))
    clock.window_done()
    time[0] += 8  # it was away for a while, and is read again, as before every window
    clock.ready()
    time[0] += 2
    clock.step(0)
    assert told[-1].seconds_per_step == pytest.approx(18 / 5) and told[-1].eta == pytest.approx(3 * 18 / 5)
