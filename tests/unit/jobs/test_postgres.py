"""What only PostgreSQL has: a server that goes away and comes back, and workers of several hosts."""

from __future__ import annotations

import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest

from bench import postgres
from infinite_talk.errors import StoreError
from infinite_talk.jobs import State
from infinite_talk.jobs.database import Database
from infinite_talk.jobs.leases import Leases
from infinite_talk.jobs.store import JobStore

from .conftest import order

pytestmark = pytest.mark.skipif(
    postgres.binaries() is None, reason="PostgreSQL is not installed (Debian: postgresql)"
)


def test_f2_a_database_that_is_restarted_in_mid_run_loses_nothing() -> None:
    """Who is connected is thrown out, hears ``store_unreachable``, and goes on with the lease that it had."""
    with postgres.running_server() as server:
        store = JobStore.open(server.url)
        leases = Leases(store.database)
        first, second = store.submit(order("a")).id, store.submit(order("b")).id
        lease = leases.claim("w", host="one")
        assert lease is not None and lease.job.id == first
        server.stop()
        with pytest.raises(StoreError) as caught:
            leases.claim("v", host="two")
        assert caught.value.code == "store_unreachable"
        server.start()
        assert store.get(first).state is State.RUNNING
        assert [job.id for job in store.queue()] == [second]
        leases.complete(lease, "video.mp4")
        assert store.get(first).state is State.COMPLETED
        following = leases.claim("w", host="one")
        assert following is not None and following.job.id == second
        store.close()


def test_workers_of_two_hosts_share_a_queue_and_no_job(postgres_server: str) -> None:
    """Each with connections of its own, as on machines of their own; every job is made by exactly one."""
    with postgres.database(postgres_server) as url:
        store, begin = JobStore.open(url), threading.Barrier(4)
        ids = [store.submit(order(str(number))).id for number in range(24)]

        def work(number: int) -> list[tuple[str, str]]:
            leases, made, host = Leases(Database.open(url, create=False)), [], f"host{number % 2}"
            while (lease := leases.claim(f"w{number}", host=host)) is not None:
                if not made:
                    begin.wait(60)  # until each of them has one
                made.append((lease.job.id, host))
                leases.complete(lease, "video.mp4")
            return made

        with ThreadPoolExecutor(4) as pool:
            made = [one for share in pool.map(work, range(4)) for one in share]
        assert Counter(job for job, _ in made) == Counter(ids)
        assert {host for _, host in made} == {"host0", "host1"}
        assert store.counts()[State.COMPLETED] == len(ids)
        store.close()


def test_f1_a_dead_host_is_relieved_by_another(postgres_server: str) -> None:
    """Its beat is watched with the other's own clock, which is put forward here."""
    with postgres.database(postgres_server) as url:
        store = JobStore.open(url)
        job = store.submit(order("a")).id
        now = 0.0
        dead = Leases(Database.open(url, create=False))
        other = Leases(Database.open(url, create=False), clock=lambda: now)
        assert dead.claim("w", host="one") is not None
        assert other.claim("v", host="two") is None  # from now on it is watched
        now = 3600.0
        taken = other.claim("v", host="two")
        assert taken is not None and taken.job.id == job and taken.job.attempts == 2
        store.close()
