"""``infinite-talk models``: what presets there are, getting them, checking, explaining and converting files."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any

from infinite_talk import Precision, Quantization

from .show import Show, clean, duration, size
from .stop import Stop, polite_stop
from .talk import Run

if TYPE_CHECKING:
    from infinite_talk import PullProgress, Verified

_DAMAGED = 4  # the exit code of a model that is missing or damaged
_KEPT = "what has arrived is kept"
_SPEED_OVER = 20.0
"""Seconds over which the speed of a download is averaged."""


def list_models(models_dirs: Sequence[Path], run: Run) -> int:
    """Print the table of presets."""
    from infinite_talk import list_presets

    rows, values = [("preset", "for", "size", "GPU", "licence", "here")], []
    for state in list_presets(models_dirs):
        one, files = state.preset, len(state.preset.files)
        here = "yes" if state.complete else f"{state.present}/{files} files" if state.present else "no"
        gpu = f"{one.gpu_memory} GB" if one.gpu_memory else "part"
        rows.append((one.name, one.summary, size(one.size), gpu, ", ".join(one.licences), here))
        values.append(
            {
                "name": one.name,
                "summary": one.summary,
                "bytes": one.size,
                "bytes_missing": state.lacking,
                "gpu_memory_gib": one.gpu_memory,
                "people": one.people,
                "licences": list(one.licences),
                "whole_model": one.complete,
                "files": files,
                "files_here": state.present,
                "here": state.complete,
            }
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]
    lines += ["", "GPU: memory with which the whole model stays there; with less, it is streamed and slower."]
    run.result({"ok": True, "presets": values}, "\n".join(lines))
    return 0


def pull(name: str, to: Path | None, run: Run, *, dry_run: bool) -> int:
    """Download a preset with a line of progress."""
    from infinite_talk import list_presets, pull_preset

    states = {state.preset.name: state for state in list_presets((to,) if to else ())}
    if dry_run and name in states:
        state = states[name]
        missing = len(state.preset.files) - state.present
        text = f"{name}: {missing} of {len(state.preset.files)} files to fetch, about {size(state.lacking)}"
        run.result({"ok": True, "preset": name, "files": missing, "bytes": state.lacking}, text)
        return 0
    with polite_stop(_KEPT) as stop, Show(quiet=run.quiet) as show:
        if name in states and not states[name].complete:
            one = states[name].preset
            show.note(
                f"{name}: about {size(states[name].lacking)} to fetch, licence {', '.join(one.licences)}"
            )
        done = pull_preset(name, folder=to, progress=_Download(show, stop))
        for note in done.notes:
            show.warn(note)
    use = f"--models-dir {to} --model {name}" if to else f"--model {name}"
    whole = f", ready for {use}" if states[name].preset.complete else ""
    values = {
        "ok": True,
        "preset": name,
        "bytes": done.downloaded,
        "files": {key: str(path) for key, path in done.paths.items()},
        "notes": list(done.notes),
    }
    run.result(values, f"{name}: {size(done.downloaded)} fetched{whole}")
    return 0


def verify(what: Sequence[str], models_dirs: Sequence[Path], run: Run) -> int:
    """Check files; exit code 4 when one is damaged."""
    from infinite_talk import verify_models

    results: list[Verified] = []
    with polite_stop("nothing was changed") as stop, Show(quiet=run.quiet) as show:

        def hear(path: Path, done: int, whole: int) -> None:
            stop.check()
            show.status(
                f"checking {path.name}, {done / max(1, whole):.0%} of {size(whole)}", path, monotonic()
            )

        results += verify_models(list(what), models_dirs, progress=hear)
    damaged = [one for one in results if one.ok is False]
    words = {True: "ok       ", False: "DAMAGED  ", None: "unknown  "}
    lines = [f"{words[one.ok]}{clean(str(one.path))}  ({one.source})" for one in results]
    if damaged:
        lines.append(f"{len(damaged)} damaged: delete and get them again with 'infinite-talk models pull'.")
    values = [
        {
            "path": str(one.path),
            "ok": one.ok,
            "expected": one.expected,
            "found": one.found,
            "source": one.source,
        }
        for one in results
    ]
    run.result({"ok": not damaged, "files": values}, "\n".join(lines))
    return _DAMAGED if damaged else 0


def show_files(files: Sequence[Path], run: Run, *, allow_pickle: bool) -> int:
    """Explain files; exit code 4 when one cannot be used."""
    from infinite_talk import identify_model

    found = [identify_model(path, allow_pickle=allow_pickle) for path in files]
    lines: list[str] = []
    values: list[dict[str, Any]] = []
    for path, one in zip(files, found, strict=True):
        shares = [{"dtype": s.dtype, "tensors": s.tensors, "bytes": s.nbytes} for s in one.census]
        values.append(
            {
                "path": str(path),
                "part": one.part,
                "dialect": one.dialect,
                "precision": one.precision,
                "census": shares,
                "bytes": one.nbytes,
                "speech_branch": one.has_speech,
                "sizes": str(one.config) if one.config else None,
                "missing": one.missing,
                "reason": one.reason,
                "notes": list(one.notes),
            }
        )
        changes = _changes(path) if one.part == "lora" else None
        values[-1]["changes"] = changes
        lines += [clean(str(path)), *(f"  {line}" for line in _explained(one, changes))]
    usable = all(one.reason is None for one in found)
    run.result({"ok": usable, "files": values}, "\n".join(lines))
    return 0 if usable else _DAMAGED


def _changes(path: Path) -> str:
    from infinite_talk import CheckpointError, describe_lora

    try:
        return describe_lora(path)
    except CheckpointError as error:
        return error.message


def _explained(one: Any, changes: str | None) -> list[str]:  # noqa: ANN401 - weights.checkpoint.Identified
    """What a file is, a line for each thing that is known."""
    census = ", ".join(
        f"{share.dtype}: {share.tensors} tensors, {size(share.nbytes)}" for share in one.census
    )
    rows = {
        "what": one.part and str(one.part).replace("_", " "),
        "dialect": one.dialect,
        "precision": one.precision,
        "tensors": f"{one.tensors}, {size(one.nbytes)} ({census})" if one.census else None,
        "sizes": _sizes(one.config) if one.config else None,
        "changes": changes,
        "speech": "has its speech branch" if one.has_speech else None,
        "missing": one.missing,
        "problem": one.reason,
        "note": "; ".join(one.notes) or None,
    }
    return [f"{name + ':':<11}{clean(str(text))}" for name, text in rows.items() if text]


_SIZES = {
    **{"dim": "width", "hidden_size": "width", "num_layers": "layers", "num_hidden_layers": "layers"},
    **{"num_heads": "heads", "num_attention_heads": "heads", "vocab_size": "tokens known"},
}
"""What people ask of a model's sizes, and what to call it; all of them are in ``--json``."""


