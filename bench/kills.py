"""Does a run that is killed at random moments, and started again each time, end in the same bytes?

    python -m bench.kills --kills 20 --seconds 15

Every attempt is the real command in a process of its own, ended by SIGKILL.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path

from bench.common import RATE, SAMPLES, parser, save, speech
from bench.sounds import write_wav

Attempt = Callable[[Path, float | None], int | None]
"""Runs the command for an output; kills it after so many seconds (``None``: never). Returns the exit code."""
KILLED = -signal.SIGKILL
NOTHING_TO_DO = 6
"""The exit code when the output is there already: the attempt before was killed when it had just one empty
folder left to remove."""


@dataclass(frozen=True)
class Kill:
    """One kill, and what it found on the disk."""

    moment: float  # seconds after the start of the process
    windows: int  # finished so far
    named: bool  # whether the video had its name already


@dataclass(frozen=True)
class Ordeal:
    """All kills, and the hashes of the videos that were finished in spite of them."""

    kills: list[Kill]
    videos: list[str]


def endure(attempt: Attempt, folder: Path, *, duration: float, kills: int, seed: int) -> Ordeal:
    """Kill until it was done ``kills`` times, then let the last video be finished.

    Moments are spread over ``duration``, what a whole run lasts. The rest of a video takes less, so some
    attempts come to their end: then a new video begins. A machine that has become faster since ``duration``
    was measured is noticed, so that kills go on striking.

    Raises:
        RuntimeError: an attempt ended with an error, or nothing more can be killed.
    """
    moments, found, videos = random.Random(seed), list[Kill](), list[str]()
    for number in range(10 * kills):
        output = folder / f"{len(videos)}.mp4"
        moment = moments.uniform(0, duration) if len(found) < kills else None
        fresh, began = not take_of(output).exists(), time.perf_counter()
        code = attempt(output, moment)
        if code == 0 and fresh:
            duration = min(duration, time.perf_counter() - began)
        if code == KILLED and moment is not None:
            found.append(Kill(round(moment, 3), windows_in(output), output.exists()))
        elif code != 0 and not (code == NOTHING_TO_DO and finished(output)):
            raise RuntimeError(f"attempt {number + 1} ended with exit code {code}")
        if finished(output):
            videos.append(sha256(output.read_bytes()).hexdigest())
            if len(found) >= kills:
                return Ordeal(found, videos)
    raise RuntimeError(f"only {len(found)} of {kills} kills struck a running process")


def finished(output: Path) -> bool:
    """Whether nothing is left to do for a video."""
    return output.exists() and not take_of(output).exists()


def take_of(output: Path) -> Path:
    """The folder in which a video grows."""
    return output.with_name(output.name + ".take")


def windows_in(output: Path) -> int:
    """Windows of an unfinished video that are safe on the disk."""
    return len(list(take_of(output).glob("window-*.json")))


def commanded(*arguments: str) -> Attempt:
    """``infinite-talk generate`` with these arguments."""
    program = [sys.executable, "-c", "from infinite_talk.frontends.cli.main import main; main()", "generate"]

    def attempt(output: Path, moment: float | None) -> int:
        command = [*program, *arguments, "--quiet", "-o", str(output)]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, env=os.environ)
        try:
            return process.wait(moment)
        except subprocess.TimeoutExpired:
            process.kill()
            return process.wait()

    return attempt


def main() -> None:
    """Command line."""
    options = parser(__doc__ or "")
    options.add_argument("--kills", type=int, default=20)
    options.add_argument("--seconds", type=float, default=15, help="length of the recording")
    asked = options.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        recording = write_wav(folder / "speech.wav", speech(asked.seconds), RATE)
        chosen = {"--model": asked.model, "--steps": asked.steps, "--threads": asked.threads}
        extra = [str(part) for item in chosen.items() if item[1] is not None for part in item]
        attempt = commanded("--image", str(SAMPLES / "portrait.png"), "--audio", str(recording), *extra)
        began = time.perf_counter()
        if attempt(folder / "whole.mp4", None) != 0:
            raise SystemExit("the undisturbed run failed")
        duration = time.perf_counter() - began
        whole = sha256((folder / "whole.mp4").read_bytes()).hexdigest()
        ordeal = endure(attempt, folder, duration=duration, kills=asked.kills, seed=asked.seed)
    same = set(ordeal.videos) == {whole}
    values = {"same_bytes": same, "sha256": whole, "undisturbed_seconds": round(duration, 2)}
    save("kills", asked.out, {**values, "seconds_of_speech": asked.seconds, **asdict(ordeal)})
    raise SystemExit(0 if same else 1)


if __name__ == "__main__":
    main()
