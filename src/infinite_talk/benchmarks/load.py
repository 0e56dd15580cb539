"""From the start of a process to its first step, for a model's files: in a process of its own each time."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from infinite_talk.benchmarks.case import Case
from infinite_talk.benchmarks.clock import Spread
from infinite_talk.benchmarks.stand import Prepared, Stand, case_model
from infinite_talk.errors import CapabilityError, UsageError

CHILD = "infinite_talk.benchmarks.first_step"
LONGEST = 1200.0
"""Seconds after which a start is given up."""


def check_loadable(case: Case) -> None:
    """Loading needs files.

    Raises:
        UsageError: the case means random weights, or no folder.
    """
    named = case_model(case)
    if named == "14b":
        raise UsageError(
            "--what load reads a model's files, and --model 14b has none. Give a folder with --model FOLDER (python "
            "-m bench.memory_limits --folder FOLDER --write makes a random one), or --model embedded."
        )


def measure_load(prepared: Prepared, stand: Stand) -> dict[str, Any]:
    """The first start, and the ones after it, which find the files in memory and compiled kernels on disk."""
    starts = []
    for number in range(prepared.case.repeats + 1):
        stand.say(f"start {number + 1} of {prepared.case.repeats + 1}")
        starts.append(start(prepared, stand.folder))
    later = starts[1:]
    points = {name: [one["at"][name] for one in later] for name in later[0]["at"]}
    return {
        "first_seconds": starts[0]["at"]["first step"],
        "seconds": Spread.of(points["first step"]).as_dict(),
        "points": {name: Spread.of(times).median for name, times in points.items()},
        "says": "seconds from the start of the process, all of it counted; the first start is not in them",
        "notes": starts[-1]["notes"],
    }


def start(prepared: Prepared, folder: Path) -> dict[str, Any]:
    """One process from its start to its first step."""
    request, settings = prepared.job.request, prepared.runtime.settings
    asked = {
        "image": str(request.image),
        "speakers": [asdict(speaker) for speaker in request.speakers],
        "size": request.size,
        "frames": request.window_frames,
        "motion": request.motion_frames,
        "text": request.text_guidance,
        "audio": request.audio_guidance,
        "model": None if settings.model is None else str(settings.model),
        "models_dirs": [str(path) for path in settings.models_dirs],
        "device": str(settings.device),
        "precision": str(settings.precision),
        "quantization": str(settings.quantization),
        "attention": str(settings.attention),
    }
    job = folder / "first_step.json"
    job.write_text(json.dumps(asked, default=str), "utf-8")
    began = time.time()
    done = subprocess.run(
        [sys.executable, "-m", CHILD, str(job), repr(began)],
        capture_output=True,
        text=True,
        timeout=LONGEST,
        check=False,
    )
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    if done.returncode or not lines:
        said = (done.stderr.strip().splitlines() or ["nothing"])[-1]
        raise CapabilityError(f"A process that should load the model ended with {done.returncode}: {said}")
    found: dict[str, Any] = json.loads(lines[-1])
    return found
