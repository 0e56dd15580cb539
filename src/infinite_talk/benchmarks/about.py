"""Where and with what a measurement was made."""

from __future__ import annotations

import os
import platform
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import psutil
import torch

from infinite_talk.version import __version__

_PACKAGES = (
    *("torch", "triton", "transformers", "diffusers", "numpy", "av"),
    *("fa3-fwd", "flash-attn", "flash-attn-4", "sageattention"),
)


def about(command: str, device: torch.device) -> dict[str, Any]:
    """Date, command, machine and versions."""
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "command": command,
        "machine": machine(device),
        "versions": versions(),
    }


def machine(device: torch.device) -> dict[str, Any]:
    """The computer, the card that is measured, and how busy the computer is with other things."""
    found: dict[str, Any] = {
        "system": platform.platform(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "memory_bytes": psutil.virtual_memory().total,
        "load_average": [round(load, 2) for load in psutil.getloadavg()],
        "gpu": None,
    }
    if device.type == "cuda":
        card = torch.cuda.get_device_properties(device)
        found["gpu"] = card.name
        found["gpu_memory_bytes"] = card.total_memory
        found["gpu_multiprocessors"] = card.multi_processor_count
        found["capability"] = f"{card.major}.{card.minor}"
    return found


def versions() -> dict[str, str | None]:
    """Of this program and what it stands on; packages that are not there are left out."""
    found = {"infinite_talk": __version__, "python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return {**found, "cuda": torch.version.cuda}


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        return platform.processor()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, "unknown")
