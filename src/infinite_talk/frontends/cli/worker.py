"""``infinite-talk worker``: make the videos of a service on this machine."""

from __future__ import annotations

from .config import Options
from .jobs import opened
from .show import Show
from .stop import polite_stop
from .talk import Run


def worker(options: Options, count: int | None, run: Run) -> int:
    """Start the workers and watch them until Ctrl-C or SIGTERM."""
    from infinite_talk.jobs.supervisor import Supervisor, slots_here

    kept = "the running job goes back to its place in the queue"
    with (
        polite_stop(kept, "any worker continues it") as stop,
        Show(quiet=run.quiet) as show,
        opened(options) as desk,
        Supervisor(desk.store, desk.folder, options.database, slots=slots_here(count)) as supervisor,
    ):
        show.note(f"{supervisor.slots} workers make the videos of {desk.folder.root}")
        while True:
            stop.wait(0.5)
            stop.check()
