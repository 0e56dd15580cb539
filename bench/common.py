"""What all measurements share: where they ran, what they ran with, and the file that says so."""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import av
import numpy as np
import psutil
import soxr
import torch

import infinite_talk

SAMPLES = Path(infinite_talk.__file__).parent / "bundled" / "embedded"
"""The embedded model's folder, with its sample portrait and recording."""
RESULTS = Path(__file__).parent / "results"
RATE = 16_000
_PACKAGES = ("torch", "transformers", "av", "numpy", "safetensors")


def parser(question: str) -> argparse.ArgumentParser:
    """The options that all measurements have."""
    options = argparse.ArgumentParser(description=question)
    options.add_argument("--model", type=Path, help="folder of a model; default is the embedded one")
    options.add_argument("--steps", type=int, help="denoising steps; default is the model's")
    options.add_argument("--threads", type=int, help="CPU threads")
    options.add_argument("--seed", type=int, default=1)
    options.add_argument("--out", type=Path, help="JSON to write; default bench/results/NAME.json")
    return options


def save(name: str, out: Path | None, values: dict[str, Any]) -> Path:
    """Write one measurement with everything that is needed to judge and repeat it."""
    path = out or RESULTS / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    about = {
        "date": now(),
        "command": " ".join(["python", "-m", f"bench.{name}", *sys.argv[1:]]),
        "machine": machine(),
        "versions": versions(),
    }
    path.write_text(json.dumps(about | values, indent=2) + "\n")
    print(path)
    return path


def now() -> str:
    """The minute, in UTC."""
    return datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")


def machine() -> dict[str, Any]:
    """The computer, and how busy it is with other things."""
    return {
        "system": platform.platform(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "memory_bytes": psutil.virtual_memory().total,
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "load_average": [round(load, 2) for load in os.getloadavg()],
    }


def versions() -> dict[str, str]:
    """Of this program and what it stands on."""
    return {
        "infinite_talk": infinite_talk.__version__,
        "python": platform.python_version(),
        **{package: version(package) for package in _PACKAGES},
    }


def speech(seconds: float) -> np.ndarray:
    """The sample recording, said again and again: ``(S,)`` int16 at ``RATE``."""
    with av.open(str(SAMPLES / "speech.flac")) as container:
        rate = container.streams.audio[0].rate
        resampler = av.AudioResampler(format="flt", layout="mono", rate=rate)
        blocks = [r.to_ndarray()[0] for frame in container.decode(audio=0) for r in resampler.resample(frame)]
    once = soxr.resample(np.concatenate(blocks), rate, RATE)
    said = np.concatenate([once, np.zeros(RATE // 3, np.float32)])
    samples = np.resize(said, round(seconds * RATE))
    return (samples.clip(-1, 1) * 32767).astype(np.int16)


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next(
        (line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown"
    )
