"""For those who watch over the server: is it alive, is it ready, how is it doing, what can it do."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from time import time
from typing import Literal

from fastapi import APIRouter, Response
from pydantic import BaseModel

from infinite_talk import __version__
from infinite_talk.frontends.http.context import Context
from infinite_talk.frontends.http.document import METRICS_ANSWER
from infinite_talk.frontends.http.envelope import SERVER, Refusal, documented
from infinite_talk.frontends.http.metrics import CONTENT_TYPE
from infinite_talk.frontends.http.resource import Model, ModelList

Workers = Callable[[], int]
"""How many workers live; blocks."""


class Health(BaseModel):
    """The process answers."""

    status: Literal["ok"] = "ok"
    version: str


class Ready(BaseModel):
    """Orders are accepted and carried out."""

    status: Literal["ready"] = "ready"
    jobs: Mapping[str, int]
    workers: int | None


def routes(context: Context, workers: Workers | None) -> APIRouter:
    """The routes. ``workers``: who counts those that live; ``None``: they are started elsewhere."""
    router = APIRouter(tags=["server"])
    began = int(time())

    @router.get("/health", responses=documented())
    async def health() -> Health:
        """The process is alive. Asks nobody, so it answers at once."""
        return Health(version=__version__)

    @router.get("/ready", responses=documented())
    def ready() -> Ready:
        """The store can be read and a worker lives; else 503."""
        counts = {str(state): count for state, count in context.desk.store.counts().items()}
        living = None if workers is None else workers()
        if living == 0:
            raise Refusal(
                503,
                "No worker lives at the moment; orders are kept until one does.",
                code="no_worker",
                kind=SERVER,
                headers={"retry-after": str(context.options.retry_after)},
            )
        return Ready(jobs=counts, workers=living)

    @router.get(
        "/metrics",
        response_class=Response,
        responses=METRICS_ANSWER | documented(),
    )
    def metrics() -> Response:
        """Numbers for Prometheus."""
        return Response(context.metrics.text(), headers={"content-type": CONTENT_TYPE})

    @router.get("/v1/models", responses=documented())
    def list_models() -> ModelList:
        """Profiles that videos can be made with."""
        return ModelList(data=[_model(name, began) for name in context.models()])

    @router.get("/v1/models/{model}", responses=documented(404))
    def get_model(model: str) -> Model:
        """One of them."""
        if model not in context.models():
            raise Refusal(404, "There is no such model.", code="model_not_found", param="model")
        return _model(model, began)

    return router


def _model(name: str, began: int) -> Model:
    return Model(id=name, created=began, owned_by="infinite-talk")
