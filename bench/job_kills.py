"""Are jobs lost, doubled or changed when workers and servers are killed?

    python -m bench.job_kills --kills 20

Each ordeal has a data folder with a queue of videos, and a service: the real supervisor in a process of its own, and
the real worker that it starts. The worker alone, or the service as a whole, is killed by SIGKILL right after every
window has come to the disk, and then at random moments, on SQLite and on PostgreSQL. Afterwards every job is there
once, in its order, and its video has the bytes of an undisturbed run.
"""

from __future__ import annotations

import logging
import os
import random
import secrets
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from bench import postgres
from bench.common import RATE, SAMPLES, parser, save
from bench.job_service import PACE, PATIENCE
from bench.kills import take_of, windows_in
from bench.sounds import write_wav
from infinite_talk import Request, Settings, Speaker
from infinite_talk.jobs import Checked, DataFolder, Job, State
from infinite_talk.jobs.database import Database
from infinite_talk.jobs.desk import Desk
from infinite_talk.jobs.leases import Leases
from infinite_talk.jobs.worker import Worker

logger = logging.getLogger(__name__)
WINDOWS = 5
WHAT = ("worker", "server")
_LONGEST = 600.0


@dataclass
class Ordeal:
    """What was done to a service, and what was left."""

    store: str
    killed: str
    boundaries: int = 0
    moments: list[float] = field(default_factory=list)
    """Seconds after the start of what was killed."""
    jobs: int = 0
    lost: int = 0
    doubled: int = 0
    changed: int = 0
    in_order: bool = True
    made_twice: int = 0
    """Windows that were made again though they had been finished."""
    windows_at_kills: list[int] = field(default_factory=list)


@dataclass(frozen=True)
class Media:
    """What all jobs are made from, and the hashes of the undisturbed videos by seed."""

    image: bytes
    audio: bytes
    settings: Settings
    duration: float = 1.0
    """Seconds from the start of a service until it has made a queue."""
    whole: tuple[str, ...] = ()


