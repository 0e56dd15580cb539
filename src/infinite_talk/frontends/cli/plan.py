"""``infinite-talk plan``: what a run would need and how it would fit; nothing is loaded."""

from __future__ import annotations

import sys
from dataclasses import asdict
from io import StringIO
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from infinite_talk import Request, Settings

from .show import clean, duration, size
from .talk import Run

if TYPE_CHECKING:
    from infinite_talk import Forecast

GIB = 1 << 30
_WORDS = {
    "text": "text encoder",
    "speech": "speech encoder",
    "image": "image encoder",
    "encode": "pictures to latents",
    "denoise": "denoising",
    "decode": "latents to frames",
}


def plan(request: Request, settings: Settings, run: Run) -> int:
    """Print the plan."""
    from infinite_talk import plan_run

    found = plan_run(request, settings)
    run.result(values(found), "" if run.json else text(found, terminal=sys.stdout.isatty()))
    return 0


def values(found: Forecast) -> dict[str, Any]:
    """For ``--json``; memory in bytes."""
    plan = asdict(found.plan)
    plan["stages"] = [asdict(stage) for stage in found.plan.stages]
    return {
        "ok": True,
        "model": found.model,
        "kept": found.kept,
        "device": found.device,
        "width": found.work.size.width,
        "height": found.work.size.height,
        "window_frames": found.work.frames,
        "windows": found.work.windows,
        "steps": found.work.steps,
        "branches": found.work.branches,
        "seconds_of_video": found.seconds,
        "seconds_per_window": found.plan.seconds_per_window,
        "seconds": found.run_seconds,
        "disk_model": found.disk,
        "disk_take": found.take,
        "driver": found.context,
        "notes": list(found.notes),
        "plan": plan,
    }


def text(found: Forecast, *, terminal: bool) -> str:
    """The table of stages and what it comes to; with rules and colours on a terminal."""
    table = Table(box=None if not terminal else _box(), pad_edge=False, show_edge=False, header_style="bold")
    table.add_column("stage")
    for heading in ("weights", "activations", "workspace", "peak", "time"):
        table.add_column(heading, justify="right")
    peak = max(stage.peak for stage in found.plan.stages)
    for stage in found.plan.stages:
        cells = [_gib(b) for b in (stage.weights, stage.activations, stage.workspace, stage.peak)]
        style = "bold" if terminal and stage.peak == peak else None
        table.add_row(_WORDS[stage.name], *cells, _time(stage.seconds), style=style)
    stream = StringIO()
    console = Console(file=stream, force_terminal=terminal, width=100, highlight=False)
    console.print(table)
    return "\n".join([*_head(found), "", stream.getvalue().rstrip(), "", *_foot(found)])


def _box() -> Any:  # noqa: ANN401 - rich's boxes have no public type
    from rich.box import SIMPLE_HEAD

    return SIMPLE_HEAD


def _head(found: Forecast) -> list[str]:
    work = found.work
    window = f"{work.frames} frames in {work.steps} steps of {work.branches} pass" + "es" * (
        work.branches != 1
    )
    count = f"{work.windows} window" + "s" * (work.windows != 1)
    return [
        clean(f"{found.model} ({found.kept}), {work.size.width}x{work.size.height}"),
        f"{duration(found.seconds)} of video in {count} of {window}",
    ]


def _foot(found: Forecast) -> list[str]:
    plan = found.plan
    driver = f", and about {_gib(found.context)} GiB for the driver" if found.context else ""
    rows = {
        "strategy": plan.reason,
        "device": f"{_gib(plan.peak)} GiB at the worst moment{driver}",
        "host": f"{_gib(plan.host)} GiB of memory" if found.gpu else "the device is this machine's memory",
        "disk": f"{size(found.disk)} of model files, about {size(found.take)} for the growing video",
        "time": f"about {duration(plan.seconds_per_window)} for each window, {duration(found.run_seconds)} in all, "
        f"on {found.device}; loading not counted",
    }
    lines = [f"{name + ':':<10}{said}" for name, said in rows.items()]
    return lines + [clean(f"note: {note}") for note in found.notes]


def _gib(bytes_: float) -> str:
    return f"{bytes_ / GIB:.2f}"


def _time(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 60 else duration(seconds)
