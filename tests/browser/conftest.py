"""A browser for all tests of this folder, a studio for each that asks, and visitors who are searched when they leave.

    ./run test tests/browser --screenshots shots

Everything is skipped, with one line, where there is no Chromium or no ``playwright``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from .studio import Studio

playwright = pytest.importorskip("playwright.sync_api", reason="the package playwright is not installed")
pytest.importorskip("gradio", reason="the extra web is not installed")

from .visitor import Crowd, Visitor, chromium_path, launch  # noqa: E402 - needs playwright

Visit = Callable[..., Visitor]


# The browser ends with this folder's tests: while it runs, its event loop stops others from starting one.
@pytest.fixture(scope="package")
def browser() -> Iterator[object]:
    path = chromium_path()
    if path is None:
        pytest.skip("no Chromium here (Debian: apt install chromium)")
    with playwright.sync_playwright() as driver:
        running = launch(driver, path)
        yield running
        running.close()


@pytest.fixture(scope="package")
def crowd(browser: object) -> Crowd:
    return Crowd(browser)  # type: ignore[arg-type]


@pytest.fixture(scope="package")
def pictures(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where screenshots go: ``--screenshots FOLDER``, or beside the other files of the tests."""
    chosen = request.config.getoption("--screenshots")
    folder = Path(chosen).resolve() if chosen else tmp_path_factory.mktemp("screenshots")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture(scope="package")
def studio(browser: object, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Studio]:
    """One server for all tests that can share it; asked for after the browser, so that none starts in vain."""
    running = Studio.start(tmp_path_factory.mktemp("studio"))
    yield running
    running.stop()


@pytest.fixture
def visit(crowd: Crowd, studio: Studio, pictures: Path) -> Iterator[Visit]:
    """Calls open pages. At the end none of them may have asked another host, or broken a script or the server."""
    visitors: list[Visitor] = []

    def arrive(path: str = "/", **options: object) -> Visitor:
        visitors.append(Visitor.arrive(crowd, studio.url + path, pictures, **options))  # type: ignore[arg-type]
        return visitors[-1]

    yield arrive
    for visitor in visitors:
        visitor.leave()
    assert [address for visitor in visitors for address in visitor.strangers] == []
    assert [fault for visitor in visitors for fault in visitor.faults] == []
