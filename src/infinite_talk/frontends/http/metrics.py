"""Numbers for Prometheus: what waits and runs, how fast, how long it took, and the requests themselves."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from time import perf_counter

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from infinite_talk import InfiniteTalkError
from infinite_talk.jobs import Job, State
from infinite_talk.jobs.desk import Desk

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_LONG = (10, 30, 60, 120, 300, 600, 1800, 3600, 7200, 14_400, 43_200)
_ACTIVE = (State.QUEUED, State.RUNNING, State.PAUSED)


class Metrics:
    """The numbers of one application, in a registry of its own. Jobs are seen through the store alone."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self.registry = CollectorRegistry()
        name = "infinite_talk"
        self.requests = Counter(
            f"{name}_http_requests", "Requests.", ["method", "route", "status"], registry=self.registry
        )
        self.seconds = Histogram(
            f"{name}_http_request_seconds",
            "Until the answer's head is sent.",
            ["method", "route"],
            registry=self.registry,
        )
        self._ended = Counter(
            f"{name}_jobs_ended", "Jobs that this server saw end.", ["state"], registry=self.registry
        )
        self._took = Histogram(
            f"{name}_job_seconds",
            "From the first start of a completed job to its end.",
            buckets=_LONG,
            registry=self.registry,
        )
        self._waited = Histogram(
            f"{name}_job_wait_seconds",
            "From the order to the first start.",
            buckets=_LONG,
            registry=self.registry,
        )
        self._pace = Gauge(
            f"{name}_seconds_per_step",
            "Denoising step of the job that reported last.",
            registry=self.registry,
        )
        self.registry.register(_Queue(desk))
        self._active: set[str] = set()

    def look(self) -> None:
        """See what has become of jobs since the last look. Blocks."""
        jobs = self._desk.list(states=_ACTIVE)
        now = {job.id for job in jobs}
        for job in jobs:
            if job.state is State.RUNNING and job.progress.seconds_per_step is not None:
                self._pace.set(job.progress.seconds_per_step)
        gone = self._active - now
        self._active = now
        for job in self._found(gone):
            if job.state.ended:
                self._note(job)

    def text(self) -> bytes:
        """All numbers as Prometheus reads them. Blocks.

        Raises:
            StoreError: the store cannot be read.
        """
        return generate_latest(self.registry)

    def _note(self, job: Job) -> None:
        self._ended.labels(job.state).inc()
        if job.started is not None:
            self._waited.observe((job.started - job.created).total_seconds())
            if job.state is State.COMPLETED and job.finished is not None:
                self._took.observe((job.finished - job.started).total_seconds())

    def _found(self, ids: Iterable[str]) -> Iterator[Job]:
        for number in ids:
            try:
                yield self._desk.get(number)
            except InfiniteTalkError as error:
                if error.code != "job_not_found":  # it was deleted
                    raise


class _Queue:
    """Counts that the store knows at the moment of asking."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """For the registry."""
        counts = self._desk.store.counts()
        states = GaugeMetricFamily("infinite_talk_jobs", "Jobs by state.", labels=["state"])
        for state, count in counts.items():
            states.add_metric([state], count)
        yield states
        yield GaugeMetricFamily("infinite_talk_queue_length", "Jobs that wait.", value=counts[State.QUEUED])

    def describe(self) -> Iterator[GaugeMetricFamily]:
        """Names without asking the store."""
        yield GaugeMetricFamily("infinite_talk_jobs", "Jobs by state.", labels=["state"])
        yield GaugeMetricFamily("infinite_talk_queue_length", "Jobs that wait.")


class Counted:
    """Counts requests by route, not by path: ids would make a row each."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app, self._metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = perf_counter()

        async def heed(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._count(scope, message["status"], perf_counter() - began)
            await send(message)

        await self._app(scope, receive, heed)

    def _count(self, scope: Scope, status: int, seconds: float) -> None:
        route = getattr(scope.get("route"), "path", None)
        name = route if isinstance(route, str) else "page" if scope["path"].startswith("/ui") else "other"
        method = scope["method"] if scope["method"] in _METHODS else "other"
        self._metrics.requests.labels(method, name, str(status)).inc()
        self._metrics.seconds.labels(method, name).observe(seconds)


_METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}