def _sizes(config: Any) -> str:  # noqa: ANN401 - of any part
    """``width 5120, layers 40, heads 40``."""
    said = (f"{word} {getattr(config, name)}" for name, word in _SIZES.items() if hasattr(config, name))
    return ", ".join(said)


@dataclass(frozen=True, slots=True)
class Conversion:
    """What ``models convert`` was asked for."""

    source: Path
    output: Path
    adapter: Path | None = None
    quantization: Quantization | None = None
    precision: Precision | None = None
    allow_pickle: bool = False
    force: bool = False


def convert(wanted: Conversion, run: Run) -> int:
    """Write another file, with a line of progress."""
    from infinite_talk import convert_model

    with polite_stop("nothing was written") as stop, Show(quiet=run.quiet) as show:

        def hear(name: str, index: int, count: int) -> None:
            stop.check()
            show.status(f"weight {index + 1}/{count}: {name}", None, monotonic())

        done = convert_model(
            [wanted.source],
            wanted.output,
            adapter=wanted.adapter,
            quantization=wanted.quantization or Quantization.DISABLED,
            precision=wanted.precision or Precision.AUTO,
            allow_pickle=wanted.allow_pickle,
            overwrite=wanted.force,
            progress=hear,
        )
        for note in done.notes:
            show.warn(note)
    values = {
        "ok": True,
        "output": str(done.path),
        "part": done.part,
        "dialect": done.dialect,
        "precision_before": done.precision_before,
        "tensors": done.tensors,
        "bytes": done.size,
    }
    run.result(
        values, f"{clean(str(done.path))}: {done.part}, {size(done.size)}, was {done.precision_before}"
    )
    return 0


class _Download:
    """Hears a pull: shows share, speed and remaining time, and ends it when that was asked for."""

    def __init__(self, show: Show, stop: Stop) -> None:
        self._show, self._stop = show, stop
        self._seen: deque[tuple[float, int]] = deque()

    def __call__(self, event: PullProgress) -> None:
        self._stop.check()
        now = monotonic()
        key = (event.index, event.note is not None)
        self._show.status(download_line(event, self._speed(event, now)), key, now)

    def _speed(self, event: PullProgress, now: float) -> float | None:
        """Bytes per second of late."""
        self._seen.append((now, event.total_done))
        while now - self._seen[0][0] > _SPEED_OVER:
            self._seen.popleft()
        then, before = self._seen[0]
        seconds = now - then
        return (event.total_done - before) / seconds if seconds > 1 and event.total_done > before else None


def download_line(event: PullProgress, speed: float | None) -> str:
    """``12 %, 3.4 GB of 27.8 GB, 85 MB/s, 4:51 left, file 3/11: NAME``."""
    name = f"file {event.index + 1}/{event.files}: {event.file.rpartition('/')[2]}"
    if not event.total:
        return f"{event.note or 'asking'}, {name}"
    parts = [
        f"{event.total_done / event.total:.0%}",
        f"{size(event.total_done)} of {size(event.total)}",
    ]
    if event.note:
        parts.append(event.note)
    elif speed:
        parts += [f"{size(speed)}/s", f"{duration((event.total - event.total_done) / speed)} left"]
    return ", ".join([*parts, name])
