"""Stores to test with: SQLite always, PostgreSQL where it is installed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from bench import postgres
from infinite_talk import Request
from infinite_talk.jobs import Order
from infinite_talk.jobs.leases import Leases
from infinite_talk.jobs.store import JobStore


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    if postgres.binaries() is None:
        pytest.skip("PostgreSQL is not installed (Debian: postgresql)")
    with postgres.server() as url:
        yield url


@pytest.fixture(params=["sqlite", "postgresql"])
def where(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """Where an empty store goes."""
    if request.param == "sqlite":
        yield str(tmp_path / "jobs.db")
    else:
        with postgres.database(request.getfixturevalue("postgres_server")) as url:
            yield url


@pytest.fixture
def store(where: str) -> Iterator[JobStore]:
    opened = JobStore.open(where)
    yield opened
    opened.close()


@pytest.fixture
def file_store(tmp_path: Path) -> Iterator[JobStore]:
    """SQLite only, where the database makes no difference."""
    opened = JobStore.open(tmp_path / "jobs.db")
    yield opened
    opened.close()


@pytest.fixture
def leases(store: JobStore) -> Leases:
    return Leases(store.database)


def order(prompt: str = "", **fields: object) -> Order:
    return Order(request=Request(image=Path("inputs/image"), prompt=prompt), **fields)  # type: ignore[arg-type]
