"""What this machine has, as plain values; nothing here changes anything."""

from __future__ import annotations

import os
import platform
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any


def inspect(folder: Path) -> dict[str, Any]:
    """Everything ``doctor`` reports, by section; ``folder`` is where a video would be written."""
    return {
        "system": {"os": platform.platform(), "python": platform.python_version()},
        "cpu": _cpu(),
        "memory": _memory(),
        "disk": {
            "folder": str(folder),
            "free": shutil.disk_usage(folder).free,
            "writable": os.access(folder, os.W_OK),
        },
        "torch": _torch(),
        "gpus": _gpus(),
        "attention": _attention(),
        "precision": _precision(),
        "media": _media(),
    }


def _cpu() -> dict[str, Any]:
    import psutil

    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {"name": _cpu_name(), "cores": psutil.cpu_count(logical=False) or usable, "usable": usable}


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        return platform.processor() or "unknown"
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _memory() -> dict[str, Any]:
    import psutil

    memory = psutil.virtual_memory()
    return {"total": memory.total, "available": memory.available}


def _torch() -> dict[str, Any]:
    import torch

    return {"version": torch.__version__, "threads": torch.get_num_threads(), "cuda": torch.version.cuda}


def _gpus() -> list[dict[str, Any]]:
    import torch

    if not torch.cuda.is_available():
        return []
    found = []
    for index in range(torch.cuda.device_count()):
        free, total = torch.cuda.mem_get_info(index)
        major, minor = torch.cuda.get_device_capability(index)
        name = torch.cuda.get_device_name(index)
        found.append({"name": name, "capability": f"{major}.{minor}", "memory": total, "free": free})
    return found


def _attention() -> dict[str, Any]:
    """Every kernel, tried and timed, and what ``--attention auto`` would take."""
    from infinite_talk import attention_matrix

    rows = attention_matrix()
    return {"used": next(row.name for row in rows if row.chosen), "kernels": [asdict(row) for row in rows]}


def _precision() -> list[dict[str, Any]]:
    from infinite_talk import precision_matrix

    return [asdict(row) for row in precision_matrix()]


def _media() -> dict[str, Any]:
    import av
    from av.codec import Codec

    libraries = {name: ".".join(map(str, number)) for name, number in sorted(av.library_versions.items())}
    encoders = {name: _has_encoder(Codec, name) for name in ("libx264", "aac", "h264_nvenc")}
    return {"pyav": av.__version__, "libraries": libraries, "encoders": encoders}


def _has_encoder(codec: Any, name: str) -> bool:  # noqa: ANN401 - PyAV has no types
    try:
        codec(name, "w")
    except Exception:  # PyAV raises different classes for "unknown" in different versions
        return False
    return True
