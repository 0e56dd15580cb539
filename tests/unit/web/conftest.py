"""A real desk on a temporary folder, whose media checks and workers are the test itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from infinite_talk import Request, Settings

pytest.importorskip("gradio")

from infinite_talk.frontends.web.making import Maker
from infinite_talk.frontends.web.options import PageOptions
from infinite_talk.jobs import Checked, Job, JobProgress, Order, State
from infinite_talk.jobs.checking import Checker
from infinite_talk.jobs.desk import Desk
from infinite_talk.jobs.facts import Crop, PictureFacts, RecipeFacts, SoundFacts
from infinite_talk.jobs.leases import Leases


class Looking(Checker):
    """Knows files by their names, and counts how often it is asked."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[str] = []

    def picture(self, path: Path, *, size: str | None = None, preview: Path | None = None) -> PictureFacts:
        self.asked.append(f"picture {size}")
        return PictureFacts(
            format="PNG",
            bytes=1,
            width=600,
            height=400,
            output_width=192,
            output_height=128,
            crop=Crop(0, 0, 600, 400),
            moving=path.suffix == ".mp4",
            seconds=2.0,
        )

    def sound(self, path: Path, *, start: float = 0.0, end: float | None = None) -> SoundFacts:
        self.asked.append(f"sound {start} {end}")
        loudness = {"silent": None, "faint": -55.0}.get(path.stem, -20.0)
        return SoundFacts(
            format="wav",
            bytes=1,
            seconds=(end or 8.0) - start,
            rate=16000,
            channels=1,
            loudness=loudness,
            peak=0.5,
            outline=(),
        )

    def recipe(self, path: Path) -> RecipeFacts:
        raise AssertionError("not asked in these tests")


@pytest.fixture
def maker(tmp_path: Path) -> Iterator[Maker]:
    def check(_folder: Path, _request: Request, _settings: Settings) -> Checked:
        return Checked(width=192, height=128, frames=50, seconds=2.0)

    desk = Desk.open(tmp_path / "data", check=check)
    (tmp_path / "uploads").mkdir()
    yield Maker(desk, PageOptions(uploads=tmp_path / "uploads", checker=Looking()))
    desk.close()


@pytest.fixture
def upload(maker: Maker) -> Callable[[str], str]:
    """Put a file among the uploads, as the browser would; returns the path that the browser then sends."""

    def put(name: str) -> str:
        path = maker.options.uploads / "abc" / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(name.encode())
        return str(path)

    return put


@pytest.fixture
def job(maker: Maker) -> Callable[..., Job]:
    """Make a job in a state."""

    def put(state: State = State.QUEUED, *, progress: JobProgress | None = None, **order: object) -> Job:
        desk, leases = maker.desk, Leases(maker.desk.store.database)
        # The newest goes first, so that it is the one that is taken.
        made = desk.store.submit(
            Order(request=Request(), **order), priority=0 if state is State.QUEUED else 9
        )  # type: ignore[arg-type]
        desk.folder.of(made.id).mkdir(parents=True)
        if state in (State.RUNNING, State.COMPLETED, State.FAILED):
            lease = leases.claim("worker")
            assert lease is not None and lease.job.id == made.id
            if progress is not None:
                leases.report(lease, progress)
            if state is State.COMPLETED:
                leases.complete(lease, "video.mp4")
            elif state is State.FAILED:
                leases.fail(lease, "out_of_memory", "It needs <9> GB.")
        elif state is State.PAUSED:
            desk.pause(made.id)
        elif state is State.CANCELLED:
            desk.cancel(made.id)
        return desk.get(made.id)

    return put
