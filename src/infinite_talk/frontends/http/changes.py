"""One look at the store for all who follow jobs: streams of events, previews, metrics."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from starlette.concurrency import run_in_threadpool

from infinite_talk import InfiniteTalkError
from infinite_talk.frontends.http.envelope import LIMIT, Refusal
from infinite_talk.jobs.desk import Desk

_log = logging.getLogger(__name__)


class Changes:
    """Wakes everybody when any job has changed.

    Args:
        desk: whose store is watched.
        poll: seconds that one look waits; also how long a stop takes.
        streams: that may be open at the same time.
    """

    def __init__(self, desk: Desk, *, poll: float, streams: int) -> None:
        self._desk, self._poll, self._left = desk, poll, streams
        self._news = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self.stopping = asyncio.Event()
        """The server ends; streams end with it."""

    async def watch(self) -> None:
        """Run until cancelled."""
        self._loop, seen = asyncio.get_running_loop(), -1
        while True:
            try:
                counter = await run_in_threadpool(self._desk.store.wait_for_change, seen, self._poll)
            except InfiniteTalkError as error:
                _log.warning("the store of jobs cannot be watched: %s", error.message)
                counter = seen
                await asyncio.sleep(self._poll)
            if counter != seen:
                seen = counter
                self.wake()

    def stop(self) -> None:
        """Have all streams end; from any thread, or a signal handler."""
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self.stopping.set)

    def wake(self) -> None:
        """Let everybody look."""
        news, self._news = self._news, asyncio.Event()
        news.set()

    async def next(self, timeout: float) -> None:
        """Wait for a change, the end of the server, or ``timeout`` seconds."""
        waiting = [asyncio.ensure_future(event.wait()) for event in (self._news, self.stopping)]
        try:
            await asyncio.wait(waiting, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in waiting:
                task.cancel()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Watch during the block."""
        task = asyncio.create_task(self.watch())
        try:
            yield
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    def enter(self) -> None:
        """Count one more stream.

        Raises:
            Refusal: 429, there are too many.
        """
        if self._left <= 0:
            raise Refusal(
                429,
                "Too many streams are open on this server. Close some, or ask for the video's state instead.",
                code="too_many_streams",
                kind=LIMIT,
                headers={"retry-after": "5"},
            )
        self._left -= 1

    def leave(self) -> None:
        """One stream less."""
        self._left += 1
