"""The process of one worker: ``python -m infinite_talk.jobs.child``, started and watched by ``supervisor.py``.

The first line of its standard input is JSON that says what to do, so that no password is on a command line. The
input stays open as long as the parent lives; its end ends the worker at once, however the parent has died.
"""

from __future__ import annotations

import faulthandler
import json
import logging
import os
import signal
import sys
import threading
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from importlib import import_module
from pathlib import Path
from types import FrameType
from typing import Any

from infinite_talk.errors import InfiniteTalkError
from infinite_talk.jobs.database import Database
from infinite_talk.jobs.heart import Pace
from infinite_talk.jobs.leases import Leases, Patience
from infinite_talk.jobs.types import DataFolder
from infinite_talk.jobs.worker import BROKEN, Broken, Worker

logger = logging.getLogger(__name__)
ORPHANED = 71
"""Exit code of a worker whose parent is gone."""
NO_STORE = 72
"""Exit code of a worker that cannot use the store or the folder."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """What a worker process is told."""

    name: str
    data: str
    store: str
    level: int = logging.WARNING
    pace: Pace = field(default_factory=Pace)
    patience: Patience = field(default_factory=Patience)

    def to_line(self) -> bytes:
        """One line of JSON."""
        return json.dumps(asdict(self)).encode() + b"\n"

    @classmethod
    def from_line(cls, line: bytes) -> Task:
        """The inverse."""
        told: dict[str, Any] = json.loads(line)
        told |= {"pace": Pace(**told["pace"]), "patience": Patience(**told["patience"])}
        return cls(**told)


def main() -> int:
    """Work until SIGTERM, or until the parent is gone."""
    task = Task.from_line(sys.stdin.buffer.readline())
    logging.basicConfig(level=logging.WARNING, format=f"%(levelname)s {task.name}: %(message)s")
    logging.getLogger("infinite_talk").setLevel(task.level)
    faulthandler.enable()
    stop = threading.Event()

    def ask(_number: int, _frame: FrameType | None) -> None:
        stop.set()

    signal.signal(signal.SIGTERM, ask)
    signal.signal(
        signal.SIGINT, signal.SIG_IGN
    )  # Ctrl-C reaches the parent too, which then ends this process
    threading.Thread(target=_die_with_parent, name="parent", daemon=True).start()
    try:
        database = Database.open(task.store, create=False)
        leases = Leases(database, seconds=task.pace.lease, patience=task.patience)
        folder = DataFolder(Path(task.data))
        Worker(leases, folder, name=task.name, stop=stop, pace=task.pace, prepare=load_libraries).run()
    except Broken:
        return BROKEN
    except InfiniteTalkError as error:
        logger.error("%s", error.message)
        return NO_STORE
    return 0


def load_libraries() -> None:
    """Import what every video needs: seconds that the first one need not wait for. What is missing, it will tell."""
    with suppress(ImportError):
        import_module("infinite_talk.runtime")
        transformers: Any = import_module("transformers")
        for model in ("UMT5EncoderModel", "CLIPVisionModel", "Wav2Vec2Model"):
            getattr(transformers, model)  # comes when it is asked for


def _die_with_parent() -> None:
    """Whatever this process is doing: a take on disk is whole at every moment."""
    with suppress(OSError):
        while os.read(sys.stdin.fileno(), 1024):  # not the stream: at the end its lock would be in the way
            pass
    os._exit(ORPHANED)


if __name__ == "__main__":
    sys.exit(main())
