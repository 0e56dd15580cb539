"""A run with made-up frames, as a process of its own that can be killed at any point."""

from __future__ import annotations

import multiprocessing
import os
import resource
import signal
import sys
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch

from infinite_talk.errors import InfiniteTalkError
from infinite_talk.media.recipe import Machine, Recipe, plan_hash
from infinite_talk.media.take import Take
from infinite_talk.types import Clip, Plan, Window
from tests.unit.media.fakes import ArraySound, pictures, tone

# Forked from a small process that has imported everything and runs no threads: quick, and safe with torch.
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload([__name__])

SIDE = 32
KILLED = -signal.SIGKILL


def plan_of(*news: int, shots: tuple[int, ...] = ()) -> Plan:
    """Windows that add ``news`` frames; each but the first of a shot continues from two frames."""
    windows, start = [], 0
    for index, new in enumerate(news):
        overlap = 0 if index == 0 or index in shots else 2
        windows.append(Window(index, start - overlap, new + overlap, overlap, new, start))
        start += new
    return Plan(tuple(windows), start)


def recipe_of(plan: Plan, **request: object) -> Recipe:
    return Recipe(
        request={"seed": 7, "steps": 4, "prompt": "ein Mensch spricht, 说话", **request},
        inputs=(),
        picture={"height": SIDE, "width": SIDE, "fps": 25, "frames": plan.length},
        plan={"windows": len(plan.windows), "sha256": plan_hash(plan)},
        machine=Machine("cpu", "fp32", 1, 20),
        model={"name": "made up", "sha256": "0" * 64},
        versions={"infinite_talk": "0", "torch": "0", "av": "0"},
    )


def clip_of(window: Window, motion: torch.Tensor | None) -> Clip:
    """Frames that depend on every bit of the motion frames, as a real model's do."""
    before = np.zeros((3, 2, SIDE, SIDE), np.float32) if motion is None else motion.numpy()
    trace = zlib.crc32(before.tobytes())
    frames = pictures(window.new, window.index * 10, SIDE, SIDE) // 2 + trace % 120
    noise = np.random.default_rng(trace + window.index).normal(size=(3, 3, SIDE, SIDE)).astype(np.float32)
    # One motion frame more than the next window needs.
    return Clip(window, torch.from_numpy(frames), torch.from_numpy(noise), seconds=time.perf_counter())


def make(output: Path, plan: Plan, *, pause: float = 0.0, **options: bool) -> Path:
    """A whole run, or the rest of one."""
    with Take.open(output, recipe_of(plan), plan, **options) as take:
        while not take.complete:
            take.add(clip_of(plan.windows[take.finished], take.motion()))
            time.sleep(pause)
        return take.finish(tone(plan.length / 25), report={"seconds": time.perf_counter()})


def run(target: Callable[..., None], *arguments: object) -> int | None:
    """Call ``target`` in a process and wait for it; its exit code, negative for a signal."""
    process = PROCESSES.Process(target=target, args=arguments)
    process.start()
    process.join()
    return process.exitcode


def on_file_operation(folder: Path, number: int, act: Callable[[], None]) -> list[int]:
    """Call ``act`` just before this process's file operation ``number`` inside ``folder`` (0: never).

    Python announces opening, renaming and deleting; FFmpeg's own writing lies between such events. Returns a
    list whose only element counts the operations.
    """
    counter = [0]

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        if event not in ("open", "os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.truncate"):
            return
        if str(arguments[0]).startswith(str(folder)):
            counter[0] += 1
            if counter[0] == number:
                act()

    sys.addaudithook(hook)
    return counter


def make_counting(output: Path, plan: Plan, result: Path) -> None:
    counter = on_file_operation(output.parent, 0, lambda: None)
    make(output, plan)
    total = counter[0]
    result.write_text(str(total))


def make_dying(output: Path, plan: Plan, operation: int) -> None:
    on_file_operation(output.parent, operation, lambda: os.kill(os.getpid(), signal.SIGKILL))
    make(output, plan)


class DeadlySound(ArraySound):
    """A soundtrack that kills the process that reads it, after ``deadly_after`` blocks."""

    deadly_after = 0

    def blocks(self, start: int = 0, end: int | None = None) -> Iterator[np.ndarray]:
        for number, block in enumerate(super().blocks(start, end)):
            if number == self.deadly_after:
                break
            yield block
        os.kill(os.getpid(), signal.SIGKILL)


def finish_dying(output: Path, plan: Plan, blocks: int) -> None:
    """Die in the middle of the last step, while sound and pictures are being joined."""
    whole = tone(plan.length / 25)
    sound = DeadlySound(whole.array, whole.rate)
    object.__setattr__(sound, "deadly_after", blocks)
    with Take.open(output, recipe_of(plan), plan) as take:
        take.finish(sound)


def make_slowly(output: Path, plan: Plan, pause: float) -> None:
    make(output, plan, pause=pause)


def make_refused(output: Path, plan: Plan, operation: int, code: int) -> None:
    """Have one file operation fail with ``errno`` ``code``; the same process then runs the command again."""

    def fail() -> None:
        raise OSError(code, os.strerror(code), str(output))

    on_file_operation(output.parent, operation, fail)
    try:
        make(output, plan)
    except InfiniteTalkError as error:
        assert error.exit_code == 6, error
        assert os.strerror(code) in str(error) or "full" in error.message or "permission" in error.message
        make(output, plan)


def make_limited(output: Path, plan: Plan, limit: int) -> None:
    """Run into a limit of the size of files, twice; go on where it stopped when it is lifted."""
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    for _ in range(2):
        try:
            make(output, plan)
        except InfiniteTalkError as error:
            assert (error.exit_code, error.code) == (6, "no_space"), error
            assert not output.exists()
        else:
            raise SystemExit(f"a limit of {limit} bytes was not noticed")
    resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    make(output, plan)


def hold(output: Path, plan: Plan, ready: Path) -> None:
    """Take the lock and keep it."""
    with Take.open(output, recipe_of(plan), plan):
        ready.write_text(str(os.getpid()))
        time.sleep(600)


def make_as_nobody(output: Path, plan: Plan) -> None:
    """Run without the right to write; succeeds when that is refused properly."""
    if os.geteuid() == 0:
        os.seteuid(65534)
    try:
        make(output, plan)
    except InfiniteTalkError as error:
        assert (error.exit_code, error.code) == (6, "not_writable"), error
        assert "permission" in error.message
    else:
        raise SystemExit("wrote into a read-only folder")
