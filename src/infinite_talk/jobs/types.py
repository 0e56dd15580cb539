"""The nouns of the job room: what was ordered, how far it is, what may be done with it.

Nothing here needs torch: the process that answers requests holds no model.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from infinite_talk.errors import StoreError
from infinite_talk.jobs.node_options import NodeOptions
from infinite_talk.progress import Phase
from infinite_talk.request import Request
from infinite_talk.settings import Settings

Json = Any  # null, bool, number, string, list or object


class State(StrEnum):
    """Where a job stands. The last three are ends; a job leaves them only by ``retry`` or ``delete``."""

    QUEUED = "queued"
    RUNNING = "running"
    PAUSED = "paused"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def ended(self) -> bool:
        """Whether nothing happens to the job any more by itself."""
        return self in (State.COMPLETED, State.FAILED, State.CANCELLED)


class Wish(StrEnum):
    """What was asked of a running job; its worker hears it within a denoising step."""

    CANCEL = "cancel"
    PAUSE = "pause"
    DELETE = "delete"


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A media file of a job, under a name of ours in the job's folder."""

    path: str
    """Relative to the job's folder: ``"inputs/image.png"``."""
    sha256: str
    bytes: int
    name: str = ""
    """What its owner called it; for people only, never a path."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """A video that somebody wants: everything a worker needs, and what the front end wants to remember."""

    request: Request
    """Paths in it are relative to the job's folder."""
    settings: Settings = field(default_factory=Settings)
    """How it is made. Fixed when the job is accepted, so that it continues as it began."""
    profile: str = ""
    """Name under which ``settings`` were chosen, for people."""
    title: str = ""
    options: NodeOptions = field(default_factory=NodeOptions)
    """What only the nodes can do; an order that asks for any of it is made by them (``node_run.py``)."""
    files: tuple[StoredFile, ...] = ()
    checked: Checked | None = None
    """What is known of its media since it was handed in."""
    extra: Mapping[str, Json] = field(default_factory=dict)
    """For the front end: fields of its own as the client gave them. Nobody else reads it."""

    def to_json(self) -> str:
        """Plain JSON text; the inverse of :meth:`from_json`."""
        return _ORDER.dump_json(self).decode()

    @classmethod
    def from_json(cls, text: str) -> Order:
        """Read what ``to_json`` wrote.

        Raises:
            StoreError: it is damaged, or a newer program's.
        """
        try:
            return _ORDER.validate_json(text)
        except ValidationError as error:
            raise StoreError(
                f"A stored job cannot be read ({error.error_count()} fields are unknown or damaged). "
                "It was written by another version of this program: use that one, or delete the job.",
                code="store_damaged",
            ) from error

    @property
    def digest(self) -> str:
        """SHA-256 of what a client ordered; files count by their contents, settings by their name if they have one."""
        told = replace(self, checked=None, settings=Settings() if self.profile else self.settings)
        return hashlib.sha256(told.to_json().encode()).hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class JobProgress:
    """How far a job is. ``percent`` never goes back, and is 100 only when the video can be fetched."""

    phase: Phase | None = None
    """``None``: no worker has begun."""
    window: int = 0
    """Finished windows, of ``windows``."""
    windows: int = 0
    step: int = 0
    steps: int = 0
    seconds_per_step: float | None = None
    eta: float | None = None
    """Seconds until the video is finished, when a guess is possible."""
    percent: float = 0.0
    """0..100."""
    runs: str = ""
    """What really runs: device, precision, attention."""
    notes: tuple[str, ...] = ()
    """Lines that a person should read: fallbacks, retries, what was guessed in the media."""


@dataclass(frozen=True, slots=True)
class JobError:
    """Why a job failed."""

    code: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One job as the store knows it at a moment."""

    id: str
    """``video_`` and 32 hexadecimal digits: a safe file name that cannot be guessed."""
    state: State
    order: Order
    priority: int = 0
    """Higher ones run first."""
    position: int | None = None
    """Place in the queue from 1; ``None`` when it is not queued."""
    created: datetime
    """UTC, as all times."""
    started: datetime | None = None
    """When a worker first took it."""
    finished: datetime | None = None
    """When it came to one of its ends."""
    attempts: int = 0
    """How often a worker took it."""
    progress: JobProgress = JobProgress()
    error: JobError | None = None
    """Only when it failed, or when its order cannot be read."""
    output: str | None = None
    """The video, relative to the job's folder; only when it is completed."""
    wish: Wish | None = None
    """What a running job was asked to do and has not done yet."""
    key: str | None = None
    worker: str | None = None
    """Who makes it now."""
    changed: int = 0
    """Value of the store's change counter when this job last changed."""


@dataclass(frozen=True, slots=True)
class Lease:
    """A worker's right to a job, until it gives it back or is thought dead."""

    job: Job
    token: str
    worker: str


@dataclass(frozen=True, slots=True)
class Retention:
    """What is kept of jobs that have ended; ``None``: without limit."""

    seconds: float | None = None
    """Since the end of a job."""
    bytes: int | None = None
    """Of all folders of jobs together; the oldest ends go first."""


@dataclass(frozen=True, slots=True)
class Checked:
    """What is known of an order once its media were looked at, before any model is loaded."""

    width: int
    height: int
    frames: int
    seconds: float
    """Length of the video."""
    notes: tuple[str, ...] = ()
    """What was changed or guessed in the media."""


@dataclass(frozen=True, slots=True)
class DataFolder:
    """Where everything lies on disk; nothing is opened or made here."""

    root: Path

    @property
    def database(self) -> Path:
        """The SQLite file, where no other store is used."""
        return self.root / "jobs.db"

    @property
    def lock(self) -> Path:
        """Held by the one server of this folder."""
        return self.root / "server.lock"

    @property
    def workers(self) -> Path:
        """Lock files of living workers."""
        return self.root / "workers"

    @property
    def jobs(self) -> Path:
        """One folder per job."""
        return self.root / "jobs"

    def of(self, job: str) -> Path:
        """The folder of a job: its inputs, its video, the take while that grows."""
        return self.jobs / job

    def inputs(self, job: str) -> Path:
        """Its media."""
        return self.of(job) / "inputs"

    def video(self, job: str) -> Path:
        """Its video: there only when complete. ``video.mp4.take/`` beside it holds the finished windows."""
        return self.of(job) / VIDEO


VIDEO = "video.mp4"
_ORDER = TypeAdapter(Order)
