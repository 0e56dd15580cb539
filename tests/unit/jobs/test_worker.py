"""A worker with the smallest model: whatever comes in between, the video is that of a plain run."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest

from bench.sounds import write_wav
from infinite_talk import (
    EasyCache,
    Engine,
    InputError,
    NumericalError,
    OutOfMemoryError,
    Phase,
    Progress,
    Request,
    Settings,
    Speaker,
    UsageError,
)
from infinite_talk.jobs import Checked, Job, Retention, State
from infinite_talk.jobs.desk import Desk
from infinite_talk.jobs.heart import Pace
from infinite_talk.jobs.leases import Leases
from infinite_talk.jobs.node_options import NodeOptions
from infinite_talk.jobs.paths import rooted
from infinite_talk.jobs.tables import JOBS
from infinite_talk.jobs.worker import Broken, Worker

WINDOWS = 3
QUICK = {"steps": 2, "text_guidance": 1.0, "audio_guidance": 1.0}
"""One pass of the transformer a step."""
PACE = Pace(idle=0.01, listen=0.002, report=0.0)


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    noise = np.random.default_rng(6).normal(0, 3000, (17 + (WINDOWS - 1) * 12) * 640)
    return write_wav(tmp_path_factory.mktemp("recording") / "three.wav", noise, 16_000)


@pytest.fixture
def desk(tmp_path: Path, tiny_bundle: Path) -> Desk:
    opened = Desk.open(tmp_path / "data", check=lambda folder, request, settings: Checked(64, 64, 41, 1.64))
    opened.store.set_profile("default", Settings(model=tiny_bundle, threads=1))
    return opened


@pytest.fixture
def submit(desk: Desk, portrait: Path, recording: Path) -> Callable[..., Job]:
    def hand_in(**fields: object) -> Job:
        with desk.draft() as draft:
            draft.add("image", [portrait.read_bytes()])
            draft.add("audio", [recording.read_bytes()])
            speakers = (Speaker(audio=Path("inputs/audio")),)
            request = Request(image=Path("inputs/image"), speakers=speakers, **(QUICK | fields))  # type: ignore[arg-type]
            return desk.submit(draft, request)

    return hand_in


@pytest.fixture(scope="module")
def whole(
    tiny_bundle: Path, portrait: Path, recording: Path, tmp_path_factory: pytest.TempPathFactory
) -> str:
    """Hash of the video of a plain run."""
    folder = tmp_path_factory.mktemp("whole")
    (folder / "inputs").mkdir()
    (folder / "inputs" / "image").write_bytes(portrait.read_bytes())
    (folder / "inputs" / "audio").write_bytes(recording.read_bytes())
    request = Request(image=Path("inputs/image"), speakers=(Speaker(audio=Path("inputs/audio")),), **QUICK)  # type: ignore[arg-type]
    engine = Engine(Settings(model=tiny_bundle, threads=1))
    engine.write(rooted(request, folder), folder / "video.mp4")
    return sha256(folder / "video.mp4")


def worker(desk: Desk, name: str = "w", stop: threading.Event | None = None) -> Worker:
    return Worker(
        Leases(desk.store.database), desk.folder, name=name, stop=stop or threading.Event(), pace=PACE
    )


@pytest.fixture
def at_step(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[Progress]]:
    """Do something at a moment of the next run; the events of the engine are returned."""

    def arrange(window: int, step: int, action: Callable[[], object]) -> list[Progress]:
        heard: list[Progress] = []
        write = Engine.write

        def watched(self, request, output, *, progress, **more):
            def listen(event: Progress) -> None:
                heard.append(event)
                if (event.phase, event.window, event.step) == (Phase.SAMPLING, window, step):
                    action()
                    heart = progress.__self__
                    while not heart.heard:  # a step of a real model lasts longer than this
                        threading.Event().wait(0.002)
                progress(event)

            return write(self, request, output, progress=listen, **more)

        monkeypatch.setattr(Engine, "write", watched)
        return heard

    return arrange


def test_a_job_becomes_the_video_of_a_plain_run(desk: Desk, submit, whole: str):
    job = submit()
    worker(desk).run(until_empty=True)
    done = desk.get(job.id)
    assert done.state is State.COMPLETED and done.progress.percent == 100 and done.progress.window == WINDOWS
    video = desk.video(done)
    assert video is not None and sha256(video) == whole
    assert {path.name for path in video.parent.iterdir()} == {"inputs", "video.mp4", "video.mp4.json"}


@pytest.mark.parametrize(("verb", "state"), [("cancel", State.CANCELLED), ("pause", State.PAUSED)])
def test_cancel_and_pause_come_within_a_step_and_keep_the_windows(
    desk, submit, whole, at_step, monkeypatch, verb, state
):
    job = submit()

    heard = at_step(1, 1, lambda: getattr(desk, verb)(job.id))
    worker(desk).run(until_empty=True)
    assert desk.get(job.id).state is state
    assert [event.step for event in heard if event.window == 1 and event.phase is Phase.SAMPLING][-1] <= 2
    take = desk.folder.video(job.id).with_name("video.mp4.take")
    assert (take / "window-00000.json").exists()
    assert desk.get(job.id).progress.percent >= 2 + 97 / 3
    monkeypatch.undo()
    heard = at_step(-1, 0, lambda: None)
    desk.resume(job.id) if state is State.PAUSED else desk.retry(job.id)
    worker(desk).run(until_empty=True)
    assert desk.get(job.id).state is State.COMPLETED
    assert sha256(desk.folder.video(job.id)) == whole
    assert not [event for event in heard if event.phase is Phase.SAMPLING and event.window == 0]


def test_delete_of_a_running_job_stops_it_and_removes_its_files(desk, submit, at_step):
    job = submit()

    at_step(0, 1, lambda: desk.delete(job.id))
    worker(desk).run(until_empty=True)
    assert desk.list() == () and not list(desk.folder.jobs.iterdir())


def test_f18_a_worker_that_is_asked_to_end_puts_its_job_back(desk, submit, whole, at_step, monkeypatch):
    jobs, stop = [submit(), submit(seed=7)], threading.Event()
    at_step(1, 1, stop.set)
    worker(desk, stop=stop).run()
    monkeypatch.undo()
    assert [(job.id, job.state) for job in desk.store.queue()] == [(j.id, State.QUEUED) for j in jobs]
    worker(desk).run(until_empty=True)
    assert sha256(desk.folder.video(jobs[0].id)) == whole


def test_a_worker_prepares_once_when_nothing_waits(desk, submit):
    stop, seen, job = threading.Event(), [], submit()

    def prepare() -> None:
        seen.append(desk.get(job.id).state)
        threading.Timer(0.1, stop.set).start()

    Worker(Leases(desk.store.database), desk.folder, name="w", stop=stop, pace=PACE, prepare=prepare).run()
    assert seen == [State.COMPLETED]


def test_f18_a_signal_handler_may_ask_at_any_moment(desk):
    """One that interrupts ``Event.wait`` in its own thread stands still for ever, as both want its lock."""

    class Asked(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            raise AssertionError("the worker's thread waits for what a handler sets")

    stop = Asked()
    timer = threading.Timer(0.1, stop.set)
    timer.start()
    worker(desk, stop=stop).run()
    timer.join()


def test_f3_killed_between_the_video_and_telling_so(desk, submit, whole, monkeypatch):
    job = submit()
    monkeypatch.setattr(Leases, "complete", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        worker(desk).run(until_empty=True)
    monkeypatch.undo()
    assert desk.get(job.id).state is State.RUNNING
    written = desk.folder.video(job.id).stat().st_mtime_ns
    worker(desk, "v").run(until_empty=True)
    assert desk.get(job.id).state is State.COMPLETED and desk.get(job.id).attempts == 2
    assert (
        desk.folder.video(job.id).stat().st_mtime_ns == written and sha256(desk.folder.video(job.id)) == whole
    )


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (InputError("no", code="audio_empty"), "audio_empty"),
        (OutOfMemoryError("no"), "out_of_memory"),
        (MemoryError(), "out_of_memory"),
        (NumericalError("no"), "numerical_failure"),
    ],
)
def test_f5_what_cannot_be_made_is_failed_with_its_reason_and_the_next_is_made(
    desk, submit, monkeypatch, error, code
):
    bad, good = submit(seed=7), submit()

    def failing(self, request, output, **more):
        if request.seed == 7:
            raise error

    monkeypatch.setattr(Engine, "write", failing)
    worker(desk).run(until_empty=True)
    assert desk.get(bad.id).error.code == code and desk.get(bad.id).state is State.FAILED
    assert desk.get(good.id).state is State.COMPLETED


def test_a_fault_ends_the_process_and_the_third_one_the_job(desk, submit, monkeypatch):
    job = submit()

    def failing(self, *arguments, **more):
        raise RuntimeError("CUDA error:\n an illegal memory access")

    monkeypatch.setattr(Engine, "write", failing)
    for count in range(3):
        assert desk.get(job.id).state is State.QUEUED
        with pytest.raises(Broken):
            worker(desk, f"w{count}").run(until_empty=True)
    error = desk.get(job.id).error
    assert (
        error.code == "worker_crashed"
        and "(RuntimeError: CUDA error: an illegal memory access)" in error.message
    )


def test_f14_what_cannot_be_continued_begins_again_and_says_so(desk, submit, whole, at_step, monkeypatch):
    job = submit()

    at_step(1, 1, lambda: desk.pause(job.id))
    worker(desk).run(until_empty=True)
    (desk.folder.video(job.id).with_name("video.mp4.take") / "take.json").write_text(
        '{"schema": 99, "recipe": 1}'
    )
    before = desk.get(job.id).progress.percent
    monkeypatch.undo()
    desk.resume(job.id)
    worker(desk).run(until_empty=True)
    done = desk.get(job.id)
    assert sha256(desk.folder.video(job.id)) == whole and before < done.progress.percent == 100
    assert any("Beginning again" in note for note in done.progress.notes)


def test_the_model_stays_while_settings_are_equal(desk, submit, monkeypatch):
    made: list[Settings] = []
    begin = Engine.__init__

    def counted(self, settings=None, **more):
        made.append(settings)
        begin(self, settings, **more)

    monkeypatch.setattr(Engine, "__init__", counted)
    monkeypatch.setattr(Engine, "write", lambda *_, **__: None)
    for seed in (1, 2):
        submit(seed=seed)
    desk.store.set_profile("default", replace(desk.store.profiles()["default"], crf=30))
    submit(seed=3)
    worker(desk).run(until_empty=True)
    assert [settings.crf for settings in made] == [18, 30]
    assert desk.store.counts()[State.COMPLETED] == 3


def test_a_job_whose_folder_is_gone_says_so(desk, submit):
    job = submit()
    desk.folder.of(job.id).rename(desk.folder.jobs / "elsewhere")
    worker(desk).run(until_empty=True)
    assert desk.get(job.id).error.code == "job_folder_missing"


def test_retention_and_leftovers(desk, submit):
    jobs = [submit(seed=seed) for seed in range(3)]
    for job in jobs[:2]:
        desk.cancel(job.id)
    (desk.folder.jobs / "somebody-elses").mkdir()
    assert desk.sweep() == 0
    desk.retention = Retention(seconds=3600)
    assert desk.sweep() == 0
    desk.retention = Retention(bytes=1)  # the queued one stays, however large
    assert desk.sweep() == 2
    assert {path.name for path in desk.folder.jobs.iterdir()} == {jobs[2].id, "somebody-elses"}
    assert [job.id for job in desk.list()] == [jobs[2].id]


def test_an_order_with_options_is_made_by_the_nodes(desk: Desk, portrait: Path, recording: Path) -> None:
    """Half the pace: as many pictures as the speech has at it, a video of the same length, and it can be fetched."""
    with desk.draft() as draft:
        draft.add("image", [portrait.read_bytes()])
        draft.add("audio", [recording.read_bytes()])
        request = Request(
            image=Path("inputs/image"),
            speakers=(Speaker(audio=Path("inputs/audio")),),
            steps=1,
            text_guidance=1.0,
            audio_guidance=1.0,
        )
        job = desk.submit(draft, request, options=NodeOptions(fps=12.5))
    worker(desk).run(until_empty=True)
    done = desk.get(job.id)
    assert (done.state, done.progress.percent) == (State.COMPLETED, 100)
    with av.open(str(desk.video(done))) as film:
        assert float(film.streams.video[0].average_rate) == 12.5
        assert film.streams.video[0].frames == (17 + (WINDOWS - 1) * 12) // 2


def test_options_that_the_nodes_lack_are_refused_at_the_desk(
    desk: Desk, portrait: Path, recording: Path
) -> None:
    with desk.draft() as draft:
        draft.add("image", [portrait.read_bytes()])
        draft.add("audio", [recording.read_bytes()])
        speakers = (Speaker(audio=Path("inputs/audio")),)
        request = Request(image=Path("inputs/image"), speakers=speakers, step_cache=EasyCache())
        with pytest.raises(UsageError, match="audio_scale cannot be combined with step_cache"):
            desk.submit(draft, request, options=NodeOptions(audio_scale=2.0))
    assert not desk.list()


def test_an_order_that_cannot_be_read_stops_nobody_else(desk, submit, monkeypatch):
    bad, good = submit(), submit()
    with desk.store.database.touch() as connection:
        text = (
            JOBS.update().where(JOBS.c.id == bad.id).values(order_json='{"request": {"compat": "of 2031"}}')
        )
        connection.execute(text)
    assert [job.id for job in desk.list()] == [good.id, bad.id]
    assert "another version" in desk.get(bad.id).error.message
    monkeypatch.setattr(Engine, "write", lambda *_, **__: None)
    worker(desk).run(until_empty=True)
    assert desk.get(bad.id).state is State.FAILED and desk.get(bad.id).error.code == "store_damaged"
    assert desk.get(good.id).state is State.COMPLETED
    assert desk.delete(bad.id) is None
