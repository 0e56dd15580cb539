"""``infinite-talk jobs``: look at the jobs of a service and change them, whether it runs or not."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import platformdirs

from infinite_talk import InfiniteTalkError

from .config import Options
from .exits import explain
from .show import clean, duration
from .talk import Run

if TYPE_CHECKING:
    from infinite_talk.jobs import Job, State
    from infinite_talk.jobs.desk import Desk


def data_dir_of(options: Options) -> Path:
    """The data folder: as was said, else the user's own."""
    return options.data_dir or platformdirs.user_data_path("infinite_talk")


@contextmanager
def opened(options: Options, *, create: bool = False) -> Iterator[Desk]:
    """The desk of a data folder."""
    from infinite_talk.jobs.desk import Desk

    desk = Desk.open(data_dir_of(options), store=options.database, create=create)
    try:
        yield desk
    finally:
        desk.close()


def list_jobs(options: Options, states: Sequence[State], limit: int, run: Run) -> int:
    """Print the newest jobs."""
    with opened(options) as desk:
        jobs = desk.list(limit=limit, states=states)
    text = "\n".join(_line(job) for job in jobs) or "There are no jobs."
    run.result({"ok": True, "jobs": [values(job) for job in jobs]}, text)
    return 0


def show_job(options: Options, job: str, run: Run) -> int:
    """Print all that is known of one job."""
    with opened(options) as desk:
        found = desk.get(job)
        told = values(found) | {"folder": str(desk.folder.of(found.id))}
    rows = [f"{name + ':':<18}{_shown(value)}" for name, value in told.items() if value not in (None, "", [])]
    run.result({"ok": True, "job": told}, clean("\n".join(rows)))
    return 0


def act(options: Options, verb: str, jobs: Sequence[str], run: Run) -> int:
    """``cancel``, ``pause``, ``resume``, ``retry`` or ``delete`` some jobs, one after the other."""
    told, lines = [], []
    with opened(options) as desk:
        doing: Mapping[str, Callable[[str], Job | None]] = {
            "cancel": desk.cancel,
            "pause": desk.pause,
            "resume": desk.resume,
            "retry": desk.retry,
            "delete": desk.delete,
        }
        for name in jobs:
            job = doing[verb](name)
            told.append({"id": name, "state": "deleted"} if job is None else values(job))
            lines.append(f"{name}  deleted" if job is None else _line(job))
    run.result({"ok": True, "jobs": told}, "\n".join(lines))
    return 0


def move(options: Options, job: str, before: str | None, run: Run) -> int:
    """Change the order of the queue."""
    with opened(options) as desk:
        moved = desk.move(job, before)
    run.result({"ok": True, "job": values(moved)}, _line(moved))
    return 0


def store_health(options: Options) -> dict[str, Any] | None:
    """What the doctor says of the store of jobs; ``None`` when there is none."""
    try:
        from infinite_talk.jobs import DataFolder
        from infinite_talk.jobs.desk import Desk
    except ModuleNotFoundError as error:  # videos are made without it
        return {"ok": options.database is None, "folder": None, "problem": explain(error).message}
    folder = DataFolder(data_dir_of(options).absolute())
    if options.database is None and not folder.database.is_file():
        return None
    told: dict[str, Any] = {"folder": str(folder.root)}
    try:
        desk = Desk.open(folder.root, store=options.database, create=False)
        problem = desk.store.database.problem()
        told["jobs"] = {state.value: count for state, count in desk.store.counts().items()}
        desk.close()
    except InfiniteTalkError as error:
        problem = error.message
    return told | {"ok": problem is None, "problem": problem}


def values(job: Job) -> dict[str, Any]:
    """A job for ``--json``."""
    progress = job.progress
    return {
        "id": job.id,
        "state": job.state.value,
        "wish": job.wish and job.wish.value,
        "title": job.order.title,
        "priority": job.priority,
        "position": job.position,
        "percent": round(progress.percent, 1),
        "phase": progress.phase and progress.phase.value,
        "window": progress.window,
        "windows": progress.windows,
        "step": progress.step,
        "steps": progress.steps,
        "seconds_per_step": progress.seconds_per_step,
        "eta": progress.eta,
        "runs": progress.runs,
        "notes": list(progress.notes),
        "attempts": job.attempts,
        "created": job.created.isoformat(),
        "started": job.started and job.started.isoformat(),
        "finished": job.finished and job.finished.isoformat(),
        "error": job.error and {"code": job.error.code, "message": job.error.message},
        "output": job.output,
        "worker": job.worker,
    }


def _line(job: Job) -> str:
    """``video_5e...  running    37%  window 2/6, 0:45 left  My title``."""
    progress, parts = job.progress, []
    if job.position is not None:
        parts.append(f"place {job.position}")
    if job.state == "running" and progress.windows:
        parts.append(f"window {min(progress.window + 1, progress.windows)}/{progress.windows}")
        if progress.eta is not None:
            parts.append(f"{duration(progress.eta)} left")
    if job.wish is not None:
        parts.append(f"to {job.wish}")
    if job.error is not None:
        parts.append(f"{job.error.code}: {job.error.message}")
    return clean(
        f"{job.id}  {job.state:<9} {progress.percent:5.1f}%  {', '.join(parts)}  {job.order.title}".rstrip()
    )


def _shown(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {one}" for name, one in value.items())
    return "; ".join(map(str, value)) if isinstance(value, list) else str(value)
