"""While a video is made, the store hears of it, and the work hears of the store."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from infinite_talk import Cancelled, JobActionError, Phase, Progress, StoreError
from infinite_talk.jobs import JobProgress, Lease, Wish
from infinite_talk.jobs.heart import Heart, Pace, Watchdog
from infinite_talk.jobs.leases import Leases
from infinite_talk.jobs.store import JobStore

from .conftest import order

QUICK = Pace(listen=0.005, report=0.0, beat=0.01, lease=1000.0)


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Words:
    """Leases that answer as they are told, and keep what they hear."""

    def __init__(self, answer: Callable[[], Wish | None] = lambda: None) -> None:
        self.answer, self.reports, self.beats = answer, [], threading.Event()

    def report(self, lease: Lease, progress: JobProgress) -> Wish | None:
        self.reports.append(progress)
        return self.answer()

    def renew(self, lease: Lease) -> Wish | None:
        self.beats.set()
        return self.answer()

    def wish(self, lease: Lease) -> Wish | None:
        return self.answer()


def step(number: int, steps: int = 10_000, window: int = 0) -> Progress:
    return Progress(phase=Phase.SAMPLING, window=window, windows=2, step=number, steps=steps)


def steps_until_cancelled(heart: Heart) -> str:
    """Work until the listener refuses; some waiting stands for a step."""
    with heart:
        for number in range(5000):
            threading.Event().wait(0.002)
            try:
                heart.listen(step(number))
            except Cancelled as error:
                return error.message
    raise AssertionError("nobody stopped it")


@pytest.fixture
def lease(file_store: JobStore) -> Lease:
    file_store.submit(order())
    lease = Leases(file_store.database).claim("w")
    assert lease is not None
    return lease


def heart(leases, lease, *, stop=None, pace=QUICK, hung=lambda problem: None, **more) -> Heart:
    return Heart(leases, lease, stop=stop or threading.Event(), pace=pace, hung=hung, **more)


@pytest.mark.parametrize("verb", ["cancel", "pause", "delete"])
def test_a_wish_stops_the_work_at_a_step(file_store: JobStore, lease: Lease, verb: str):
    timer = threading.Timer(0.05, lambda: getattr(file_store, verb)(lease.job.id))
    timer.start()
    assert steps_until_cancelled(heart(Leases(file_store.database), lease)).endswith(f"{verb}.")
    timer.join()


def test_nobody_is_asked_by_the_engine_s_own_thread(lease: Lease):
    """A store that does not answer for long does not hold up a step."""
    gate = threading.Event()

    def slow() -> None:
        gate.wait(30)

    words = Words(slow)
    with heart(words, lease) as beating:
        for number in range(100):
            beating.listen(step(number))
        gate.set()
    assert words.reports[-1].step == 99  # the last news are told at the end


def test_signs_of_life_are_given_without_news(lease: Lease):
    words = Words()
    with heart(words, lease):
        assert words.beats.wait(20)


def test_a_lost_job_is_let_go(lease: Lease):
    def lost() -> None:
        raise JobActionError("It is not yours.", code="lease_lost")

    beating = heart(Words(lost), lease)
    assert "not yours" in steps_until_cancelled(beating)
    assert beating.lost


def test_f8_a_store_that_is_busy_is_no_reason_to_stop_until_the_lease_is_over(lease: Lease):
    clock, asked = Clock(), threading.Event()

    def busy() -> None:
        asked.set()
        raise StoreError("It is busy.", code="store_busy")

    with heart(Words(busy), lease, pace=Pace(listen=0.002, lease=60.0), clock=clock) as beating:
        assert asked.wait(20)
        beating.listen(step(1))
        clock.now = 59.0
        asked.clear()
        assert asked.wait(20)
        beating.listen(step(2))
        clock.now = 61.0
        with pytest.raises(Cancelled, match="does not answer"):
            for number in range(5000):
                threading.Event().wait(0.002)
                beating.listen(step(number))


def test_f18_a_worker_that_is_to_end_stops_at_the_next_step(lease: Lease):
    stop = threading.Event()
    with heart(Words(), lease, stop=stop) as beating:
        beating.listen(step(1))
        stop.set()
        with pytest.raises(Cancelled):
            beating.listen(step(2))


def test_f6_a_step_that_takes_ten_times_the_usual_and_five_minutes_hangs():
    clock = Clock()
    dog = Watchdog(Pace(), clock)
    for window in range(2):
        for number in range(5):
            dog.hear(step(number, 4, window))
            clock.now += 40.0
            assert dog.problem() is None
    dog.hear(step(1, 4, 2))
    clock.now += 400.0
    assert dog.limit == 400 and dog.problem() is None
    clock.now += 1.0
    assert dog.problem() == "A denoising step did not end in 401 s; the ones before took 40.0 s."


def test_f6_loading_and_the_first_steps_have_all_the_time():
    clock = Clock()
    dog = Watchdog(Pace(), clock)
    for event in (Progress(phase=Phase.LOADING), step(0, 4), step(1, 4)):
        dog.hear(event)
        clock.now += 10_000.0
        assert dog.problem() is None
    dog.hear(step(2, 4))
    clock.now += 1.0
    dog.hear(step(3, 4))
    dog.hear(Progress(phase=Phase.DECODING, window=0, windows=2, step=4, steps=4))
    clock.now += 10_000.0
    assert dog.problem() is None


def test_f6_the_worker_is_told_of_a_hung_step(lease: Lease):
    clock, problems = Clock(), []
    said = threading.Event()

    def hung(problem: str) -> None:
        problems.append(problem)
        said.set()

    with heart(Words(), lease, hung=hung, clock=clock) as beating:
        beating.listen(step(1))
        clock.now += 1.0
        beating.listen(step(2))
        clock.now += 301.0
        assert said.wait(20)
    assert "did not end in 301 s" in problems[0]
