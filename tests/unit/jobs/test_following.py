"""What the engine tells becomes a percentage that people can trust."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from infinite_talk import Phase, Progress
from infinite_talk.jobs import JobProgress
from infinite_talk.jobs.following import follow

EVENT = st.builds(
    Progress,
    phase=st.sampled_from(Phase),
    window=st.integers(0, 6),
    windows=st.sampled_from([0, 6]),
    step=st.integers(0, 4),
    steps=st.sampled_from([0, 4]),
    eta=st.none() | st.floats(0, 1e6),
    note=st.sampled_from(["", "a", "b"]),
)


@settings(max_examples=40, deadline=None)
@given(st.lists(EVENT, max_size=20))
def test_f16_percent_never_falls_and_never_says_done(events):
    progress = JobProgress()
    for event in events:
        after = follow(progress, event)
        assert progress.percent <= after.percent < 100
        progress = after
    assert len(set(progress.notes)) == len(progress.notes)


def run(windows: int, steps: int, first: int = 0) -> list[Progress]:
    """The events of a run, as the engine gives them."""
    events = [Progress(phase=Phase.READING), Progress(phase=Phase.ENCODING)]
    for window in range(first, windows):
        at = {"window": window, "windows": windows, "steps": steps}
        events += [Progress(phase=Phase.SAMPLING, step=step, eta=1.0, **at) for step in range(steps + 1)]
        events.append(Progress(phase=Phase.DECODING, step=steps, **at))
        events.append(Progress(phase=Phase.WRITING, window=window + 1, windows=windows, steps=steps))
    return [*events, Progress(phase=Phase.WRITING, window=windows, windows=windows)]


def test_it_grows_evenly_with_the_windows():
    progress, ends = JobProgress(), []
    for event in run(4, 2):
        progress = follow(progress, event)
        if event.phase is Phase.WRITING:
            ends.append(progress.percent)
    assert ends == [2 + 97 * share for share in (0.25, 0.5, 0.75, 1, 1)]


def test_a_resumed_run_goes_on_where_it_was():
    progress = JobProgress()
    for event in run(4, 2)[:8]:
        progress = follow(progress, event)
    before = progress.percent
    for event in run(4, 2, first=1):
        progress = follow(progress, event)
        assert progress.percent >= before
        assert (progress.window, progress.windows) != (0, 4), "the finished window is not forgotten"
    assert progress.percent == 99
