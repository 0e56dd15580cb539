"""Does a machine with several GPUs make as many videos at a time, and go on when one of its workers is killed?

    python -m bench.job_gpus --folder /tmp/official --steps 2    # writes a random 14B checkpoint there, once

The real ``infinite-talk worker``: one worker process per GPU. Videos of one window are ordered, three for each GPU;
when the first one is finished a worker is killed by SIGKILL. All videos are made in the end, with the same bytes
whatever GPU made them, and no worker's memory stays on a GPU.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from pathlib import Path

import psutil
import torch

from bench.common import RATE, SAMPLES, parser, save, speech
from bench.official import write_official
from bench.sounds import write_wav
from infinite_talk import Quantization, Request, Settings, Speaker
from infinite_talk.jobs import Job, State
from infinite_talk.jobs.desk import Desk

FOR_EACH = 3
_LONGEST = 400.0


@dataclass
class Seen:
    """What happened."""

    gpus: int
    jobs: int
    at_once: int = 0
    """Most videos that were made at a time."""
    first_seconds: float = 0.0
    """From the start of the workers to the first finished video, reading the model included."""
    all_seconds: float = 0.0
    completed: int = 0
    different: int = 0
    """Videos whose bytes are not those of the first one."""
    memory: dict[str, list[int]] = field(default_factory=dict)
    """MiB in use on each GPU: before, while all worked, just after the kill, and after the end."""
    stop_seconds: float = 0.0


def main() -> None:
    """Command line."""
    options = parser(__doc__ or "")
    options.add_argument("--folder", type=Path, required=True, help="of the checkpoint")
    chosen = options.parse_args()
    settings = Settings(files=write_official(chosen.folder), quantization=Quantization.FP8_E4M3FN_SCALED_FAST)
    seen = Seen(gpus := torch.cuda.device_count(), jobs=FOR_EACH * gpus)
    with tempfile.TemporaryDirectory() as name:
        desk = Desk.open(Path(name) / "data")
        jobs = ordered(desk, settings, seen.jobs, chosen.steps, Path(name))
        watch(desk, jobs, seen)
        desk.close()
    save("job_gpus", chosen.out, {"result": asdict(seen)})


def ordered(desk: Desk, settings: Settings, count: int, steps: int | None, folder: Path) -> list[Job]:
    """Hand in as many times the same video."""
    recording = write_wav(folder / "speech.wav", speech(81 / 25), RATE).read_bytes()
    request = Request(
        image=Path("inputs/image"),
        speakers=(Speaker(audio=Path("inputs/audio")),),
        size="832x480!",
        steps=steps,
        max_frames=81,
        text_guidance=1.0,
        audio_guidance=1.0,
        seed=1,
    )
    jobs = []
    for _ in range(count):
        with desk.draft() as draft:
            draft.add("image", [(SAMPLES / "portrait.png").read_bytes()])
            draft.add("audio", [recording])
            jobs.append(desk.submit(draft, request, settings=settings))
    return jobs


def watch(desk: Desk, jobs: Sequence[Job], seen: Seen) -> None:
    """Let the workers make them, kill one in between, and end the others."""
    seen.memory["before"] = used()
    began = time.perf_counter()
    command = [sys.executable, "-m", "infinite_talk", "worker", "--data-dir", str(desk.folder.root)]
    workers = subprocess.Popen(command)
    killed = False
    while time.perf_counter() - began < _LONGEST:
        now = [desk.get(job.id).state for job in jobs]
        done, running = now.count(State.COMPLETED), now.count(State.RUNNING)
        seen.at_once = max(seen.at_once, running)
        if done and not killed and running == seen.gpus:
            seen.first_seconds = time.perf_counter() - began
            seen.memory["working"] = used()
            psutil.Process(workers.pid).children()[0].kill()
            time.sleep(0.5)
            seen.memory["killed"], killed = used(), True
        if all(state.ended for state in now):
            break
        time.sleep(0.2)
    seen.all_seconds, seen.completed = time.perf_counter() - began, done
    digests = [sha256(file.read_bytes()).digest() for job in jobs for file in videos(desk, job)]
    seen.different = sum(digest != digests[0] for digest in digests)
    began = time.perf_counter()
    workers.send_signal(signal.SIGTERM)
    workers.wait()
    seen.stop_seconds = time.perf_counter() - began
    seen.memory["after"] = used()


def videos(desk: Desk, job: Job) -> list[Path]:
    """The finished files of a job."""
    return list((desk.folder.jobs / job.id).rglob("*.mp4"))


def used() -> list[int]:
    """MiB in use on each GPU."""
    asked = ["nvidia-smi", "--query-gpu=memory.used", "--format=csv,noheader,nounits"]
    told = subprocess.run(asked, capture_output=True, text=True, check=True)
    return [int(line) for line in told.stdout.split()]


if __name__ == "__main__":
    main()
