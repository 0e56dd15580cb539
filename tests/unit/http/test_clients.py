"""Programs that others have written: the openai client, and a tester that reads the OpenAPI document."""

from __future__ import annotations

import base64
import threading
import warnings
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import openai
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from infinite_talk.frontends.http.document import document
from tests.unit.http.service import AUDIO, FORM, PICTURE, Service, service

CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
SPOKEN = {"audio_url": f"data:audio/wav;base64,{base64.b64encode(AUDIO).decode()}"}


class Maker(threading.Thread):
    """Makes whatever is ordered, until stopped."""

    def __init__(self, served: Service) -> None:
        super().__init__(daemon=True)
        self._served, self.over = served, threading.Event()

    def run(self) -> None:
        while not self.over.wait(0.02):
            if (lease := self._served.stub.leases.claim("stub")) is not None:
                self._served.stub.finish(lease)


@pytest.fixture
def made(served: Service) -> Iterator[Service]:
    maker = Maker(served)
    maker.start()
    yield served
    maker.over.set()
    maker.join()


@pytest.fixture
def client(served: Service) -> Iterator[openai.OpenAI]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # its own notice that OpenAI's service is gone
        with openai.OpenAI(api_key="none", base_url=f"{served.url}/v1", max_retries=0) as made_client:
            yield made_client


def test_the_openai_client_orders_follows_fetches_and_deletes(made: Service, client: openai.OpenAI) -> None:
    video = client.videos.create_and_poll(
        prompt="a face",
        seconds="60",  # type: ignore[arg-type]
        size="832x480",  # type: ignore[arg-type]
        input_reference=("me.png", PICTURE, "image/png"),
        extra_body={"audio_reference": SPOKEN, "seed": 42},
        poll_interval_ms=20,
    )
    assert (video.status, video.progress, video.prompt, video.error) == ("completed", 100, "a face", None)
    order = made.desk.get(video.id).order
    assert (order.request.seed, order.request.size, order.request.max_frames) == (42, "832x480", 1500)
    content = client.videos.download_content(video.id).read()
    assert content == made.desk.folder.video(video.id).read_bytes()
    assert client.videos.download_content(video.id, variant="thumbnail").read()[8:12] == b"WEBP"
    assert client.videos.download_content(video.id, variant="spritesheet").read()[:2] == b"\xff\xd8"
    again = client.videos.remix(video.id, prompt="another")
    assert (again.remixed_from_video_id, again.prompt) == (video.id, "another")
    assert {one.id for one in client.videos.list(limit=1)} == {video.id, again.id}  # in two pages
    assert client.videos.retrieve(video.id).status == "completed"
    assert client.videos.delete(video.id).deleted
    with pytest.raises(openai.NotFoundError):
        client.videos.retrieve(video.id)
    assert [model.id for model in client.models.list()] == ["default"]


def test_the_openai_client_sees_our_errors(served: Service, client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as raised:
        client.videos.create(prompt="x", model="sora-2", input_reference=("a.png", PICTURE))
    assert (raised.value.code, raised.value.param) == ("model_not_found", "model")
    video = served.order()
    with pytest.raises(openai.ConflictError):
        client.videos.download_content(video["id"])


@pytest.fixture(scope="module")
def documented(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with service(tmp_path_factory.mktemp("data"), heartbeat=0.1) as running:
        yield running


@pytest.fixture(scope="module")
def finished(documented: Service) -> str:
    told = documented.made()
    return str(told["id"])


@pytest.fixture(scope="module")
def api(documented: Service) -> Any:
    schema = schemathesis.openapi.from_url(f"{documented.url}/openapi.json")
    return schema.exclude(path="/v1/videos/sync")  # waits for a worker


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE], ids=["right", "wrong"])
def test_t3_the_document_is_true_and_nothing_fails_the_server(
    api: Any, finished: str, mode: GenerationMode
) -> None:
    checked = set()
    for found in api.get_all_operations():
        operation = found.ok()
        if mode is GenerationMode.NEGATIVE and operation.body:
            continue  # wrong bodies take minutes to invent; test_orders.py and test_bodies.py have them
        _try(
            operation.as_strategy(generation_mode=mode), finished, 2 if mode is GenerationMode.POSITIVE else 1
        )
        checked.add(operation.label)
    assert len(checked) > 12


def _try(cases: Any, finished: str, examples: int) -> None:
    """Send some cases of one operation and hold the answers against the document."""

    @settings(
        max_examples=examples,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
        deadline=None,
        derandomize=True,
        database=None,
    )
    @given(case=cases)
    def check(case: Any) -> None:
        ids = case.path_parameters or {}
        if len(str(ids.get("video_id", ""))) % 2 and case.method != "DELETE":
            ids["video_id"] = finished  # half of the time a video that is there
        case.call_and_validate(checks=CHECKS, timeout=20)

    with suppress(Unsatisfiable):  # an operation without parameters cannot be called wrongly
        check()


def test_the_document_names_every_route_and_no_422(served: Service) -> None:
    told = served.client.get("/openapi.json").json()
    assert set(told["paths"]) == {
        "/health",
        "/ready",
        "/metrics",
        "/v1/models",
        "/v1/models/{model}",
        "/v1/videos",
        "/v1/videos/sync",
        "/v1/videos/{video_id}",
        *(
            f"/v1/videos/{{video_id}}/{name}"
            for name in ("content", "events", "preview", "preview.m3u8", "remix")
        ),
        *(f"/v1/videos/{{video_id}}/{name}" for name in ("cancel", "pause", "resume", "retry")),
        "/v1/videos/{video_id}/preview/init.mp4",
        "/v1/videos/{video_id}/preview/{number}.m4s",
    }
    operations = [operation for path in told["paths"].values() for operation in path.values()]
    assert not any("422" in operation["responses"] for operation in operations)
    assert len({operation["operationId"] for operation in operations}) == len(operations)
    body = told["paths"]["/v1/videos"]["post"]["requestBody"]["content"]
    assert set(body) == {"multipart/form-data", "application/json"}
    assert not any("401" in operation["responses"] for operation in operations)
    keyed = document(served.app, keyed=True)
    assert keyed["security"] == [{"key": []}]


def test_the_document_describes_the_fields_that_are_read(served: Service) -> None:
    told = served.client.get("/openapi.json").json()
    schema = told["paths"]["/v1/videos"]["post"]["requestBody"]["content"]["multipart/form-data"]["schema"]
    for name in schema["properties"]:
        answer = served.client.post("/v1/videos", files=FORM, data={} if name in FORM else {name: "\x01"})
        assert (answer.json().get("error") or {}).get("code") != "unknown_field", name


def test_docs_name_every_route() -> None:
    root = Path(__file__).parents[3]
    text = (root / "docs" / "http.md").read_text("utf-8")
    for path in (
        "/v1/videos/{id}/content",
        "/v1/videos/{id}/events",
        "/preview.m3u8",
        "/v1/videos/sync",
        "/metrics",
    ):
        assert path in text
