"""The store keeps what it has accepted, in the order that was asked for, on either database."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from infinite_talk import (
    Box,
    InfiniteTalkError,
    JobActionError,
    LimitError,
    LoRA,
    MagCache,
    Request,
    Settings,
    Speaker,
    StoreError,
    UsageError,
)
from infinite_talk.jobs import JobProgress, Order, State, StoredFile, Wish, rows
from infinite_talk.jobs.leases import Leases
from infinite_talk.jobs.store import JobStore

from .conftest import order

FULL = Order(
    request=Request(
        video=Path("inputs/video"),
        speakers=(
            Speaker(audio=Path("inputs/audio"), box=Box(1, 2, 3, 4)),
            Speaker(audio=None, mask=Path("inputs/mask")),
        ),
        prompt="Zoë says 你好 \x00 \u202e<b>",
        step_cache=MagCache(threshold=0.1, ratios=(1.0, 0.9)),
    ),
    settings=Settings(loras=(LoRA(path=Path("a.safetensors"), strength=(1.0, 0.5), merge=False),)),
    profile="mine",
    title="title",
    files=(StoredFile("inputs/audio", "ab" * 32, 7, "../x.wav"),),
    extra={"size": "480x832", "nested": [1, None, {"a": 1.5}]},
)


def code_of(call, *arguments, **keywords) -> str:
    with pytest.raises(InfiniteTalkError) as caught:
        call(*arguments, **keywords)
    return caught.value.code


def test_an_order_comes_back_as_it_was_after_a_restart(where: str):
    store = JobStore.open(where)
    ours = replace(FULL, request=replace(FULL.request, prompt=FULL.request.prompt.replace("\x00", "")))
    job = store.submit(ours, priority=3, key="k")
    store.close()
    again = JobStore.open(where, create=False).get(job.id)
    assert again == job
    assert again.order == ours and again.state is State.QUEUED and again.position == 1 and again.priority == 3


def test_a_nul_in_a_text_is_kept_or_refused_but_no_fault(store: JobStore):
    assert store.get(store.submit(FULL).id).order.request.prompt == FULL.request.prompt


ACTIONS = st.lists(
    st.one_of(
        st.tuples(st.just("submit"), st.integers(-1, 1)),
        st.tuples(st.sampled_from(["cancel", "pause", "resume", "delete", "last"]), st.integers(0, 9)),
        st.tuples(st.just("move"), st.integers(0, 9), st.integers(0, 9)),
    ),
    max_size=25,
)


@given(actions=ACTIONS)
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_queue_is_that_of_a_plain_list(actions, tmp_path_factory, monkeypatch):
    """The twin is a list of [id, priority, state], kept in running order by hand."""
    monkeypatch.setattr(rows, "GAP", 4)  # the ranks have to be spread anew often
    store = JobStore.open(tmp_path_factory.mktemp("twin") / "jobs.db")
    twin: list[list] = []

    def behind(priority: int) -> int:
        return next((at for at, one in enumerate(twin) if one[1] < priority), len(twin))

    for name, *numbers in actions:
        if name == "submit":
            job = store.submit(order(), priority=numbers[0])
            twin.insert(behind(numbers[0]), [job.id, numbers[0], State.QUEUED])
            continue
        if not twin:
            continue
        one = twin[numbers[0] % len(twin)]
        if name == "last":
            store.move(one[0], None)
            twin.remove(one)
            twin.insert(behind(one[1]), one)
        elif name == "move":
            other = twin[numbers[1] % len(twin)]
            store.move(one[0], other[0])
            if one is not other:
                twin.remove(one)
                one[1] = other[1]
                twin.insert(twin.index(other), one)
        elif name == "pause":
            store.pause(one[0])
            one[2] = State.PAUSED
        elif name == "resume":
            store.resume(one[0])
            one[2] = State.QUEUED
        else:
            getattr(store, name)(one[0])
            twin.remove(one)
    waiting = [one[0] for one in twin if one[2] is State.QUEUED]
    assert [job.id for job in store.queue()] == waiting
    assert [job.position for job in store.queue()] == list(range(1, len(waiting) + 1))
    store.close()


def test_a_move_needs_no_gap(store: JobStore, monkeypatch):
    monkeypatch.setattr(rows, "GAP", 2)
    jobs = [store.submit(order()).id for _ in range(4)]
    for job in jobs[2:]:
        store.move(job, jobs[1])
    store.move(jobs[0], jobs[1])
    assert [job.id for job in store.queue()] == [jobs[2], jobs[3], jobs[0], jobs[1]]
    assert store.submit(order()).position == 5


VERBS = ("cancel", "pause", "resume", "retry", "delete", "move", "set_priority")
WRONG = "job_state"
TABLE = {
    # state: cancel, pause, resume, retry, delete, move, set_priority
    State.QUEUED: ("cancelled", "paused", "queued", WRONG, None, "queued", "queued"),
    State.PAUSED: ("cancelled", "paused", "queued", WRONG, None, "paused", "paused"),
    State.RUNNING: ("running cancel", "running pause", "running", WRONG, "running delete", WRONG, WRONG),
    State.COMPLETED: ("completed", WRONG, WRONG, WRONG, None, WRONG, WRONG),
    State.FAILED: ("failed", WRONG, WRONG, "queued", None, WRONG, WRONG),
    State.CANCELLED: ("cancelled", WRONG, WRONG, "queued", None, WRONG, WRONG),
}


def bring_to(store: JobStore, state: State) -> str:
    job = store.submit(order()).id
    leases = Leases(store.database)
    if state in (State.RUNNING, State.COMPLETED, State.FAILED):
        lease = leases.claim("w")
        assert lease is not None and lease.job.id == job
        if state is State.COMPLETED:
            leases.complete(lease, "video.mp4")
        if state is State.FAILED:
            leases.fail(lease, "no_space", "full")
    if state is State.PAUSED:
        store.pause(job)
    if state is State.CANCELLED:
        store.cancel(job)
    assert store.get(job).state is state
    return job


@pytest.mark.parametrize(
    ("state", "verb", "expected"),
    [(state, verb, cell) for state, cells in TABLE.items() for verb, cell in zip(VERBS, cells, strict=True)],
)
def test_what_may_be_done_in_which_state(file_store: JobStore, state: State, verb: str, expected: str | None):
    job = bring_to(file_store, state)
    before, ask = file_store.get(job), getattr(file_store, verb)
    arguments = {"move": (None,), "set_priority": (5,)}.get(verb, ())
    if expected == WRONG:
        assert code_of(ask, job, *arguments) == WRONG
        assert file_store.get(job) == before
        return
    left = ask(job, *arguments)
    if expected is None:
        assert left is None and code_of(file_store.get, job) == "job_not_found"
        return
    assert f"{left.state} {left.wish or ''}".strip() == expected
    if verb != "retry":  # asking twice changes nothing more
        again = ask(job, *arguments)
        assert (again.state, again.wish) == (left.state, left.wish)


def test_the_stronger_wish_stays(file_store: JobStore):
    job = bring_to(file_store, State.RUNNING)
    assert file_store.pause(job).wish is Wish.PAUSE
    assert file_store.cancel(job).wish is Wish.CANCEL
    assert file_store.pause(job).wish is Wish.CANCEL
    assert file_store.delete(job).wish is Wish.DELETE
    assert file_store.cancel(job).wish is Wish.DELETE


def test_the_wish_to_pause_can_be_taken_back(file_store: JobStore):
    job = bring_to(file_store, State.RUNNING)
    file_store.pause(job)
    assert file_store.resume(job).wish is None


def test_t10_one_key_twenty_times_at_once_is_one_job(where: str):
    JobStore.open(where).close()

    def once(number: int) -> str:
        store = JobStore.open(where)
        job = store.submit(order("same"), key="key", id=f"video_{number}")
        store.close()
        return job.id

    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(once, range(20)))) == 1
    store = JobStore.open(where)
    assert len(store.list()) == 1
    with pytest.raises(JobActionError, match="used for another order"):
        store.submit(order("other"), key="key")
    assert len({store.submit(order("same")).id for _ in range(3)}) == 3
    store.close()


def test_a_key_with_a_profile_is_the_same_order_when_the_profile_has_changed(file_store: JobStore):
    first = file_store.submit(order(profile="p", settings=Settings(crf=18)), key="k")
    assert file_store.submit(order(profile="p", settings=Settings(crf=20)), key="k") == first
    assert code_of(file_store.submit, order(settings=Settings(crf=20)), key="k") == "key_reused"


def test_t11_a_full_queue_refuses_and_goes_on(file_store: JobStore):
    jobs = [file_store.submit(order(), most=3).id for _ in range(3)]
    with pytest.raises(LimitError, match="3 jobs wait") as caught:
        file_store.submit(order(), most=3)
    assert caught.value.code == "queue_full"
    file_store.cancel(jobs[0])
    file_store.submit(order(), most=3)


def test_lists_go_on_where_they_stopped(file_store: JobStore):
    jobs = [file_store.submit(order()).id for _ in range(5)]
    pages = [file_store.list(limit=2), file_store.list(limit=2, after=jobs[3])]
    assert [[job.id for job in page] for page in pages] == [[jobs[4], jobs[3]], [jobs[2], jobs[1]]]
    assert [job.id for job in file_store.list(after=jobs[2], newest_first=False)] == jobs[3:]
    file_store.cancel(jobs[1])
    assert [job.id for job in file_store.list(states=[State.CANCELLED])] == [jobs[1]]
    assert file_store.counts()[State.QUEUED] == 4 and file_store.counts()[State.FAILED] == 0


def test_the_counter_tells_of_every_change(file_store: JobStore):
    seen = file_store.counter()
    job = file_store.submit(order())
    assert file_store.wait_for_change(seen, 10) == job.changed > seen
    assert file_store.cancel(job.id).changed > job.changed
    assert file_store.wait_for_change(file_store.counter(), 0.0) == file_store.counter()


def test_profiles_are_kept(store: JobStore):
    store.set_profile("fast", Settings(model=Path("/m"), crf=30))
    store.set_profile("gone", Settings())
    store.set_profile("gone", None)
    assert store.profiles() == {"fast": Settings(model=Path("/m"), crf=30)}


# F8: a store that cannot be used -------------------------------------------------------------------------------


def test_f8_a_deleted_store_is_noticed_and_not_made_again(tmp_path: Path):
    store = JobStore.open(tmp_path / "jobs.db")
    store.submit(order())
    for file in tmp_path.glob("jobs.db*"):
        file.unlink()
    assert code_of(store.list) == "store_gone"
    assert code_of(store.submit, order()) == "store_gone"
    assert not list(tmp_path.iterdir())


def test_f8_another_file_in_its_place_is_noticed(tmp_path: Path):
    store = JobStore.open(tmp_path / "jobs.db")
    JobStore.open(tmp_path / "other.db").close()
    (tmp_path / "other.db").replace(tmp_path / "jobs.db")
    assert code_of(store.submit, order()) == "store_gone"


def test_f8_the_store_of_a_newer_program_is_refused_and_left_alone(where: str):
    store = JobStore.open(where)
    store.submit(order())
    with store.database.touch() as connection:
        connection.exec_driver_sql("UPDATE infinite_talk_meta SET value = 99 WHERE name = 'schema'")
    assert code_of(JobStore.open, where) == "store_newer"
    assert len(store.list()) == 1
    store.close()


def test_f8_a_locked_store_is_waited_for_and_then_busy(tmp_path: Path):
    from infinite_talk.jobs.database import Database

    store = JobStore(Database.open(tmp_path / "jobs.db", patience=0.05))
    other = sqlite3.connect(tmp_path / "jobs.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    assert code_of(store.submit, order()) == "store_busy"
    assert store.list() == ()  # reading goes on
    other.execute("ROLLBACK")
    store.submit(order())


def test_f8_what_is_no_store_is_left_alone(tmp_path: Path):
    (tmp_path / "text.db").write_text("hello " * 1000)
    assert code_of(JobStore.open, tmp_path / "text.db") == "store_damaged"
    assert (tmp_path / "text.db").read_text() == "hello " * 1000
    assert code_of(JobStore.open, tmp_path / "none.db", create=False) == "store_missing"
    assert not (tmp_path / "none.db").exists()
    assert code_of(JobStore.open, "postgresql://nobody@127.0.0.1:1/none") == "store_unreachable"
    for url in ("mysql://x", "nonsense://", "sqlite://"):
        with pytest.raises(UsageError, match="expected postgresql://"):
            JobStore.open(url)


def test_a_password_is_not_in_a_message():
    with pytest.raises(StoreError) as caught:
        JobStore.open("postgresql://nobody:secret@127.0.0.1:1/none")
    assert "secret" not in caught.value.message


def test_a_damaged_file_is_found_by_the_check(tmp_path: Path):
    store = JobStore.open(tmp_path / "jobs.db")
    for _ in range(40):
        store.submit(order("x" * 2000))
    assert store.database.problem() is None
    store.close()
    data = bytearray((tmp_path / "jobs.db").read_bytes())
    data[20 * 4096 : 24 * 4096] = os.urandom(4 * 4096)
    (tmp_path / "jobs.db").write_bytes(data)
    try:
        problem = JobStore.open(tmp_path / "jobs.db").database.problem()
    except StoreError as error:
        problem = error.code
    assert problem


def test_f4_a_full_disk_refuses_the_job_and_harms_nothing(tmp_path: Path):
    code = (
        "import resource, signal, sys\n"
        "from tests.unit.jobs.conftest import order\n"
        "from infinite_talk.jobs.store import JobStore\n"
        "from infinite_talk import NoSpaceError\n"
        "store = JobStore.open(sys.argv[1])\n"
        "store.submit(order('kept'))\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))\n"
        "try:\n"
        "    for _ in range(100): store.submit(order('x' * 9000))\n"
        "except NoSpaceError as error: print(error.code)\n"
    )
    path = tmp_path / "jobs.db"
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=False
    )
    assert done.stdout.strip() == "no_space", done.stderr
    store = JobStore.open(path)
    assert store.database.problem() is None
    assert store.list(newest_first=False)[0].order.request.prompt == "kept"
    store.submit(order())


def test_reports_do_not_depend_on_the_driver_s_words(store: JobStore):
    """Enumerations, numbers and texts come back from both databases as they went in."""
    leases = Leases(store.database)
    job = store.submit(order())
    lease = leases.claim("w", host="h")
    assert lease is not None
    leases.report(lease, JobProgress(window=1, windows=3, percent=12.5, notes=("ß",)))
    seen = store.get(job.id)
    assert (seen.progress.percent, seen.progress.notes, seen.worker) == (12.5, ("ß",), "w")
