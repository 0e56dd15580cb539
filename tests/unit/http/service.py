"""A service without models: media are believed, and a stub makes videos window by window, when it is told to."""

from __future__ import annotations

import io
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import uvicorn
from fastapi import FastAPI
from PIL import Image

from infinite_talk import InputError, Phase, Request, Settings
from infinite_talk.frontends.http import HttpOptions, create_app
from infinite_talk.jobs import Checked, DataFolder, Job, JobProgress, Lease
from infinite_talk.jobs.desk import Desk
from infinite_talk.jobs.leases import Leases
from infinite_talk.jobs.limits import Limits
from infinite_talk.jobs.types import VIDEO, Retention
from infinite_talk.media.growing import write_preview_sound
from infinite_talk.media.take import Take
from tests.unit.media.fakes import tone
from tests.unit.media.worker import clip_of, plan_of, recipe_of

PLAN = plan_of(5, 4, 4)
KEY = "a key that nobody guesses"
AUDIO = b"RIFF....WAVE" + bytes(64)
BAD = b"no sound at all"


def picture() -> bytes:
    """A PNG of 8 x 8 pixels."""
    written = io.BytesIO()
    Image.new("RGB", (8, 8), (9, 99, 199)).save(written, "PNG")
    return written.getvalue()


PICTURE = picture()
FORM = {"input_reference": ("me.png", PICTURE, "image/png"), "audio": ("me.wav", AUDIO, "audio/wav")}


def check(folder: Path, request: Request, settings: Settings) -> Checked:
    """Believes all media, but for one recording."""
    if any(s.audio and (folder / s.audio).read_bytes() == BAD for s in request.speakers):
        raise InputError("inputs/audio is no audio file that can be read.", code="audio_unsupported")
    return Checked(32, 32, PLAN.length, PLAN.length / 25)


class Sounds:
    """Stands for the checking process: writes a tone."""

    def __init__(self) -> None:
        self.written = 0

    def soundtrack(self, folder: Path, request: Request, settings: Settings, frames: int, path: Path) -> None:
        self.written += 1
        write_preview_sound(path, tone(frames / 25), frames)


@dataclass
class Stub:
    """A worker in this process."""

    desk: Desk
    leases: Leases = field(init=False)

    def __post_init__(self) -> None:
        self.leases = Leases(self.desk.store.database)

    def take(self) -> Lease:
        lease = self.leases.claim("stub")
        assert lease is not None, "nothing waits"
        return lease

    def windows(self, lease: Lease, until: int) -> None:
        """Make windows until so many are finished, and tell of each."""
        with Take.open(self.desk.folder.video(lease.job.id), recipe_of(PLAN), PLAN) as take:
            while take.finished < until:
                take.add(clip_of(PLAN.windows[take.finished], take.motion()))
                self.tell(lease, take.finished)

    def tell(self, lease: Lease, window: int, **more: Any) -> None:
        count = len(PLAN.windows)
        percent = 99.0 * window / count
        told = {"phase": Phase.SAMPLING, "window": window, "windows": count, "seconds_per_step": 0.5}
        self.leases.report(lease, JobProgress(percent=percent, **{**told, **more}))

    def finish(self, lease: Lease) -> None:
        self.windows(lease, len(PLAN.windows))
        with Take.open(self.desk.folder.video(lease.job.id), recipe_of(PLAN), PLAN) as take:
            take.finish(tone(PLAN.length / 25))
        self.leases.complete(lease, VIDEO)

    def make(self) -> Job:
        """The next job, to its end."""
        lease = self.take()
        self.finish(lease)
        return self.desk.get(lease.job.id)


@dataclass
class Service:
    """Everything of one test."""

    desk: Desk
    app: FastAPI
    stub: Stub
    sounds: Sounds
    client: httpx.Client
    url: str

    def order(self, files: Mapping[str, Any] = FORM, **fields: Any) -> dict[str, Any]:
        answer = self.client.post("/v1/videos", files=dict(files), data=fields)
        assert answer.status_code == 200, answer.text
        told: dict[str, Any] = answer.json()
        return told

    def made(self, **fields: Any) -> dict[str, Any]:
        """An order, carried out."""
        told = self.order(**fields)
        self.stub.make()
        return self.get(told["id"])

    def get(self, video: str) -> dict[str, Any]:
        told: dict[str, Any] = self.client.get(f"/v1/videos/{video}").json()
        return told


@contextmanager
def service(
    folder: Path,
    *,
    limits: Limits | None = None,
    retention: Retention | None = None,
    **options: Any,
) -> Iterator[Service]:
    """A server on a free port."""
    desk = Desk.open(
        folder, limits=limits or Limits(free_bytes=0), retention=retention or Retention(), check=check
    )
    sounds = Sounds()
    app = create_app(desk, HttpOptions(**{"poll": 0.02, **options}), checker=sounds)  # type: ignore[arg-type]
    with running(app) as url, httpx.Client(base_url=url, timeout=30) as client:
        yield Service(desk, app, Stub(desk), sounds, client, url)
    desk.close()


@contextmanager
def running(app: FastAPI) -> Iterator[str]:
    """Serve an application in a thread; gives its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        free.listen(128)
        server = uvicorn.Server(
            uvicorn.Config(app, log_level="critical", timeout_graceful_shutdown=2, access_log=False)
        )
        thread = threading.Thread(target=server.run, kwargs={"sockets": [free]}, daemon=True)
        thread.start()
        while not server.started:
            assert thread.is_alive(), "the server did not start"
            time.sleep(0.005)
        try:
            yield f"http://127.0.0.1:{free.getsockname()[1]}"
        finally:
            app.state.changes.stop()
            server.should_exit = True
            thread.join(20)


def error(answer: httpx.Response) -> tuple[int, str, str | None]:
    """Status, code and field of an answer that has to be an envelope."""
    told = answer.json()
    assert set(told) == {"error"}, told
    assert set(told["error"]) == {"message", "type", "param", "code"}, told
    assert told["error"]["message"]
    return answer.status_code, told["error"]["code"], told["error"]["param"]


__all__ = ["DataFolder", "Service", "error", "running", "service"]
