"""The studio as a person starts it: a process of its own on a free port, with the embedded model."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from infinite_talk.jobs import Job
from infinite_talk.jobs.desk import Desk

STARTING = 120.0
"""Seconds until a server that does not answer is given up."""


@dataclass
class Studio:
    """A running server and where it keeps its files."""

    url: str
    data: Path
    process: subprocess.Popen[bytes]
    log: Path

    @classmethod
    def start(cls, folder: Path) -> Studio:
        port = _free_port()
        studio = cls(f"http://127.0.0.1:{port}", folder / "data", _serve(folder, port), folder / "server.log")
        studio._wait()
        return studio

    def kill(self) -> None:
        """As when the machine loses its power: the server and its workers at once, with no last words."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def start_again(self) -> None:
        """After ``kill``: at the same address, on the same folder."""
        self.process = _serve(self.data.parent, int(self.url.rsplit(":", 1)[1]))
        self._wait()

    @contextlib.contextmanager
    def desk(self) -> Iterator[Desk]:
        """The store of the running server, used beside it as the command line does."""
        desk = Desk.open(self.data)
        try:
            yield desk
        finally:
            desk.close()

    def jobs(self) -> tuple[Job, ...]:
        """All that were ordered, newest first, as they are stored."""
        with self.desk() as desk:
            return desk.list()

    def _wait(self) -> None:
        limit = time.monotonic() + STARTING
        while time.monotonic() < limit:
            if self.process.poll() is not None:
                break
            try:
                with urllib.request.urlopen(f"{self.url}/ready", timeout=2):
                    return
            except OSError:
                time.sleep(0.2)
        self.stop()
        raise AssertionError(f"the server did not get ready:\n{self.log.read_text()[-4000:]}")

    def stop(self) -> None:
        """Ask it to end, as Ctrl-C does; its workers end with it, or with their process group."""
        self.process.send_signal(signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(20)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


def _serve(folder: Path, port: int) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "infinite_talk", "serve"]
    command += ["--port", str(port), "--data-dir", str(folder / "data")]
    # No configuration of the user, and threads enough for one model only.
    environment = os.environ | {"XDG_CONFIG_HOME": str(folder / "none"), "OMP_NUM_THREADS": "1"}
    with (folder / "server.log").open("ab") as out:
        return subprocess.Popen(command, stdout=out, stderr=out, env=environment, start_new_session=True)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
