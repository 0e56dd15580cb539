"""The database under the store: opened, checked, and used in short transactions; its refusals become sentences."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote

from sqlalchemy import Connection, Engine, create_engine, event, inspect, select, text, update
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.pool import QueuePool

from infinite_talk.errors import InfiniteTalkError, NoSpaceError, StoreError, UsageError
from infinite_talk.jobs.tables import META, TABLES

SCHEMA = 1
"""Grows when the tables change in a way that older programs would misread."""
_CREATING = 20_260_711  # any number that no one else locks: two programs make the tables one after the other
_FULL = {"SQLITE_FULL", "SQLITE_IOERR_WRITE", "SQLITE_IOERR_FSYNC", "SQLITE_IOERR_SHMSIZE"}
_FORBIDDEN = ("SQLITE_READONLY", "SQLITE_PERM", "SQLITE_AUTH")


class Database:
    """An SQLite file or a PostgreSQL database with our tables. Safe to use from several threads."""

    def __init__(self, engine: Engine, name: str, file: Path | None) -> None:
        """Use :meth:`open`."""
        self.name = name
        self._engine = engine
        self._file = file
        self._identity = _identity(file) if file else None

    @classmethod
    def open(cls, where: str | Path, *, create: bool = True, patience: float = 15.0) -> Self:
        """Open the tables, or make them.

        Args:
            where: a file, or a URL with the scheme ``sqlite`` or ``postgresql``.
            create: make what is missing; else a missing store is an error.
            patience: seconds to wait for another program's transaction.

        Raises:
            StoreError: see ``JobStore.open``. UsageError: not such a URL. NoSpaceError: it cannot be written.
        """
        url = _url(where)
        if url.get_backend_name() == "sqlite":
            database = cls._open_file(Path(url.database or ""), create, patience)
        else:
            shown = url.render_as_string(hide_password=True)
            database = cls(_postgres(url, patience), shown, None)
        with database._explained():
            database._prepare(create)
        return database

    @classmethod
    def _open_file(cls, file: Path, create: bool, patience: float) -> Self:
        if not file.is_file():
            if not create:
                raise StoreError(
                    f"There is no store of jobs at {file}. Give the data folder of the service, or start the "
                    "service once.",
                    code="store_missing",
                )
            try:
                file.parent.mkdir(parents=True, exist_ok=True)
                os.close(os.open(file, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600))
            except OSError as error:
                raise NoSpaceError(
                    f"The store of jobs {file} cannot be made: {error.strerror}. Choose another folder: --data-dir.",
                    code="not_writable",
                ) from error
        return cls(_sqlite(file, patience), str(file), file)

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A transaction that only looks."""
        with self._explained():
            self._still_there()
            with self._engine.connect() as connection, connection.begin():
                yield connection

    @contextmanager
    def write(self) -> Iterator[tuple[Connection, int]]:
        """A transaction that changes something, with the change counter's new value; on the disk at its end.

        The first statement raises the counter. Its row, or on SQLite the file, stays locked until the end, so such
        transactions happen one after the other.
        """
        with self._explained():
            self._still_there()
            connection = self._engine.connect().execution_options(write=True)
            with connection, connection.begin():
                raised = update(META).where(META.c.name == "change").values(value=META.c.value + 1)
                yield connection, connection.scalars(raised.returning(META.c.value)).one()
            self._still_there()

    @contextmanager
    def touch(self) -> Iterator[Connection]:
        """A transaction that nobody needs to hear of: a sign of life."""
        with self._explained():
            self._still_there()
            connection = self._engine.connect().execution_options(write=True)
            with connection, connection.begin():
                yield connection

    def counter(self) -> int:
        """The change counter."""
        with self.read() as connection:
            return int(connection.scalars(select(META.c.value).where(META.c.name == "change")).one())

    def problem(self) -> str | None:
        """What is wrong with the file, from a check of all of it; ``None`` when it is whole. SQLite only."""
        if self._file is None:
            return None
        with self.read() as connection:
            found = connection.execute(text("PRAGMA integrity_check")).scalars().all()
        return None if list(found) == ["ok"] else "; ".join(map(str, found[:5]))

    def close(self) -> None:
        """Give all connections back."""
        self._engine.dispose()

    def _prepare(self, create: bool) -> None:
        connection = self._engine.connect().execution_options(write=True)
        with connection, connection.begin():
            if connection.dialect.name == "postgresql":
                connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _CREATING})
            there = set(inspect(connection).get_table_names())
            if META.name not in there:
                if not create:
                    raise StoreError(f"{self.name} holds no store of jobs.", code="store_missing")
                TABLES.create_all(connection)
                rows = [{"name": "schema", "value": SCHEMA}, {"name": "change", "value": 0}]
                connection.execute(META.insert(), rows)
                return
            schema = connection.scalar(select(META.c.value).where(META.c.name == "schema"))
        if schema is None or schema > SCHEMA:
            raise StoreError(
                f"The store of jobs {self.name} has form {schema}, this program knows {SCHEMA}. Update "
                "infinite-talk, or give another data folder.",
                code="store_newer",
            )

    def _still_there(self) -> None:
        """A deleted file could be written for long without anybody finding it again."""
        if self._file is not None and _identity(self._file) != self._identity:
            raise StoreError(
                f"The store of jobs {self._file} was deleted or replaced while it was in use. Put it back and "
                "start the service again.",
                code="store_gone",
            )

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except DBAPIError as error:
            raise _explain(self.name, error) from error
        except PoolTimeout as error:
            raise _busy(self.name) from error


