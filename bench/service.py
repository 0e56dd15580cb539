"""Does the service stay up, fast and small while many look at it, and over many jobs?

``python -m bench.service`` starts ``infinite-talk serve`` with the embedded model on a free port.

1. 200 pollers (each asks for a running job every ``--every`` seconds) and 50 event streams, for ``--seconds``, while
   a worker makes a long video; half of the clients break off in the middle without saying so. Counted: errors, the
   time that ``/health`` takes, and the server's files, threads and memory before and after.
2. 100 small jobs one after the other: memory, files and threads of the server and of its worker after each.
3. How long things take: from the command to the first answer, from an order to its first playable second (on a service
   that has just started, and on one whose worker has the model), from SIGTERM in mid-run to the end.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import wave
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any
from urllib.request import urlopen

import psutil

from bench.common import RATE, SAMPLES, parser, save, speech

SETTLE = 15.0
"""Seconds after the clients have gone until the server is looked at again; idle threads of a pool end after ten."""
WARM_UP = 10.0
"""Seconds of the same crowd before the first look: what a first crowd fills stays filled."""
MIB = 2**20


@dataclass
class Server:
    """The service as a person starts it."""

    process: psutil.Popen
    port: int
    started: float
    """Seconds from the command to the first answer."""

    @classmethod
    def start(cls, folder: Path) -> Server:
        with socket.create_server(("127.0.0.1", 0)) as probe:
            port = probe.getsockname()[1]
        command = [sys.executable, "-m", "infinite_talk", "serve", "--port", str(port)]
        command += ["--data-dir", str(folder / "data")]
        began = time.perf_counter()
        with (folder / "server.log").open("wb") as log:
            process = psutil.Popen(command, stdout=log, stderr=log, env=os.environ | {"OMP_NUM_THREADS": "1"})
        for _ in range(6000):
            if process.poll() is not None:
                raise SystemExit((folder / "server.log").read_text())
            try:
                with urlopen(f"http://127.0.0.1:{port}/health", timeout=10):
                    return cls(process, port, round(time.perf_counter() - began, 2))
            except OSError:  # it does not listen yet
                time.sleep(0.02)
        raise SystemExit("the server does not answer")

    def stop(self) -> float:
        """End it and its workers by SIGTERM; seconds until all are gone."""
        began, workers = time.perf_counter(), self.workers()
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(60)
        except (subprocess.TimeoutExpired, psutil.TimeoutExpired):
            self.process.kill()
        psutil.wait_procs(workers, timeout=60)
        return round(time.perf_counter() - began, 2)

    def workers(self) -> list[psutil.Process]:
        return [
            child
            for child in self.process.children(recursive=True)
            if "infinite_talk.jobs.child" in child.cmdline()
        ]


def state_of(process: psutil.Process) -> dict[str, float]:
    """What a leak would show in."""
    return {
        "open_files": process.num_fds(),
        "threads": process.num_threads(),
        "memory_mib": round(process.memory_full_info().uss / MIB, 1),
    }


class Connection:
    """One HTTP/1.1 connection that stays open; a client that costs little itself."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, method: str, path: str, body: bytes = b"", kind: str = "") -> tuple[int, bytes]:
        """Status and body of an answer with a declared length."""
        reader, _ = await self.send(method, path, body, kind)
        status, headers = await head_of(reader)
        return status, await reader.readexactly(int(headers.get("content-length", "0")))

    async def send(
        self, method: str, path: str, body: bytes = b"", kind: str = ""
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self._streams is None:
            self._streams = await asyncio.open_connection("127.0.0.1", self._port)
        reader, writer = self._streams
        lines = [f"{method} {path} HTTP/1.1", f"Host: 127.0.0.1:{self._port}", f"Content-Length: {len(body)}"]
        lines += [f"Content-Type: {kind}"] if kind else []
        writer.write("\r\n".join([*lines, "", ""]).encode() + body)
        await writer.drain()
        return reader, writer

    def abort(self) -> None:
        """Break off, as a machine that is switched off does."""
        if self._streams is not None:
            self._streams[1].transport.abort()
        self._streams = None


async def head_of(reader: asyncio.StreamReader) -> tuple[int, dict[str, str]]:
    lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    headers = dict(line.lower().split(": ", 1) for line in lines[1:] if ": " in line)
    return int(lines[0].split()[1]), headers


@dataclass
class Tally:
    """What the clients saw."""

    polls: int = 0
    events: int = 0
    streams: int = 0
    errors: list[str] = field(default_factory=list)
    poll_seconds: list[float] = field(default_factory=list)
    health_seconds: list[float] = field(default_factory=list)


async def poller(port: int, job: str, every: float, number: int, tally: Tally) -> None:
    connection = Connection(port)
    await asyncio.sleep(every * (number % 50) / 50)  # not all at the same moment
    try:
        while True:
            began = time.perf_counter()
            status, _ = await connection.ask("GET", f"/v1/videos/{job}")
            tally.polls += 1
            tally.poll_seconds.append(time.perf_counter() - began)
            if status != 200:
                tally.errors.append(f"poll: {status}")
            await asyncio.sleep(every)
    except (OSError, asyncio.IncompleteReadError) as error:
        tally.errors.append(f"poll: {type(error).__name__}")
    finally:
        connection.abort()


async def listener(port: int, job: str, tally: Tally) -> None:
    connection = Connection(port)
    try:
        reader, _ = await connection.send("GET", f"/v1/videos/{job}/events")
        status, _ = await head_of(reader)
        tally.streams += status == 200
        if status != 200:
            tally.errors.append(f"events: {status}")
            return
        while line := await reader.readline():
            tally.events += line.startswith(b"event:")
        tally.errors.append("events: the stream ended")
    except (OSError, asyncio.IncompleteReadError) as error:
        tally.errors.append(f"events: {type(error).__name__}")
    finally:
        connection.abort()


async def physician(port: int, tally: Tally) -> None:
    """Ask for ``/health`` five times a second."""
    connection = Connection(port)
    while True:
        began = time.perf_counter()
        status, _ = await connection.ask("GET", "/health")
        tally.health_seconds.append(time.perf_counter() - began)
        if status != 200:
            tally.errors.append(f"health: {status}")
        await asyncio.sleep(0.2)


async def crowd(options: Any, server: Server, folder: Path) -> dict[str, Any]:
    """The first question."""
    connection = Connection(server.port)
    job = await order(connection, folder, seconds=60.0, size=None, steps=None)
    while (await look(connection, job))["status"] != "in_progress":
        await asyncio.sleep(0.5)
    connection.abort()  # a server closes lines that are silent for long
    await leave(visitors(options, server.port, job, Tally()), after=WARM_UP)
    await asyncio.sleep(SETTLE)
    before, tally = state_of(server.process), Tally()
    workers = {"before": [state_of(worker) for worker in server.workers()]}
    patient = asyncio.create_task(physician(server.port, tally))
    tasks = visitors(options, server.port, job, tally)
    await asyncio.sleep(options.seconds / 2)
    during = state_of(server.process)
    await leave(tasks[::2])
    await leave([*tasks, patient], after=options.seconds / 2)
    await asyncio.sleep(SETTLE)
    after, now = state_of(server.process), await look(connection, job)
    workers["after"] = [state_of(worker) for worker in server.workers()]
    await connection.ask("DELETE", f"/v1/videos/{job}")
    connection.abort()
    return {
        "pollers": options.pollers,
        "event_streams": options.streams,
        "seconds": options.seconds,
        "seconds_between_polls": options.every,
        "job_still_running": now["status"] == "in_progress",
        "polls": tally.polls,
        "events": tally.events,
        "streams_opened": tally.streams,
        "errors": len(tally.errors),
        "errors_seen": sorted(set(tally.errors)),
        "poll_ms": percentiles(tally.poll_seconds),
        "health_ms": percentiles(tally.health_seconds),
        "server": {"before": before, "during": during, "after": after},
        "workers": workers,
    }


def visitors(options: Any, port: int, job: str, tally: Tally) -> list[asyncio.Task[None]]:
    """All pollers and listeners."""
    pollers = [poller(port, job, options.every, number, tally) for number in range(options.pollers)]
    return [
        asyncio.create_task(visit)
        for visit in (*pollers, *(listener(port, job, tally) for _ in range(options.streams)))
    ]


async def leave(tasks: list[asyncio.Task[None]], *, after: float = 0.0) -> None:
    """End tasks, and with them their connections, without a word."""
    await asyncio.sleep(after)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def percentiles(seconds: list[float]) -> dict[str, float]:
    ordered = sorted(seconds)
    at = {"p50": 0.5, "p99": 0.99, "max": 1.0}
    return {
        name: round(1000 * ordered[min(len(ordered) - 1, int(share * len(ordered)))], 1)
        for name, share in at.items()
    }


async def row_of_jobs(options: Any, server: Server, folder: Path) -> dict[str, Any]:
    """The second question."""
    connection, rows, failed = Connection(server.port), [], 0
    began = time.perf_counter()
    for number in range(options.jobs):
        job = await order(connection, folder, seconds=0.4, size="64x64!", steps=1)
        while (now := await look(connection, job))["status"] in ("queued", "in_progress"):
            await asyncio.sleep(0.1)
        failed += now["status"] != "completed"
        if number % 5 == 4 or number == options.jobs - 1:
            workers = [state_of(worker) for worker in server.workers()]
            rows.append({"jobs": number + 1, "server": state_of(server.process), "workers": workers})
    connection.abort()
    return {
        "jobs": options.jobs,
        "failed": failed,
        "seconds_per_job": round((time.perf_counter() - began) / options.jobs, 2),
        "growth_per_job": {part: growth(rows, part) for part in ("server", "workers")},
        "rows": rows,
    }


def growth(rows: list[dict[str, Any]], part: str) -> dict[str, float]:
    """Median of the second half less that of the second quarter, per job: the first jobs fill caches."""
    quarter = max(1, len(rows) // 4)
    early, late = rows[quarter : 2 * quarter] or rows[:1], rows[2 * quarter :] or rows[-1:]

    def middle(some: list[dict[str, Any]], name: str) -> float:
        return median(
            row[part][name] if part == "server" else sum(w[name] for w in row[part]) for row in some
        )

    jobs = median(row["jobs"] for row in late) - median(row["jobs"] for row in early)
    names = ("open_files", "threads", "memory_mib")
    return {name: round((middle(late, name) - middle(early, name)) / max(1, jobs), 3) for name in names}


async def first_second(server: Server, folder: Path) -> float:
    """Seconds from an order until a second of its film could be played; the job is deleted then."""
    connection, began = Connection(server.port), time.perf_counter()
    job = await order(connection, folder, seconds=10.0, size=None, steps=None)
    playable = 0.0
    while playable < 1.0:
        status, text = await connection.ask("GET", f"/v1/videos/{job}/preview.m3u8")
        lengths = [line for line in text.decode().splitlines() if line.startswith("#EXTINF:")]
        playable = sum(float(line[8:].rstrip(",")) for line in lengths) if status == 200 else 0.0
        await asyncio.sleep(0.05)
    for number in ("init.mp4", "0.m4s"):  # as a player does
        status, _ = await connection.ask("GET", f"/v1/videos/{job}/preview/{number}")
        if status != 200:
            raise SystemExit(f"the preview is not there: {number}: {status}")
    seconds = round(time.perf_counter() - began, 2)
    await connection.ask("DELETE", f"/v1/videos/{job}")
    connection.abort()
    return seconds


async def running(server: Server, folder: Path) -> None:
    """Order a video and wait until its second step."""
    connection = Connection(server.port)
    job = await order(connection, folder, seconds=10.0, size=None, steps=None)
    while (await look(connection, job))["metrics"]["step"] < 1:
        await asyncio.sleep(0.05)
    connection.abort()


async def order(
    connection: Connection, folder: Path, *, seconds: float, size: str | None, steps: int | None
) -> str:
    """Hand in the sample portrait with so much of the sample recording; its id."""
    wav = folder / f"speech{seconds:g}.wav"
    if not wav.exists():
        write_wav(wav, seconds)
    fields = {"size": size, "num_inference_steps": steps}
    if size is not None:
        fields |= {"window_frames": 9, "motion_frames": 5}
    parts = [(name, None, str(value).encode()) for name, value in fields.items() if value is not None]
    parts += [
        ("input_reference", "a.png", (SAMPLES / "portrait.png").read_bytes()),
        ("audio", "a.wav", wav.read_bytes()),
    ]
    body = b""
    for name, file, value in parts:
        shown = f'; filename="{file}"' if file else ""
        body += (
            f'--b\r\nContent-Disposition: form-data; name="{name}"{shown}\r\n\r\n'.encode() + value + b"\r\n"
        )
    answer = await connection.ask(
        "POST", "/v1/videos", body + b"--b--\r\n", "multipart/form-data; boundary=b"
    )
    if answer[0] != 200:
        raise SystemExit(f"the order was refused: {answer}")
    return str(json.loads(answer[1])["id"])


async def look(connection: Connection, job: str) -> dict[str, Any]:
    status, body = await connection.ask("GET", f"/v1/videos/{job}")
    if status != 200:
        raise SystemExit(f"the job is gone: {status} {body!r}")
    return dict(json.loads(body))


def write_wav(path: Path, seconds: float) -> None:
    """The sample recording, repeated, as WAV."""
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes(speech(seconds).astype("<i2").tobytes())


def main() -> None:
    options = parser(__doc__ or "")
    options.add_argument("--pollers", type=int, default=200)
    options.add_argument("--streams", type=int, default=50)
    options.add_argument("--seconds", type=float, default=120.0)
    options.add_argument("--every", type=float, default=2.0, help="seconds between two polls of one client")
    options.add_argument("--jobs", type=int, default=100)
    chosen = options.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder, told = Path(name), {}
        server = Server.start(folder)
        times = told["seconds"] = {"serve_to_first_answer": server.started}
        try:
            times["first_playable_second_cold"] = asyncio.run(first_second(server, folder))
            times["first_playable_second_warm"] = asyncio.run(first_second(server, folder))
            if chosen.pollers or chosen.streams:
                told["crowd"] = asyncio.run(crowd(chosen, server, folder))
                save("service", chosen.out, told)  # the second part takes its time
            if chosen.jobs:
                told["row_of_jobs"] = asyncio.run(row_of_jobs(chosen, server, folder))
            asyncio.run(running(server, folder))
        finally:
            times["sigterm_in_mid_run_to_the_end"] = server.stop()
    save("service", chosen.out, told)


if __name__ == "__main__":
    main()
