"""How close is the memory planner, and does a run stay within its limit? One window of the 14B model at each limit.

python -m bench.memory_limits --folder /tmp/official --write                      # a random checkpoint, once
python -m bench.memory_limits --folder /tmp/official --budget-seconds 540         # cases until the time is up
python -m bench.memory_limits --folder /tmp/official --cases 8:fp8 24:bf16 0:int8 # some of them; 0 is no limit

Each case is a process of its own: the allocator is held to the limit (``set_per_process_memory_fraction``), the
engine to ``vram``, and a window of 81 frames at 480p is made in two steps. Results are written after every
case; cases that have a result are not made again without ``--again``.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bench.common import RATE, RESULTS, SAMPLES, machine, now, speech, versions
from bench.official import bytes_of, write_official
from bench.sounds import write_wav
from infinite_talk import Engine, Phase, Progress, Quantization, Request, Settings, Speaker
from infinite_talk.memory.speed import GIB

LIMITS = (8, 12, 16, 24, 48, 80, 0)
"""GiB; 0 is no limit."""
PRECISIONS = {
    "bf16": Quantization.DISABLED,
    "fp8": Quantization.FP8_E4M3FN_SCALED_FAST,
    "int8": Quantization.INT8,
    "nvfp4": Quantization.FP4_SCALED,
}
LONGEST = 240.0
"""Seconds that are left for a case when it is begun, and after which it is given up."""


class Watch:
    """Notes the host memory of this process while it runs."""

    def __init__(self) -> None:
        self.peak = {"rss": 0, "anonymous": 0, "shared": 0}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def stop(self) -> dict[str, int]:
        """The most of each kind that was seen."""
        self._stop.set()
        self._thread.join()
        return self.peak

    def _run(self) -> None:
        fields = {"VmRSS": "rss", "RssAnon": "anonymous", "RssShmem": "shared"}
        while not self._stop.wait(0.05):
            for line in Path("/proc/self/status").read_text().splitlines():
                name, _, rest = line.partition(":")
                if name in fields:
                    kind = fields[name]
                    self.peak[kind] = max(self.peak[kind], 1024 * int(rest.split()[0]))


class Times:
    """When each phase began, and each step was done."""

    def __init__(self) -> None:
        self.events: list[tuple[float, Progress]] = []

    def listen(self, event: Progress) -> None:
        """Progress listener."""
        torch.cuda.synchronize()
        self.events.append((time.perf_counter(), event))

    def steps(self) -> list[float]:
        """Seconds of each step; the first one has the conditions in it."""
        at = [t for t, e in self.events if e.phase is Phase.SAMPLING and not e.note]
        return [b - a for a, b in pairwise(at)]

    def between(self, first: Phase, then: Phase) -> float:
        """Seconds from the first event of one phase to the first later one of another."""
        begin = next((t for t, e in self.events if e.phase is first), 0.0)
        return next((t for t, e in self.events if e.phase is then and t > begin), begin) - begin


def one_case(folder: Path, gib: int, precision: str, steps: int, guided: bool) -> dict[str, Any]:
    """Make a window within a limit, in this process."""
    device = torch.device("cuda", 0)
    total = torch.cuda.get_device_properties(device).total_memory
    if gib:
        torch.cuda.set_per_process_memory_fraction(min(1.0, gib * GIB / total), device)
    settings = Settings(
        files=write_official(folder), quantization=PRECISIONS[precision], vram=float(gib) if gib else None
    )
    times, watch = Times(), Watch()
    engine = Engine(settings, progress=times.listen)
    with tempfile.TemporaryDirectory() as made:
        recording = write_wav(Path(made) / "speech.wav", speech(81 / 25), RATE)
        guidance = {} if guided else {"text_guidance": 1.0, "audio_guidance": 1.0}
        request = Request(
            image=SAMPLES / "portrait.png",
            speakers=(Speaker(audio=recording),),
            size="832x480!",
            steps=steps,
            max_frames=81,
            **guidance,
        )
        job = engine.prepare(request)
        plan = engine.runtime(1).plan(job.request, job.source, job.plan)
        torch.cuda.reset_peak_memory_stats(device)
        began = time.perf_counter()
        frames = [np.asarray(clip.frames) for clip in engine.clips(job)]
        seconds = time.perf_counter() - began
    passes = 3 if guided else 1
    each = times.steps()
    return {
        "ok": True,
        "strategy": plan.reason,
        "planned": plan.peak,
        "peak": torch.cuda.max_memory_allocated(device),
        "reserved": torch.cuda.max_memory_reserved(device),
        "planned_host": plan.host,
        "host": watch.stop()["anonymous"] + watch.peak["shared"],
        "host_seen": watch.peak,
        "load_seconds": times.between(Phase.LOADING, Phase.SAMPLING),
        "seconds_per_step": each[-1] if each else None,
        "seconds_per_pass": each[-1] / passes if each else None,
        "steps": each,
        "decode_seconds": times.between(Phase.DECODING, Phase.DONE),
        "seconds": seconds,
        "frames": int(sum(len(one) for one in frames)),
        "notes": [event.note for _, event in times.events if event.note],
        "plan": asdict(plan),
    }


def in_process(options: argparse.Namespace, gib: int, precision: str) -> dict[str, Any]:
    """Run a case in a process of its own; what kills that is a result too."""
    case = f"{gib}:{precision}"
    command = [sys.executable, "-m", "bench.memory_limits", "--folder", str(options.folder), "--inside", case]
    command += ["--steps", str(options.steps), *(["--guided"] if options.guided else [])]
    about = {"gib": gib, "precision": precision, "size": "480p", "guided": options.guided}
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=options.longest, check=False)
    except subprocess.TimeoutExpired:
        return about | {"ok": False, "problem": f"took longer than {options.longest:.0f} s"}
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    if done.returncode or not lines:
        return about | {"ok": False, "problem": (done.stderr or "no result")[-2000:], "exit": done.returncode}
    return about | json.loads(lines[-1])


def cases(asked: list[str] | None) -> list[tuple[int, str]]:
    """``8:fp8``, or all."""
    if not asked:
        return [(gib, precision) for gib in LIMITS for precision in PRECISIONS]
    return [(int(gib), precision) for gib, _, precision in (one.partition(":") for one in asked)]


def main() -> int:
    """Command line."""
    options = parse()
    if options.inside:
        gib, _, precision = options.inside.partition(":")
        try:
            print(json.dumps(one_case(options.folder, int(gib), precision, options.steps, options.guided)))
        except Exception:
            traceback.print_exc()
            return 1
        return 0
    began = time.monotonic()
    files = write_official(options.folder)
    print(
        f"checkpoint: {bytes_of([options.folder]) / 1e9:.1f} GB, {time.monotonic() - began:.0f} s", flush=True
    )
    if options.write:
        return 0
    assert files.text is not None
    rows = [] if options.again or not options.out.is_file() else json.loads(options.out.read_text())["rows"]
    for gib, precision in cases(options.cases):
        if any((row["gib"], row["precision"]) == (gib, precision) and row["ok"] for row in rows):
            continue
        if time.monotonic() - began > options.budget_seconds - 60:
            print("no time left; call again for the others", flush=True)
            break
        left = options.budget_seconds - (time.monotonic() - began)
        options.longest = min(LONGEST, left - 5)
        row = in_process(options, gib, precision) | {"gpu": machine()["gpu"], "date": now()}
        rows = [old for old in rows if (old["gib"], old["precision"]) != (gib, precision)] + [row]
        save(options.out, rows)
        print(summary(row), flush=True)
    return 0


def summary(row: dict[str, Any]) -> str:
    """One line."""
    head = f"{row['gib'] or 'no limit':>8} {row['precision']:>6}: "
    if not row["ok"]:
        return head + "FAILED " + row["problem"].strip().splitlines()[-1]
    off = row["planned"] / row["peak"] - 1
    return head + (
        f"peak {row['peak'] / GIB:.2f} GiB (planned {off:+.1%}), reserved {row['reserved'] / GIB:.2f}, host "
        f"{row['host'] / GIB:.1f} (planned {row['planned_host'] / GIB:.1f}), load {row['load_seconds']:.0f} s, "
        f"{row['seconds_per_pass'] or 0:.2f} s/pass; {row['strategy']}"
    )


def save(path: Path, rows: list[dict[str, Any]]) -> None:
    """All rows so far, smallest limit first, none last."""
    order = {name: i for i, name in enumerate(PRECISIONS)}
    rows.sort(key=lambda row: (row["gib"] or 1000, order[row["precision"]]))
    about = {"machine": machine(), "versions": versions()}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(about | {"rows": rows}, indent=2) + "\n")


def parse() -> argparse.Namespace:
    """The options."""
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument(
        "--folder", type=Path, required=True, help="where the random checkpoint is, or will be"
    )
    options.add_argument("--write", action="store_true", help="only write the checkpoint")
    options.add_argument("--cases", nargs="+", metavar="GIB:PRECISION", help="default: all")
    options.add_argument("--budget-seconds", type=float, default=570.0)
    options.add_argument("--steps", type=int, default=2)
    options.add_argument("--guided", action="store_true", help="three passes in each step instead of one")
    options.add_argument("--again", action="store_true", help="forget earlier results")
    options.add_argument("--out", type=Path, default=RESULTS / "memory_limits.json")
    options.add_argument("--inside", help=argparse.SUPPRESS)
    return options.parse_args()


if __name__ == "__main__":
    sys.exit(main())
