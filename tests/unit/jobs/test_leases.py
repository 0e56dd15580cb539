"""Workers take jobs one at a time, and lose them when they are dead and not before."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from infinite_talk import JobActionError, StoreError
from infinite_talk.jobs import DataFolder, JobProgress, State, Wish
from infinite_talk.jobs.leases import Leases, Patience
from infinite_talk.jobs.presence import Presence, only_server, this_host
from infinite_talk.jobs.store import JobStore

from .conftest import order


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_no_job_goes_to_two_workers(where: str):
    store = JobStore.open(where)
    jobs = [store.submit(order()).id for _ in range(12)]

    def work(number: int) -> list[str]:
        mine = JobStore.open(where)
        leases, taken = Leases(mine.database), []
        while lease := leases.claim(f"w{number}"):
            taken.append(lease.job.id)
        mine.close()
        return taken

    with ThreadPoolExecutor(4) as pool:
        taken = [job for one in pool.map(work, range(4)) for job in one]
    assert sorted(taken) == sorted(jobs) and store.counts()[State.RUNNING] == 12
    store.close()


def test_jobs_are_claimed_in_the_order_of_the_queue(store: JobStore, leases: Leases):
    low, first, second = (store.submit(order(), priority=p).id for p in (0, 1, 1))
    store.move(second, first)
    claimed = [leases.claim("w") for _ in range(4)]
    assert [lease and lease.job.id for lease in claimed] == [second, first, low, None]


def test_f9_a_lease_ends_by_beats_and_not_by_the_time_of_day(file_store: JobStore, monkeypatch):
    clock = Clock()
    leases = Leases(file_store.database, seconds=60, clock=clock)
    job = file_store.submit(order()).id
    lease = leases.claim("w", host="elsewhere")
    assert lease is not None
    for jump in (-86400, 86400, 0):
        now = time.time() + jump
        monkeypatch.setattr(time, "time", lambda now=now: now)
        assert leases.reap() == 0
    for _ in range(5):  # a minute is over, but the worker lives
        clock.now += 50
        leases.renew(lease)
        assert leases.reap() == 0
    clock.now += 59
    assert leases.reap() == 0
    clock.now += 1
    assert leases.reap() == 1
    assert file_store.get(job).state is State.QUEUED


def test_a_watcher_that_has_just_come_waits_its_own_time(file_store: JobStore):
    """What another process has seen of a beat is not known to it."""
    file_store.submit(order())
    assert Leases(file_store.database).claim("w", host="elsewhere")
    clock = Clock()
    late = Leases(file_store.database, seconds=60, clock=clock)
    assert late.reap() == 0
    clock.now += 60
    assert late.reap() == 1


def test_the_dead_of_this_machine_are_known_at_once(file_store: JobStore, tmp_path: Path):
    leases, presence = Leases(file_store.database), Presence(DataFolder(tmp_path))
    job = file_store.submit(order()).id
    with presence.stay("w"):
        assert leases.claim("w", host=this_host())
        assert presence.alive(this_host(), "w") is True and presence.alive("elsewhere", "w") is None
        assert leases.reap(presence.alive) == 0
    assert presence.alive(this_host(), "w") is False
    assert leases.claim("v", host=this_host(), alive=presence.alive).job.id == job


def test_f10_a_second_server_is_refused(tmp_path: Path):
    folder = DataFolder(tmp_path)
    with only_server(folder):
        with pytest.raises(StoreError, match="in use by another server") as caught, only_server(folder):
            pass
        assert caught.value.code == "store_in_use"
    with only_server(folder):
        pass


def test_lock_files_of_the_dead_are_tidied_and_not_those_of_the_living(tmp_path: Path):
    folder = DataFolder(tmp_path)
    presence = Presence(folder)
    with presence.stay("living"):
        (folder.workers / "dead.lock").touch()
        presence.tidy()
        assert [path.name for path in folder.workers.iterdir()] == ["living.lock"]
    assert not list(folder.workers.iterdir())


def test_who_lost_a_job_cannot_speak_of_it(store: JobStore, leases: Leases):
    store.submit(order())
    old = leases.claim("old")
    assert old is not None
    leases.crashed("old", "gone")
    new = leases.claim("new")
    assert new is not None
    calls = (
        lambda: leases.renew(old),
        lambda: leases.wish(old),
        lambda: leases.report(old, JobProgress(percent=50)),
        lambda: leases.complete(old, "video.mp4"),
        lambda: leases.fail(old, "x", "y"),
        lambda: leases.release(old),
    )
    for call in calls:
        with pytest.raises(JobActionError) as caught:
            call()
        assert caught.value.code == "lease_lost"
    assert leases.crashed("old", "again") is None
    assert leases.complete(new, "video.mp4").attempts == 2
    assert store.get(new.job.id).progress.percent == 100


def test_f13_a_job_that_kills_its_worker_is_given_up_and_the_queue_goes_on(store: JobStore, leases: Leases):
    poison, good = store.submit(order()).id, store.submit(order()).id
    for _ in range(3):
        lease = leases.claim("w")
        assert lease is not None and lease.job.id == poison  # it keeps its place
        leases.crashed("w", "It died.")
    job = store.get(poison)
    assert job.state is State.FAILED and job.error.code == "worker_crashed"
    assert job.error.message.startswith("It died. This was failure 3")
    assert leases.claim("w").job.id == good
    assert store.retry(poison).error is None
    leases.crashed("w", "It died.")
    leases.claim("w")
    leases.crashed("w", "It died.")
    assert store.get(good).state is State.QUEUED  # its own count, and the retried one has a new one


def test_a_job_that_goes_on_is_not_given_up(file_store: JobStore):
    leases = Leases(file_store.database, patience=Patience(crashes=2))
    job = file_store.submit(order()).id
    for window in range(1, 6):
        lease = leases.claim("w")
        leases.report(lease, JobProgress(window=window, windows=6, percent=10.0 * window))
        leases.crashed("w", "killed")
    assert file_store.get(job).state is State.QUEUED
    for _ in range(2):
        leases.claim("w")
        leases.crashed("w", "killed")
    assert file_store.get(job).state is State.FAILED


def test_reboots_are_not_the_job_s_fault_until_there_are_very_many(file_store: JobStore):
    leases = Leases(file_store.database, patience=Patience(crashes=1, interruptions=5))
    job = file_store.submit(order()).id
    for count in range(5):
        assert file_store.get(job).state is State.QUEUED, count
        leases.claim("w", host="h")
        leases.reap(lambda host, worker: False)
    assert file_store.get(job).error.code == "worker_lost"


@pytest.mark.parametrize(
    ("wish", "state"),
    [("cancel", State.CANCELLED), ("pause", State.PAUSED), ("delete", None), (None, State.QUEUED)],
)
@pytest.mark.parametrize("end", ["release", "crash", "reap"])
def test_a_wish_is_granted_however_the_worker_ends(file_store: JobStore, wish, state, end):
    leases = Leases(file_store.database)
    job = file_store.submit(order()).id
    lease = leases.claim("w", host="h")
    if wish:
        getattr(file_store, wish)(job)
        assert leases.renew(lease) == leases.wish(lease) == leases.report(lease, JobProgress()) == Wish(wish)
    if end == "release":
        leases.release(lease)
    elif end == "crash":
        leases.crashed("w", "died")
    else:
        leases.reap(lambda host, worker: False)
    found = {one.id: one.state for one in file_store.list()}
    assert found.get(job) == state


def test_a_wish_that_comes_too_late(file_store: JobStore):
    """The video is there: a cancel is no reason to throw it away, a delete is."""
    leases = Leases(file_store.database)
    for wish, expected in (("cancel", State.COMPLETED), ("pause", State.COMPLETED), ("delete", None)):
        job = file_store.submit(order()).id
        lease = leases.claim("w")
        getattr(file_store, wish)(job)
        done = leases.complete(lease, "video.mp4")
        assert (done.state if done else None) == expected
        if done:
            assert (done.wish, done.output, done.error) == (None, "video.mp4", None)


EVENTS = st.lists(
    st.one_of(
        st.tuples(st.just("report"), st.floats(0, 200), st.integers(0, 5)),
        st.tuples(st.sampled_from(["release", "crash", "retry", "pause", "cancel"])),
    ),
    max_size=20,
)


@given(events=EVENTS)
@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_f16_percent_never_falls_and_is_100_only_with_the_video(events, tmp_path_factory):
    store = JobStore.open(tmp_path_factory.mktemp("percent") / "jobs.db")
    leases = Leases(store.database, patience=Patience(crashes=3))
    job, last, lease = store.submit(order()).id, 0.0, None
    for kind, *values in events:
        lease = leases.claim("w") if store.get(job).state is not State.RUNNING else lease
        if kind == "report" and lease:
            leases.report(lease, JobProgress(percent=values[0], window=values[1], windows=5))
        elif kind == "release" and lease:
            leases.release(lease)
        elif kind == "crash" and lease:
            leases.crashed("w", "")
        elif kind in ("pause", "cancel") and not store.get(job).state.ended:
            getattr(store, kind)(job)
        elif kind == "retry" and store.get(job).state in (State.FAILED, State.CANCELLED):
            store.retry(job)
        if store.get(job).state is State.PAUSED:
            store.resume(job)
        percent = store.get(job).progress.percent
        assert last <= percent < 100
        last = percent
    if store.get(job).state is not State.RUNNING:
        if store.get(job).state.ended:
            store.retry(job)
        lease = leases.claim("w")
    leases.complete(lease, "video.mp4")
    assert store.get(job).progress.percent == 100
    store.close()
