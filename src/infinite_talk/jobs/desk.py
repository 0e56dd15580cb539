"""``Desk``: where jobs are handed in. The HTTP interface and the web page use it and nothing else of this room.

desk = Desk.open(Path("data"))
with desk.draft() as draft:
    image = draft.add("image", upload.chunks(), name=upload.filename)
    audio = draft.add("audio", ...)
    job = desk.submit(draft, Request(image=Path(image.path), speakers=(Speaker(audio=Path(audio.path)),)))
"""

from __future__ import annotations

import hashlib
import re
import shutil
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from infinite_talk.errors import InputError, NoSpaceError, UsageError
from infinite_talk.jobs.checking import Checker, within
from infinite_talk.jobs.leases import Leases
from infinite_talk.jobs.limits import Limits
from infinite_talk.jobs.node_options import NodeOptions
from infinite_talk.jobs.paths import media_of
from infinite_talk.jobs.presence import Presence
from infinite_talk.jobs.retention import MARK, mark_for_removal, remove_folder, sweep
from infinite_talk.jobs.store import JobStore, new_id
from infinite_talk.jobs.types import Checked, DataFolder, Job, Order, Retention, State, StoredFile
from infinite_talk.media.durable import explained, replacing, sync
from infinite_talk.request import Request
from infinite_talk.settings import Settings

Check = Callable[[Path, Request, Settings], Checked]
"""Looks at the media of a request whose paths are relative to a folder; raises ``InputError`` or ``UsageError``."""
DEFAULT = "default"
"""The profile of orders that name none."""
_ROLE = re.compile(r"[a-z][a-z0-9_]{0,31}")


