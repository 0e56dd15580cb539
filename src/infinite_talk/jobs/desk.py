"""``Desk``: where jobs are handed in. The HTTP interface and the web page use it and nothing else of this room.

desk = Desk.open(Path("data"))
with desk.draft() as draft:
    image = draft.add("image", upload.chunks(), name=upload.filename)
    audio = draft.add("audio", ...)
    job = desk.submit(draft, Request(image=Path(image.path), speakers=(Speaker(audio=Path(audio.path)),)))
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from infinite_talk.jobs.limits import Limits
from infinite_talk.jobs.store import JobStore
from infinite_talk.jobs.types import Checked, DataFolder, Job, Retention, State, StoredFile
from infinite_talk.request import Request
from infinite_talk.settings import Settings

Check = Callable[[Path, Request, Settings], Checked]
"""Looks at the media of a request whose paths are relative to a folder; raises ``InputError`` or ``UsageError``."""


class Draft:
    """The folder of a job that is not handed in yet. Leaving the block without ``submit`` removes it."""

    id: str

    @property
    def folder(self) -> Path:
        """The job's folder."""
        raise NotImplementedError

    def add(self, role: str, chunks: Iterable[bytes], *, name: str = "") -> StoredFile:
        """Put a file into the folder, durably, under a name of ours.

        Args:
            role: what it is: ``image``, ``video``, ``audio``, ``audio2``, ``mask``.
            chunks: its bytes as they arrive; the limit on uploads is kept while they do.
            name: its owner's name for it; only shown.

        Raises:
            LimitError: ``upload_too_large``.
            NoSpaceError: the disk is full.
        """
        raise NotImplementedError

    def __enter__(self) -> Self:
        raise NotImplementedError

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        raise NotImplementedError


class Desk:
    """Checks orders at the door, keeps their files, and speaks of jobs. Safe to use from several threads."""

    store: JobStore
    folder: DataFolder
    limits: Limits

    @classmethod
    def open(
        cls,
        data: Path,
        *,
        store: str | None = None,
        limits: Limits = Limits(),  # noqa: B008 - frozen
        retention: Retention = Retention(),  # noqa: B008 - frozen
        check: Check | None = None,
        create: bool = True,
    ) -> Self:
        """Open a data folder and its store (default: the SQLite file in it)."""
        raise NotImplementedError

    def draft(self) -> Draft:
        """Begin an order that comes with files."""
        raise NotImplementedError

    def check(self, draft: Draft, request: Request, *, settings: Settings | str = "") -> Checked:
        """Look at the media and the limits without handing in: what will be made.

        Raises:
            UsageError, InputError: of the request. LimitError: too long or too large.
        """
        raise NotImplementedError

    def submit(
        self,
        draft: Draft,
        request: Request,
        *,
        settings: Settings | str = "",
        title: str = "",
        key: str | None = None,
        priority: int = 0,
        extra: Mapping[str, Any] | None = None,
    ) -> Job:
        """Check an order and hand it in; it is on the disk when this returns.

        Args:
            request: its paths are relative to the draft's folder and lie in it.
            settings: as they are, or the name of a profile; ``""`` is the profile ``default``.
            key: idempotency key; the job of an earlier call with it is returned when the order is the same.

        Raises:
            UsageError, InputError: of the request. LimitError: queue, length, size. JobActionError: ``key_reused``.
            NoSpaceError, StoreError.
        """
        raise NotImplementedError

    def get(self, id: str) -> Job:  # noqa: A002
        """See ``JobStore.get``."""
        raise NotImplementedError

    def list(
        self,
        *,
        after: str | None = None,
        limit: int | None = None,
        newest_first: bool = True,
        states: Collection[State] = (),
    ) -> tuple[Job, ...]:
        """See ``JobStore.list``."""
        raise NotImplementedError

    def cancel(self, id: str) -> Job:  # noqa: A002
        """See ``JobStore.cancel``; likewise ``pause``, ``resume``, ``retry``, ``move``."""
        raise NotImplementedError

    def delete(self, id: str) -> Job | None:  # noqa: A002
        """Forget a job and remove its files; a running one is returned with its wish, and goes when it has stopped."""
        raise NotImplementedError

    def video(self, job: Job) -> Path | None:
        """The finished video on disk."""
        raise NotImplementedError

    def path(self, job: Job, relative: str) -> Path:
        """A file in the job's folder.

        Raises:
            JobActionError: it is not in there.
        """
        raise NotImplementedError

    def sweep(self) -> int:
        """Remove what retention does not keep, and folders without a job; returns how many went."""
        raise NotImplementedError
