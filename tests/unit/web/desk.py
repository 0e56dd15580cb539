"""A desk in memory, for tests of the page's handlers: jobs go where a test puts them, nothing runs."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from infinite_talk import Request, Settings
from infinite_talk.errors import JobActionError
from infinite_talk.jobs import Job, JobProgress, Order, State, StoredFile

BEGAN = datetime(2026, 11, 26, 12, 0, tzinfo=UTC)


class FakeDraft:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.files: list[StoredFile] = []

    def __enter__(self) -> FakeDraft:
        (self.folder / "inputs").mkdir(parents=True)
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def add(self, role: str, chunks: Iterable[bytes], *, name: str = "") -> StoredFile:
        data = b"".join(chunks)
        path = f"inputs/{role}{Path(name).suffix}"
        (self.folder / path).write_bytes(data)
        self.files.append(StoredFile(path, hashlib.sha256(data).hexdigest(), len(data), name))
        return self.files[-1]


class FakeDesk:
    """``Desk`` and its store in one."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.jobs: dict[str, Job] = {}
        self.line: list[str] = []
        self.settings: dict[str, Settings | str] = {}
        self.store = self

    def put(self, state: State, *, title: str = "", **fields: Any) -> Job:
        """A job in a state."""
        number = len(self.jobs) + 1
        order = fields.pop("order", Order(request=Request(), title=title))
        job = Job(
            id=f"video_{number:032x}",
            state=state,
            order=order,
            created=BEGAN + timedelta(minutes=number),
            **fields,
        )
        self.jobs[job.id] = job
        if state is State.QUEUED:
            self.line.append(job.id)
        return job

    def change(self, id: str, **fields: Any) -> Job:
        self.jobs[id] = replace(self.get(id), **fields)
        return self.jobs[id]

    def draft(self) -> FakeDraft:
        return FakeDraft(self.folder / f"draft-{len(self.jobs)}")

    def submit(
        self,
        draft: FakeDraft,
        request: Request,
        *,
        settings: Settings | str = "",
        title: str = "",
        extra: Mapping[str, Any] | None = None,
    ) -> Job:
        order = Order(request=request, title=title, files=tuple(draft.files), extra=extra or {})
        job = self.put(State.QUEUED, order=order)
        self.settings[job.id] = settings
        return job

    def get(self, id: str) -> Job:
        if id not in self.jobs:
            raise JobActionError(f"There is no job {id}.", code="job_not_found")
        job = self.jobs[id]
        place = self.line.index(id) + 1 if job.state is State.QUEUED and id in self.line else None
        return replace(job, position=place)

    def list(
        self, *, limit: int | None = None, newest_first: bool = True, states: Collection[State] = ()
    ) -> tuple[Job, ...]:
        found = [self.get(id) for id, job in self.jobs.items() if not states or job.state in states]
        return tuple((found[::-1] if newest_first else found)[:limit])

    def queue(self) -> tuple[Job, ...]:
        return tuple(self.get(id) for id in self.line if self.jobs[id].state is State.QUEUED)

    def counts(self) -> Mapping[State, int]:
        return {state: sum(job.state is state for job in self.jobs.values()) for state in State}

    def cancel(self, id: str) -> Job:
        return self.change(id, state=State.CANCELLED, finished=BEGAN)

    def pause(self, id: str) -> Job:
        return self.change(id, state=State.PAUSED)

    def resume(self, id: str) -> Job:
        return self.change(id, state=State.QUEUED)

    def retry(self, id: str) -> Job:
        return self.change(id, state=State.QUEUED, progress=JobProgress())

    def delete(self, id: str) -> Job | None:
        self.get(id)
        del self.jobs[id]
        return None

    def move(self, id: str, before: str | None) -> Job:
        self.line.remove(id)
        self.line.insert(len(self.line) if before is None else self.line.index(before), id)
        return self.get(id)
