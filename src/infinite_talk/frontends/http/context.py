"""What all routes share, and the few things that they all do."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ParamSpec, TypeVar

import anyio

from infinite_talk import Engine, Settings
from infinite_talk.frontends.http.changes import Changes
from infinite_talk.frontends.http.envelope import Refusal
from infinite_talk.frontends.http.metrics import Metrics
from infinite_talk.frontends.http.options import HttpOptions
from infinite_talk.frontends.http.references import Fetch
from infinite_talk.frontends.http.resource import DEFAULT_MODEL, VideoResource, resource_of
from infinite_talk.jobs import Job
from infinite_talk.jobs.desk import Desk
from infinite_talk.jobs.previews import Previews

_ID = re.compile(r"video_[0-9a-f]{32}")
Arguments = ParamSpec("Arguments")
Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True)
class Context:
    """The desk and those who help to show what is on it."""

    desk: Desk
    options: HttpOptions
    previews: Previews
    changes: Changes
    metrics: Metrics
    orders: anyio.CapacityLimiter
    """Orders that are checked at the same time; the others wait, and nobody else waits for them."""
    fetch: Fetch | None = None
    """Reads addresses; ``None``: they are refused."""

    def job(self, video_id: str) -> Job:
        """A job by its id. Blocks.

        Raises:
            Refusal: 404, no job can have this id.
            JobActionError: ``job_not_found``.
        """
        if not _ID.fullmatch(video_id):
            raise Refusal(404, "There is no such video.", code="job_not_found")
        return self.desk.get(video_id)

    def told(self, job: Job) -> VideoResource:
        """What clients see of it."""
        return resource_of(job, self.desk.retention)

    def models(self) -> Mapping[str, Settings]:
        """Settings by the name of their profile; one is always there. Blocks."""
        return {DEFAULT_MODEL: Settings(), **self.desk.store.profiles()}

    def settings(self, model: str | None) -> Settings:
        """Settings of a profile. Blocks.

        Raises:
            Refusal: 400, there is no such profile.
        """
        known = self.models()
        found = known.get(model or DEFAULT_MODEL)
        if found is None:
            raise Refusal(
                400,
                f"There is no model {(model or '')[:60]!r} here; known: {', '.join(known)}.",
                code="model_not_found",
                param="model",
            )
        return found


async def in_thread(
    function: Callable[Arguments, Answer], *arguments: Arguments.args, **named: Arguments.kwargs
) -> Answer:
    """Run what blocks in a thread."""
    return await anyio.to_thread.run_sync(lambda: function(*arguments, **named))


def window_frames(settings: Settings) -> int:
    """Frames of one window of the model that settings name.

    Raises:
        CheckpointError: the model's ``model.json`` is damaged.
    """
    return Engine(settings).defaults.window_frames
