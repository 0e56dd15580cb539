"""One server for all tests of a module; each finds it empty."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest

from infinite_talk.jobs.tables import JOBS, PROFILES
from tests.unit.http.service import Service, service


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with service(tmp_path_factory.mktemp("data")) as running:
        yield running


@pytest.fixture
def served(shared: Service) -> Iterator[Service]:
    yield shared
    shared.client.cookies.clear()
    shared.sounds.written = 0
    with shared.desk.store.database.touch() as connection:
        connection.execute(JOBS.delete())
        connection.execute(PROFILES.delete())
    for folder in shared.desk.folder.jobs.iterdir():
        shutil.rmtree(folder)