class Draft:
    """The folder of a job that is not handed in yet. Leaving the block without ``submit`` removes it."""

    def __init__(self, folder: DataFolder, limits: Limits) -> None:
        """Use ``Desk.draft``."""
        self.id = new_id()
        self.folder = folder.of(self.id)
        self.files: tuple[StoredFile, ...] = ()
        self.kept = False
        self._data = folder
        self._limits = limits
        with explained(self.folder):
            folder.inputs(self.id).mkdir(parents=True)
            (self.folder / MARK).touch()

    def add(self, role: str, chunks: Iterable[bytes], *, name: str = "") -> StoredFile:
        """Put a file into the folder, durably, under a name of ours. A second file of a role replaces the first.

        Args:
            role: what it is, which becomes its name: ``image``, ``video``, ``audio``, ``audio2``, ``mask``.
            chunks: its bytes as they arrive; the limit on uploads is kept while they do.
            name: its owner's name for it; only shown.

        Raises:
            LimitError: ``upload_too_large``.
            NoSpaceError: the disk is full.
        """
        if not _ROLE.fullmatch(role):
            raise ValueError(f"{role!r} is no role of a file")
        others = tuple(file for file in self.files if file.path != f"inputs/{role}")
        before, count, digest = sum(file.bytes for file in others), 0, hashlib.sha256()
        path = self.folder / "inputs" / role
        with replacing(path) as part, part.open("wb") as file:
            for chunk in chunks:
                count += len(chunk)
                self._limits.check_bytes(before + count)
                digest.update(chunk)
                file.write(chunk)
        stored = StoredFile(f"inputs/{role}", digest.hexdigest(), count, name)
        self.files = (*others, stored)
        return stored

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Remove the folder, unless the job was handed in."""
        if not self.kept:
            remove_folder(self._data, self.id)


class Desk:
    """Checks orders at the door, keeps their files, and speaks of jobs. Safe to use from several threads."""

    def __init__(
        self, store: JobStore, folder: DataFolder, limits: Limits, retention: Retention, check: Check
    ) -> None:
        """Use :meth:`open`."""
        self.store = store
        self.folder = folder
        self.limits = limits
        self.retention = retention
        self._check = check
        self._leases = Leases(store.database)
        self._presence = Presence(folder)

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
        """Open a data folder and its store.

        Args:
            data: the folder.
            store: URL of the store; default: the SQLite file in the folder.
            check: looks at the media of each order; default: in a child process with limits.
            create: make what is missing; else a missing store is an error.

        Raises:
            StoreError, NoSpaceError: see ``JobStore.open``.
        """
        folder = DataFolder(data.absolute())
        opened = JobStore.open(store or folder.database, create=create)
        if create:
            with explained(folder.jobs):
                folder.jobs.mkdir(parents=True, exist_ok=True)
        return cls(opened, folder, limits, retention, check or Checker().order)

    def close(self) -> None:
        """Close the store."""
        self.store.close()

    def draft(self) -> Draft:
        """Begin an order that comes with files.

        Raises:
            NoSpaceError: the disk is full, or nearly so.
        """
        with explained(self.folder.jobs):
            free = shutil.disk_usage(self.folder.jobs).free
        if free < self.limits.free_bytes:
            raise NoSpaceError(
                f"Only {free / 1e6:.0f} MB are free in {self.folder.root}, at least "
                f"{self.limits.free_bytes / 1e6:.0f} MB are kept free. Delete old jobs, or give more room."
            )
        return Draft(self.folder, self.limits)

    def check(self, draft: Draft, request: Request, *, settings: Settings | str = "") -> Checked:
        """Look at the media and the limits without handing in: what will be made.

        Raises:
            UsageError, InputError: of the request. LimitError: too long or too large.
        """
        return self._checked(draft, request, self._settings(settings)[1])

    def submit(
        self,
        draft: Draft,
        request: Request,
        *,
        settings: Settings | str = "",
        title: str = "",
        key: str | None = None,
        priority: int = 0,
        options: NodeOptions | None = None,
        extra: Mapping[str, Any] | None = None,
    ) -> Job:
        """Check an order and hand it in; it is on the disk when this returns.

        Args:
            request: its paths are relative to the draft's folder and lie in it.
            settings: as they are, or the name of a profile; ``""`` is the profile ``default``.
            key: idempotency key; the job of an earlier call with it is returned when the order is the same.
            options: what only the nodes can do.
            extra: for the front end; JSON.

        Raises:
            UsageError, InputError: of the request. LimitError: queue, length, size. JobActionError: ``key_reused``.
            NoSpaceError, StoreError.
        """
        profile, chosen = self._settings(settings)
        options = options or NodeOptions()
        options.check(request)
        checked = self._checked(draft, request, chosen)
        with explained(draft.folder):
            for folder in (draft.folder / "inputs", draft.folder, self.folder.jobs):
                sync(folder)
        order = Order(
            request=request,
            settings=chosen,
            profile=profile,
            title=title,
            options=options,
            files=tuple(sorted(draft.files, key=lambda file: file.path)),
            checked=checked,
            extra=dict(extra or {}),
        )
        job = self.store.submit(order, key=key, priority=priority, id=draft.id, most=self.limits.queued)
        if job.id == draft.id:
            draft.kept = True
            (draft.folder / MARK).unlink(missing_ok=True)
        return job

    def get(self, job: str) -> Job:
        """See ``JobStore.get``."""
        return self.store.get(job)

    def list(
        self,
        *,
        after: str | None = None,
        limit: int | None = None,
        newest_first: bool = True,
        states: Collection[State] = (),
    ) -> tuple[Job, ...]:
        """See ``JobStore.list``."""
        return self.store.list(after=after, limit=limit, newest_first=newest_first, states=states)

    def cancel(self, job: str) -> Job:
        """See ``JobStore.cancel``."""
        self.reap()
        return self.store.cancel(job)

    def pause(self, job: str) -> Job:
        """See ``JobStore.pause``."""
        self.reap()
        return self.store.pause(job)

    def resume(self, job: str) -> Job:
        """See ``JobStore.resume``."""
        return self.store.resume(job)

    def retry(self, job: str) -> Job:
        """See ``JobStore.retry``."""
        return self.store.retry(job)

    def move(self, job: str, before: str | None) -> Job:
        """See ``JobStore.move``."""
        return self.store.move(job, before)

    def delete(self, job: str) -> Job | None:
        """Forget a job and remove its files.

        A running one is returned with its wish; it goes, with its files, when its worker has heard.
        """
        self.reap()
        mark_for_removal(self.folder, self.store.get(job).id)
        left = self.store.delete(job)
        if left is None:
            remove_folder(self.folder, job)
        return left

    def reap(self) -> None:
        """Take back the jobs of workers of this machine that are dead: they would never hear a wish."""
        self._leases.reap(self._presence.alive)

    def video(self, job: Job) -> Path | None:
        """The finished video on disk."""
        return None if job.output is None else self.path(job, job.output)

    def path(self, job: Job, relative: str) -> Path:
        """A file in the job's folder, which need not be there.

        Raises:
            InputError: ``path_outside``.
        """
        return within(self.folder.of(job.id), Path(relative))

    def sweep(self) -> int:
        """Remove what retention does not keep, and what crashes left; returns how many jobs went."""
        return sweep(self.store, self.folder, self.retention)

    def _settings(self, wanted: Settings | str) -> tuple[str, Settings]:
        """Name of the profile, if it is one, and what it stands for now."""
        if isinstance(wanted, Settings):
            return "", wanted
        name, known = wanted or DEFAULT, self.store.profiles()
        if name in known:
            return name, known[name]
        if name == DEFAULT:
            return name, Settings()
        names = ", ".join(sorted({DEFAULT, *known}))
        raise UsageError(
            f"There are no settings named {name!r} here. Known are: {names}.", code="unknown_profile"
        )

    def _checked(self, draft: Draft, request: Request, settings: Settings) -> Checked:
        stored = {file.path for file in draft.files}
        for path in media_of(request):
            if path.as_posix() not in stored:
                raise InputError(
                    f"{path} is no file of this job; upload it with the request.", code="path_outside"
                )
        seconds = self.limits.seconds
        if seconds is not None:  # decoding stops there, whatever a file says of its length
            settings = replace(settings, max_audio_seconds=min(settings.max_audio_seconds, seconds))
        checked = self._check(draft.folder, request, settings)
        self.limits.check(checked)
        return checked
