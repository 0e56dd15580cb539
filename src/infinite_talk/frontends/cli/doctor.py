"""``infinite-talk doctor``: what this machine has, and what will run on it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from infinite_talk import CheckpointError

from .config import Options
from .jobs import store_health
from .machine import inspect
from .show import size
from .talk import Run

EMBEDDED_MEMORY = 2e9
"""Bytes of memory that the embedded model stays below."""
LARGE_WEIGHTS = 46e9
"""Bytes of the 14B model's weights in bf16: transformer 37.8 GB, text encoder 5.7 * 2 GB at most, the rest 2 GB."""
LARGE_GPU = 60e9
"""GPU bytes from which the 14B model stays on the GPU as a whole, in bf16 at 480p (docs/hardware.md)."""
SMALL_GPU = 7.5e9
"""GPU bytes from which it runs with its blocks in host memory."""


def doctor(options: Options, run: Run) -> int:
    """Print the report. Returns 0 when the embedded model runs here, 4 when its files are damaged, else 1."""
    found = inspect(Path.cwd())
    found["embedded_model"] = _embedded()
    found["service"] = store_health(options)
    found["verdict"] = _verdict(found)
    damaged = not found["embedded_model"]["ok"]
    able = all(found["media"]["encoders"][name] for name in ("libx264", "aac"))
    found["ok"] = not damaged and able and (found["service"] is None or found["service"]["ok"])
    run.result(found, "\n".join(_lines(found)))
    return 0 if found["ok"] else 4 if damaged else 1


def _embedded() -> dict[str, Any]:
    """Are the files of the embedded model there and unchanged?"""
    from infinite_talk import verify_model

    try:
        model = verify_model(None)
    except CheckpointError as error:
        return {"ok": False, "problem": error.message}
    return {"ok": True, "name": model.name, "version": model.version, "bytes": model.size}


def _verdict(found: dict[str, Any]) -> list[str]:
    """One line for each model: does it run here?"""
    memory, gpus = found["memory"], found["gpus"]
    where = gpus[0]["name"] if gpus else f"the CPU ({found['cpu']['usable']} cores)"
    lines = []
    if not found["embedded_model"]["ok"]:
        lines.append("embedded model: no, its files are damaged; install the package again")
    elif memory["available"] < EMBEDDED_MEMORY:
        lines.append(
            f"embedded model: barely, {size(memory['available'])} of memory are free, 2 GB are wanted"
        )
    else:
        lines.append(f"embedded model: yes, on {where}")
    largest = max((gpu["memory"] for gpu in gpus), default=0)
    if largest >= LARGE_GPU:
        lines.append(f"14B model: yes, on {where}")
    elif largest >= SMALL_GPU:
        lines.append(
            f"14B model: yes, on {where}, made to fit {size(largest)}: infinite-talk plan --model 14b says how"
        )
    elif largest:
        lines.append(f"14B model: no, it wants a GPU with {size(SMALL_GPU)} or more; found {size(largest)}")
    else:
        lines.append(
            f"14B model: only as a test of patience: no NVIDIA GPU, and {size(LARGE_WEIGHTS)} of weights"
        )
    return lines


def _lines(found: dict[str, Any]) -> list[str]:
    cpu, memory, disk, torch, media = (found[key] for key in ("cpu", "memory", "disk", "torch", "media"))
    model = found["embedded_model"]
    state = (
        f"{model['name']} {model['version']}, {size(model['bytes'])}, checksums agree"
        if model["ok"]
        else model["problem"]
    )
    gpus = [f"{g['name']}, {size(g['memory'])}, compute capability {g['capability']}" for g in found["gpus"]]
    rows = {
        "system": f"{found['system']['os']}, Python {found['system']['python']}",
        "cpu": f"{cpu['name']}, {cpu['usable']} cores usable",
        "memory": f"{size(memory['total'])}, {size(memory['available'])} free",
        "disk": f"{size(disk['free'])} free in {disk['folder']}{'' if disk['writable'] else ', not writable'}",
        "torch": f"{torch['version']}, {torch['threads']} threads, CUDA {torch['cuda'] or 'no'}",
        "gpu": "; ".join(gpus) or "none",
        "attention": f"auto takes {found['attention']['used']}",
        "media": f"PyAV {media['pyav']}, libavcodec {media['libraries'].get('libavcodec')}, encoders "
        + ", ".join(name for name, there in media["encoders"].items() if there),
        "model": state,
    }
    if found["service"] is not None:
        rows["jobs"] = _service(found["service"])
    lines = [f"{name + ':':<11}{text}" for name, text in rows.items()]
    return [*lines, "", *_kernels(found), "", *_precisions(found), "", *found["verdict"]]


def _service(service: dict[str, Any]) -> str:
    """The store of jobs in one line."""
    if service["problem"] is not None:
        return f"{service['folder']}: {service['problem']}" if service["folder"] else service["problem"]
    counts = ", ".join(f"{count} {state}" for state, count in service["jobs"].items() if count)
    return f"{service['folder']}: the store is whole, {counts or 'no jobs'}"


def _kernels(found: dict[str, Any]) -> list[str]:
    """The attention kernels, one a line: name, exact or not, time, and what is missing."""
    rows = found["attention"]["kernels"]
    width = 2 + max(len(row["name"]) for row in rows)
    lines = [f"{'attention':<{width}}exact   ms"]
    for row in rows:
        took = "" if row["milliseconds"] is None else f"{row['milliseconds']:.3g}"
        says = row["version"] if row["usable"] else f"no: {row['why']}. {row['get']}".rstrip()
        lines.append(f"{row['name']:<{width}}{'yes' if row['exact'] else 'no':<5}{took:>5}   {says}")
    return lines


def _precisions(found: dict[str, Any]) -> list[str]:
    """The quantisations, one a line: name, and what runs if not that."""
    rows = found["precision"]
    native = ", ".join(row["name"] for row in rows if row["native"])
    return [f"quantisation as asked: {native}", *(row["why"] for row in rows if not row["native"])]
