"""How long uploads stay that nobody hands in. What is handed in is copied into its job's folder.

Gradio removes what it remembers of this process: not what broke off on its way, nor what was there before a restart.
Here the folder itself is looked at.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import shutil
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
from fastapi import FastAPI

DAY = 86_400.0
"""Seconds after which a complete upload goes; a page may be open for long."""
BROKEN = 600.0
"""Seconds after the last byte of an upload that is not complete; the server gives up a sender long before."""
PAUSE = 300.0
"""Seconds between two looks."""
SAMPLES = "samples"
"""Folder of the page's own files: always the same few, so they stay."""
log = logging.getLogger(__name__)


def sweep(folder: Path, now: float) -> tuple[Path, ...]:
    """Remove what has outlived its time; returns what was removed.

    Args:
        folder: of uploads. Gradio writes a file into it while it arrives and moves it into a folder of its own when it
            is complete.
        now: seconds since the epoch, as in ``st_mtime``.
    """
    removed = []
    for entry in folder.iterdir():
        if entry.name == SAMPLES:
            continue
        with contextlib.suppress(OSError):  # gone meanwhile, or not ours to remove: the others still are
            inside = entry.is_dir() and not entry.is_symlink()
            if now - _touched(entry, inside) <= (DAY if inside else BROKEN):
                continue
            if inside:
                shutil.rmtree(entry)
            else:
                entry.unlink()
            removed.append(entry)
    return tuple(removed)


def _touched(entry: Path, inside: bool) -> float:
    """When something was written last: to a file, or to anything in a folder."""
    times = [entry.lstat().st_mtime]
    if inside:
        times += [part.lstat().st_mtime for part in entry.iterdir()]
    return max(times)


def keep_swept(application: FastAPI, folder: Path, pause: float = PAUSE) -> None:
    """Sweep now and then as long as the application runs."""
    inner = application.router.lifespan_context

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[Any]:
        async with inner(app) as state:
            task = asyncio.create_task(_sweeping(folder, pause))
            try:
                yield state
            finally:
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task

    application.router.lifespan_context = lifespan


async def _sweeping(folder: Path, pause: float) -> None:
    while True:
        try:
            removed = await anyio.to_thread.run_sync(sweep, folder, time.time())
        except OSError as error:
            log.warning("uploads were not looked at: %s", error)
        else:
            if removed:
                log.info("%d uploads were removed that nobody had handed in", len(removed))
        await asyncio.sleep(pause)