def _url(where: str | Path) -> URL:
    if isinstance(where, Path) or "://" not in where:
        return URL.create("sqlite", database=str(where))
    try:
        url = make_url(where)
        if url.get_backend_name() == "postgresql":
            return url.set(drivername="postgresql+psycopg")
        if url.get_backend_name() == "sqlite" and url.database:
            return url
    except (ArgumentError, NoSuchModuleError):
        pass
    raise UsageError(
        f"{where.partition('://')[0]}://... is no store of jobs that can be used; expected "
        "postgresql://user@host/name or sqlite:///folder/jobs.db."
    )


def _sqlite(file: Path, patience: float) -> Engine:
    # "rw": SQLite must never make a file by itself, it would hide that the old one is gone.
    name = f"file:{quote(str(file.absolute()))}?mode=rw"

    def connect() -> sqlite3.Connection:
        connection = sqlite3.connect(
            name, uri=True, timeout=patience, check_same_thread=False, isolation_level=None
        )
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
            connection.execute(f"PRAGMA {pragma}")
        return connection

    engine = create_engine("sqlite://", creator=connect, poolclass=QueuePool, max_overflow=-1)

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        # A transaction that will write takes the lock at once: one that first reads may have to be refused later.
        write = connection.get_execution_options().get("write", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")

    return engine


def _postgres(url: URL, patience: float) -> Engine:
    options = f"-c synchronous_commit=on -c lock_timeout={round(patience * 1000)}"
    arguments: dict[str, Any] = {"connect_timeout": round(patience), "options": options}
    return create_engine(url, pool_pre_ping=True, max_overflow=-1, connect_args=arguments)


def _identity(file: Path) -> tuple[int, int] | None:
    try:
        state = file.stat()
    except OSError:
        return None
    return state.st_dev, state.st_ino


def _busy(name: str) -> StoreError:
    return StoreError(
        f"The store of jobs {name} is busy: another program holds it. Try again in a moment.",
        code="store_busy",
    )


def _explain(name: str, error: DBAPIError) -> InfiniteTalkError:
    """What a database refuses, in the words of our error tree."""
    cause = error.orig
    if isinstance(cause, sqlite3.Error):
        kind = getattr(cause, "sqlite_errorname", "")
        if kind.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
            return _busy(name)
        if kind in _FULL:
            return NoSpaceError(f"The disk is full: the store of jobs {name} could not be written ({cause}).")
        if kind.startswith(_FORBIDDEN):
            return NoSpaceError(f"No permission to write the store of jobs {name}.", code="not_writable")
        if kind.startswith("SQLITE_CANTOPEN"):
            return StoreError(f"The store of jobs {name} cannot be opened: {cause}.", code="store_gone")
        if kind.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB")):
            return StoreError(
                f"The store of jobs {name} is damaged ({cause}). Put back a copy, or move it away to begin a "
                "new one; the videos beside it stay.",
                code="store_damaged",
            )
        return StoreError(f"The store of jobs {name} failed: {cause}.")
    state = getattr(cause, "sqlstate", None)
    if state in (
        "55P03",
        "40P01",
        "40001",
        "53300",
    ):  # lock not available, deadlock, serialisation, connections
        return _busy(name)
    if state == "53100":
        return NoSpaceError(f"The disk of the store of jobs {name} is full.")
    if error.connection_invalidated or state is None or state.startswith(("08", "57P", "28", "3D")):
        reason = str(cause).strip().split("\n")[0]
        return StoreError(f"The store of jobs {name} cannot be reached: {reason}.", code="store_unreachable")
    return StoreError(f"The store of jobs {name} failed: {str(cause).strip().splitlines()[0]}.")
