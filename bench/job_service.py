"""A service without its HTTP server, to be killed: ``python -m bench.job_service FOLDER [URL]`` (``job_kills``)."""

from __future__ import annotations

import logging
import signal
import sys
import time
from pathlib import Path

from infinite_talk.jobs import DataFolder
from infinite_talk.jobs.heart import Pace
from infinite_talk.jobs.leases import Patience
from infinite_talk.jobs.presence import only_server
from infinite_talk.jobs.store import JobStore
from infinite_talk.jobs.supervisor import Supervisor

PACE = Pace(idle=0.05, listen=0.05, report=0.1)
PATIENCE = Patience(crashes=1000, interruptions=1000)
"""The kills of an ordeal are not the job's fault."""


def main() -> None:
    """Watch over one worker until SIGTERM."""

    def leave(_number: int, _frame: object) -> None:
        raise SystemExit

    logging.basicConfig(level=logging.ERROR)
    signal.signal(signal.SIGTERM, leave)
    folder, url = DataFolder(Path(sys.argv[1])), (sys.argv[2] if len(sys.argv) > 2 else None)
    store = JobStore.open(url or folder.database)
    with only_server(folder), Supervisor(store, folder, url, pace=PACE, patience=PATIENCE):
        while True:
            time.sleep(3600)


if __name__ == "__main__":
    main()
