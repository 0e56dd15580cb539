"""Worker processes are started again when they end, and end with whoever watches them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from infinite_talk.jobs import DataFolder, State
from infinite_talk.jobs.child import Task
from infinite_talk.jobs.heart import Pace
from infinite_talk.jobs.leases import Patience
from infinite_talk.jobs.store import JobStore
from infinite_talk.jobs.supervisor import Slot, Supervisor

from .conftest import order

PACE = Pace(idle=0.02)
CHILD = """
import os, signal, sys, time
from pathlib import Path
from infinite_talk.jobs import DataFolder
from infinite_talk.jobs.child import Task
from infinite_talk.jobs.database import Database
from infinite_talk.jobs.leases import Leases
from infinite_talk.jobs.presence import Presence, this_host
task = Task.from_line(sys.stdin.buffer.readline())
leases, presence = Leases(Database.open(task.store), patience=task.patience), Presence(DataFolder(Path(task.data)))
with presence.stay(task.name):
    while True:
        lease = leases.claim(task.name, host=this_host(), alive=presence.alive)
        if lease is None:
            time.sleep(0.02)
        elif lease.job.order.title == "poison":
            os.kill(os.getpid(), signal.SIGKILL)
        elif lease.job.order.title == "deaf":
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            leases.wish(lease) is None and time.sleep(60)
        elif lease.job.order.title == "gpu":
            leases.fail(lease, "gpu", os.environ["CUDA_VISIBLE_DEVICES"])
        else:
            leases.complete(lease, "video.mp4")
"""
"""A worker without an engine."""


def wait_for(what: Callable[[], object], seconds: float = 60.0) -> None:
    pause = threading.Event()
    for _ in range(round(seconds / 0.02)):
        if what():
            return
        pause.wait(0.02)
    raise AssertionError("it did not come to that")


def supervisor(store: JobStore, folder: Path, **more) -> Supervisor:
    command = [sys.executable, "-c", CHILD]
    return Supervisor(store, DataFolder(folder), pace=PACE, command=command, **more)


def test_f13_a_poison_job_takes_some_workers_and_the_queue_goes_on(file_store: JobStore, tmp_path: Path):
    poison, good = file_store.submit(order(title="poison")).id, file_store.submit(order(title="good")).id
    with supervisor(file_store, tmp_path, patience=Patience(crashes=2)) as watching:
        wait_for(lambda: file_store.get(good).state is State.COMPLETED)
        assert watching.starts == 3 and len(watching.workers) == 1
    error = file_store.get(poison).error
    assert error is not None and error.code == "worker_crashed"
    assert "killed, as the system does when memory runs out" in error.message
    assert file_store.get(poison).attempts == 2
    assert not watching.workers and not list((tmp_path / "workers").iterdir())


def test_f18_a_worker_that_does_not_end_in_time_is_ended_and_its_job_kept(
    file_store: JobStore, tmp_path: Path
):
    deaf = file_store.submit(order(title="deaf")).id
    with supervisor(file_store, tmp_path, grace=0.1, patience=Patience(crashes=1)):
        wait_for(lambda: file_store.get(deaf).state is State.RUNNING)
    assert file_store.get(deaf).state is State.QUEUED


def test_each_slot_has_its_gpu(file_store: JobStore, tmp_path: Path):
    job = file_store.submit(order(title="gpu")).id
    with supervisor(file_store, tmp_path, slots=(Slot(gpu="GPU-7"),)):
        wait_for(lambda: file_store.get(job).state.ended)
    assert file_store.get(job).error.message == "GPU-7"


def test_f2_the_real_worker_dies_with_its_parent(file_store: JobStore, tmp_path: Path):
    """Killed without a chance to say anything."""
    code = (
        "import sys, time\nfrom pathlib import Path\n"
        "from infinite_talk.jobs import DataFolder\nfrom infinite_talk.jobs.store import JobStore\n"
        "from infinite_talk.jobs.supervisor import Supervisor\n"
        "folder = DataFolder(Path(sys.argv[1]))\n"
        "with Supervisor(JobStore.open(folder.database), folder): time.sleep(600)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)])
    try:
        wait_for(lambda: list((tmp_path / "workers").glob("*.lock")))
        (child,) = psutil.Process(parent.pid).children()
    finally:
        parent.send_signal(signal.SIGKILL)
        parent.wait()
    wait_for(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE)


def test_the_real_worker_ends_when_it_is_asked_and_when_there_is_no_store(
    file_store: JobStore, tmp_path: Path
):
    for store, code in ((str(tmp_path / "jobs.db"), 0), (str(tmp_path / "none.db"), 72)):
        task = Task(name="w", data=str(tmp_path), store=store)
        child = subprocess.Popen(
            [sys.executable, "-m", "infinite_talk.jobs.child"], stdin=subprocess.PIPE, stderr=subprocess.PIPE
        )
        assert child.stdin is not None and child.stderr is not None
        child.stdin.write(task.to_line())
        child.stdin.flush()
        if code == 0:
            wait_for((tmp_path / "workers" / "w.lock").exists)
            child.send_signal(signal.SIGTERM)
        assert child.wait(60) == code
        said = child.stderr.read().decode()
        assert ("There is no store of jobs" in said) == (code == 72) and "Traceback" not in said
    assert not (tmp_path / "none.db").exists() and os.listdir(tmp_path / "workers") == []  # noqa: PTH208


def test_a_task_survives_its_line():
    task = Task(name="w", data="/d", store="postgresql://a:b@c/d", pace=PACE, patience=Patience(crashes=7))
    assert Task.from_line(task.to_line()) == task


@pytest.mark.parametrize("workers", [None, 3])
def test_slots_without_a_gpu(monkeypatch: pytest.MonkeyPatch, workers: int | None):
    from infinite_talk.jobs import supervisor as module

    def answer(gpus: str):
        return lambda *_, **__: subprocess.CompletedProcess([], 0, stdout=gpus)

    monkeypatch.setattr(module.subprocess, "run", answer("\n"))
    assert module.slots_here(workers) == (Slot(),) * (workers or 1)
    monkeypatch.setattr(module.subprocess, "run", answer("4,5\n"))
    assert module.slots_here(workers) == (Slot("4"), Slot("5"), Slot("4"))[: workers or 2]
