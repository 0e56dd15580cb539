"""F1, F2: workers and servers are killed; no job is lost, doubled or changed. In full: ``bench/job_kills.py``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from bench import postgres
from bench.job_kills import WHAT, WINDOWS, Forked, Media, endure, media, undisturbed


@pytest.fixture(scope="module")
def material(portrait: Path, tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Media:
    """A queue of two videos, and what they are when nobody disturbs them."""
    whole = undisturbed(Forked, tmp_path_factory.mktemp("whole"), media(portrait, tiny_bundle), 2)
    assert len(set(whole.whole)) == 2 and all(len(found) == 64 for found in whole.whole), whole.whole
    return whole


@pytest.fixture
def url(where: str) -> Iterator[str | None]:
    if where == "sqlite":
        yield None
        return
    if postgres.binaries() is None:
        pytest.skip("PostgreSQL is not installed (Debian: postgresql)")
    with postgres.server() as server, postgres.database(server) as name:
        yield name


@pytest.mark.slow
@pytest.mark.parametrize(("where", "what"), [("sqlite", WHAT[0]), ("postgresql", WHAT[1])])
def test_f1_f2_kills_leave_no_trace(
    tmp_path: Path, where: str, url: str | None, what: str, material: Media
) -> None:
    """Each store with one kind of kill; all four with many kills are the measurement."""
    ordeal = endure(Forked, tmp_path / "data", url, what, material, kills=1, seed=3)
    assert (ordeal.boundaries, len(ordeal.moments)) == (WINDOWS, 1)
    assert (ordeal.lost, ordeal.doubled, ordeal.changed, ordeal.made_twice) == (0, 0, 0, 0)
    assert ordeal.in_order