def media(portrait: Path, model: Path | None, *, threads: int | None = 1) -> Media:
    """A portrait, and noise for ``WINDOWS`` windows of the small test model (17 frames, 5 of them carried over)."""
    with tempfile.TemporaryDirectory() as name:
        noise = np.random.default_rng(6).normal(0, 3000, (17 + (WINDOWS - 1) * 12) * RATE // 25)
        recording = write_wav(Path(name) / "noise.wav", noise, RATE)
        return Media(portrait.read_bytes(), recording.read_bytes(), Settings(model=model, threads=threads))


class Service:
    """A data folder with its store, and the processes on it."""

    def __init__(self, folder: Path, url: str | None, material: Media) -> None:
        def check(*_: object) -> Checked:
            return Checked(64, 64, 1, 0.04)  # it is not the door that is tested here

        self.url, self.material = url, material
        self.desk = Desk.open(folder, store=url, check=check)
        self.process: subprocess.Popen[bytes] | None = None
        self.began = time.perf_counter()

    def submit(self, seed: int) -> Job:
        """Order one video."""
        with self.desk.draft() as draft:
            draft.add("image", [self.material.image])
            draft.add("audio", [self.material.audio])
            request = Request(
                image=Path("inputs/image"), speakers=(Speaker(audio=Path("inputs/audio")),), seed=seed
            )
            return self.desk.submit(draft, request, settings=self.material.settings)

    def start(self) -> None:
        """Start the supervisor, which starts a worker."""
        command = [sys.executable, "-m", "bench.job_service", str(self.desk.folder.root)]
        self.process = subprocess.Popen([*command, self.url] if self.url else command)
        self.began = time.perf_counter()

    def worker(self) -> psutil.Process | None:
        """The worker process that runs now."""
        try:
            assert self.process is not None
            children = psutil.Process(self.process.pid).children()
            return next((child for child in children if child.status() != psutil.STATUS_ZOMBIE), None)
        except psutil.Error:
            return None

    def kill(self, what: str) -> None:
        """Kill one or the other; what was killed runs again when this returns, as an operator would have it."""
        assert self.process is not None
        worker = self.worker()
        if what == "server":
            self.process.kill()
            self.process.wait()
            if worker is not None:
                psutil.wait_procs([worker], timeout=_LONGEST)
            self.start()
            return
        if worker is not None:
            worker.kill()
            wait_for(lambda: (now := self.worker()) is not None and now.pid != worker.pid)
        self.began = time.perf_counter()

    def stop(self) -> None:
        """End it by SIGTERM."""
        if self.process is not None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(_LONGEST)

    def state(self, job: Job) -> State:
        """Where a job stands."""
        return self.desk.get(job.id).state

    def notes(self, job: Job) -> dict[str, int]:
        """When each finished window of an unfinished video came to the disk."""
        found = {}
        for note in take_of(self.desk.folder.video(job.id)).glob("window-*.json"):
            with suppress(OSError):
                found[note.name] = note.stat().st_mtime_ns
        return found

    def windows(self, job: Job) -> int:
        """Windows of a job that are on the disk."""
        video = self.desk.folder.video(job.id)
        return WINDOWS if video.exists() else windows_in(video)


class Forked(Service):
    """The same with a worker that is forked with everything imported, and no supervisor: many kills in little time.

    A kill of the worker is told to the store, as the supervisor does; a kill of the server is not.
    """

    def start(self) -> None:
        """Fork a worker."""
        from tests.e2e.processes import PROCESSES

        self.name = f"forked-{secrets.token_hex(6)}"
        where = self.url or str(self.desk.folder.database)
        self.fork = PROCESSES.Process(target=work, args=(str(self.desk.folder.root), where, self.name))
        self.fork.start()
        self.began = time.perf_counter()

    def kill(self, what: str) -> None:
        """Kill the worker, and start another."""
        self.fork.kill()
        self.fork.join()
        if what == "worker":
            Leases(self.desk.store.database, patience=PATIENCE).crashed(self.name, "It was killed.")
        self.start()

    def stop(self) -> None:
        """End it by SIGTERM."""
        self.fork.terminate()
        self.fork.join(_LONGEST)


def work(data: str, where: str, name: str) -> None:
    """The body of a forked worker."""
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    leases = Leases(Database.open(where, create=False), patience=PATIENCE)
    Worker(leases, DataFolder(Path(data)), name=name, stop=stop, pace=PACE).run()


def wait_for(what: Callable[[], object], every: float = 0.05) -> None:
    """Look until it is so."""
    until = time.perf_counter() + _LONGEST
    while not what():
        if time.perf_counter() > until:
            raise RuntimeError("nothing happened for too long")
        time.sleep(every)


@contextmanager
def service(kind: type[Service], folder: Path, url: str | None, material: Media) -> Iterator[Service]:
    """A running service."""
    made = kind(folder, url, material)
    made.start()
    try:
        yield made
    finally:
        made.stop()
        made.desk.close()


def undisturbed(kind: type[Service], folder: Path, material: Media, jobs: int) -> Media:
    """The hashes of videos that nobody disturbs, and how long a queue of them takes."""
    with service(kind, folder, None, material) as whole:
        made = [whole.submit(seed) for seed in range(jobs)]
        wait_for(lambda: all(whole.state(job).ended for job in made))
        duration = time.perf_counter() - whole.began
        hashes = tuple(hash_of(whole, job) for job in made)
    return Media(material.image, material.audio, material.settings, duration, hashes)


def hash_of(made: Service, job: Job) -> str:
    """SHA-256 of a job's video; the words of its error when there is none."""
    done = made.desk.get(job.id)
    if done.error is not None:
        return f"{done.error.code}: {done.error.message}"
    return sha256(made.desk.folder.video(job.id).read_bytes()).hexdigest()


def endure(
    kind: type[Service], folder: Path, url: str | None, what: str, material: Media, *, kills: int, seed: int
) -> Ordeal:
    """Kill at every boundary of one video, then at random moments of queues of videos."""
    ordeal, moments = Ordeal("postgresql" if url else "sqlite", what), random.Random(seed)
    jobs: list[tuple[int, Job]] = []
    with service(kind, folder, url, material) as made:

        def fill() -> None:
            jobs.extend((seed, made.submit(seed)) for seed in range(len(material.whole)))

        def note(moment: float, job: Job | None) -> None:
            ordeal.moments.append(round(moment, 3))
            ordeal.windows_at_kills.append(made.windows(job) if job else 0)

        fill()
        first = jobs[0][1]
        for window in range(1, WINDOWS + 1):
            wait_for(lambda window=window: made.windows(first) >= window, 0.001)
            seen = made.notes(first)
            made.kill(what)
            ordeal.boundaries += 1
            logger.info("%s %s: killed after window %d", ordeal.store, what, window)
            wait_for(lambda window=window: made.windows(first) > window or window == WINDOWS)
            now = made.notes(first)
            ordeal.made_twice += sum(now[name] != seen[name] for name in seen.keys() & now.keys())
        while len(ordeal.moments) < kills:
            if all(made.state(job).ended for _, job in jobs):
                fill()
            moment = moments.uniform(0, material.duration)
            time.sleep(max(0.0, made.began + moment - time.perf_counter()))
            going = next((job for _, job in jobs if made.state(job) is State.RUNNING), None)
            if all(made.state(job).ended for _, job in jobs):
                continue  # it was over before: no kill that struck anything
            note(time.perf_counter() - made.began, going)
            made.kill(what)
            logger.info("%s %s: killed %d times", ordeal.store, what, len(ordeal.moments))
        wait_for(lambda: all(made.state(job).ended for _, job in jobs))
        judge(made, jobs, ordeal)
    return ordeal


def judge(made: Service, jobs: list[tuple[int, Job]], ordeal: Ordeal) -> None:
    """Look at what is left when all is over."""
    there = made.desk.list(newest_first=False)
    ordeal.jobs = len(jobs)
    ordeal.lost = len({job.id for _, job in jobs} - {job.id for job in there})
    ordeal.doubled = len(there) - len({job.id for job in there} & {job.id for _, job in jobs})
    ordeal.changed = sum(hash_of(made, job) != made.material.whole[seed] for seed, job in jobs)
    ends = [job.finished for job in there]
    ordeal.in_order = all(job.state is State.COMPLETED for job in there) and ends == sorted(ends)
    folders = {path.name for path in made.desk.folder.jobs.iterdir()}
    ordeal.doubled += len(folders ^ {job.id for _, job in jobs})
    ordeal.doubled += sum(take_of(made.desk.folder.video(job.id)).exists() for _, job in jobs)


def main() -> None:
    """Command line."""
    options = parser(__doc__ or "")
    options.add_argument("--kills", type=int, default=20)
    options.add_argument("--jobs", type=int, default=2, help="videos in a queue")
    options.add_argument("--forked", action="store_true", help="workers that begin with everything imported")
    asked = options.parse_args()
    logging.basicConfig(level=logging.ERROR, format="%(asctime)s %(message)s")
    logger.setLevel(logging.INFO)
    kind = Forked if asked.forked else Service
    from tests.bundles import save_tiny_bundle

    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        model = asked.model or save_tiny_bundle(folder / "model")
        material = media(SAMPLES / "portrait.png", model)
        material = undisturbed(kind, folder / "whole", material, asked.jobs)
        logger.info("an undisturbed queue takes %.1f s", material.duration)
        servers: list[str | None] = [None]
        if postgres.binaries() is not None:
            servers.append(stack.enter_context(postgres.server()))
        ordeals: list[dict[str, Any]] = []
        for server in servers:
            for seed, what in enumerate(WHAT):
                with ExitStack() as inner:
                    url = inner.enter_context(postgres.database(server)) if server else None
                    place = folder / f"{'postgresql' if url else 'sqlite'}-{what}"
                    ordeal = endure(kind, place, url, what, material, kills=asked.kills, seed=seed)
                sys.stderr.write(f"{ordeal}\n")
                ordeals.append(asdict(ordeal))
        found = {
            "processes": kind.__name__.lower(),
            "kills": sum(len(ordeal["moments"]) + ordeal["boundaries"] for ordeal in ordeals),
            "windows": WINDOWS,
            "queue_seconds": round(material.duration, 2),
            "ordeals": ordeals,
        }
        found["unavailable"] = [] if len(servers) == 2 else ["postgresql"]
    save("job_kills", asked.out, found)
    bad = any(
        o["lost"] or o["doubled"] or o["changed"] or o["made_twice"] or not o["in_order"] for o in ordeals
    )
    raise SystemExit(1 if bad else 0)


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
