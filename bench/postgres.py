"""A PostgreSQL server in a temporary folder, for tests and measurements of the store of jobs."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

PLACES = ("/usr/lib/postgresql/*/bin", "/usr/local/bin", "/usr/bin")


def binaries() -> Path | None:
    """The folder with ``initdb`` and ``postgres``."""
    folders = [path for place in PLACES for path in sorted(Path("/").glob(place[1:]), reverse=True)]
    return next((f for f in folders if (f / "initdb").exists() and (f / "postgres").exists()), None)


@dataclass
class Running:
    """A server on a socket in a folder."""

    programs: Path
    folder: Path
    who: dict[str, Any]
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Of its empty database."""
        return f"postgresql://postgres@/postgres?host={self.folder}"

    def start(self) -> None:
        """Start it, and wait until it answers."""
        options = ["-k", str(self.folder), "-c", "listen_addresses=", "-F"]
        command = [str(self.programs / "postgres"), "-D", str(self.folder / "data"), *options]
        with (self.folder / "log").open("w") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, cwd=self.folder, **self.who)
        _wait(self.url, self.process, self.folder / "log")

    def stop(self) -> None:
        """End it at once; who is connected is thrown out."""
        if self.process is not None:
            self.process.send_signal(signal.SIGINT)
            self.process.wait(30)


@contextmanager
def server() -> Iterator[str]:
    """Start a server; yields the URL of its empty database."""
    with running_server() as running:
        yield running.url


@contextmanager
def running_server() -> Iterator[Running]:
    """Start a server that can be stopped and started. It does not run as root, as it must not.

    Raises:
        RuntimeError: it did not start; with its words.
    """
    programs = binaries()
    assert programs is not None, "PostgreSQL is not installed"
    folder = Path(tempfile.mkdtemp(prefix="pg"))
    who: dict[str, Any] = {"user": "postgres", "group": "postgres"} if os.geteuid() == 0 else {}
    if who:
        shutil.chown(folder, "postgres", "postgres")
    try:
        data = folder / "data"
        made = [
            str(programs / "initdb"),
            "-D",
            str(data),
            "-U",
            "postgres",
            "-A",
            "trust",
            "-N",
            "-E",
            "UTF8",
        ]
        subprocess.run(made, check=True, capture_output=True, cwd=folder, **who)
        running = Running(programs, folder, who)
        try:
            running.start()
            yield running
        finally:
            running.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def database(url: str) -> Iterator[str]:
    """A new database of a server."""
    import psycopg

    name = f"test_{uuid4().hex[:12]}"
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    try:
        yield url.replace("/postgres?", f"/{name}?")
    finally:
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


def _wait(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    import psycopg

    for _ in range(600):
        try:
            psycopg.connect(url).close()
        except psycopg.OperationalError:
            if process.poll() is not None:
                raise RuntimeError(log.read_text()) from None
            time.sleep(0.05)
        else:
            return
    raise RuntimeError(log.read_text())
