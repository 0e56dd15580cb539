"""The door: Host, Origin, key, size and pace of bodies; and that everything that is refused has the envelope."""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from infinite_talk import (
    CapabilityError,
    CheckpointError,
    InfiniteTalkError,
    InputError,
    NoSpaceError,
    NumericalError,
    OutOfMemoryError,
    TakeError,
    UsageError,
)
from infinite_talk.errors import JobActionError, LimitError, StoreError
from infinite_talk.frontends.http import HttpOptions, guards
from infinite_talk.frontends.http.envelope import Refusal, refusal_of
from infinite_talk.frontends.http.guards import Body, limit_of
from tests.unit.http.service import FORM, KEY, Service, error, service

HEAD = b"POST /v1/videos HTTP/1.1\r\nHost: localhost\r\n"


def raw(served: Service, data: bytes, timeout: float = 10) -> bytes:
    """What the server answers to these bytes on a line of their own."""
    host, port = served.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=timeout) as line:
        line.sendall(data)
        answer = b""
        while piece := line.recv(65536):
            answer += piece
    return answer


def test_t9_other_names_of_this_machine_are_refused(served: Service) -> None:
    for host in ("evil.example", "127.0.0.1.evil.example", "localhost.evil.example:80", "192.168.0.1"):
        answer = served.client.get("/v1/videos", headers={"host": host})
        assert error(answer)[:2] == (403, "host_not_allowed"), host
    for host in ("a b", "a/b", "@localhost", "[::1"):
        assert error(served.client.get("/health", headers={"host": host}))[:2] == (400, "bad_host"), host
    for host in ("localhost", "LOCALHOST:1", "127.0.0.1:80", "[::1]:8000"):
        assert served.client.get("/health", headers={"host": host}).status_code == 200
    twice = b"GET /health HTTP/1.1\r\nHost: localhost\r\nHost: evil\r\nConnection: close\r\n\r\n"
    assert b" 400 " in raw(served, twice).split(b"\r\n")[0]


def test_t9_pages_of_other_sites_may_not_change_anything(served: Service) -> None:
    own = served.url
    for origin in ("https://evil.example", "null", own + "0", own.replace("http", "ftp"), ""):
        answer = served.client.post("/v1/videos", files=FORM, headers={"origin": origin})
        assert error(answer)[:2] == (403, "origin_not_allowed"), origin
    assert served.client.post("/v1/videos", files=FORM, headers={"origin": own}).status_code == 200
    read = served.client.get("/v1/videos", headers={"origin": "https://evil.example"})
    assert read.status_code == 200
    assert not [
        name for name in read.headers if name.startswith("access-control")
    ]  # so that page cannot see it
    assert len(served.desk.list()) == 1


def test_t8_a_key_is_needed_and_is_told_to_nobody(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with service(tmp_path / "data", api_key=KEY) as served:
        get = served.client.get
        for path in ("/v1/videos", "/metrics", "/openapi.json", "/", "/ui/", "/v1/videos/x/content"):
            answer = get(path)
            assert error(answer)[:2] == (401, "invalid_api_key"), path
            assert answer.headers["www-authenticate"] == "Bearer"
        for wrong in (f"Bearer {KEY}x", "Bearer", f"Basic {KEY}", KEY, f"Bearer {KEY[:-1]}"):
            assert error(get("/v1/videos", headers={"authorization": wrong}))[0] == 401
        assert error(get(f"/v1/videos?api_key={KEY}&key={KEY}"))[0] == 401  # never in the address
        assert error(get("/v1/videos", headers={"x-api-key": KEY}))[0] == 401
        assert get("/v1/videos", headers={"authorization": f"bearer  {KEY}"}).status_code == 200
        assert get("/health").status_code == get("/ready").status_code == 200
    assert KEY not in caplog.text
    assert KEY not in repr(HttpOptions(api_key=KEY))


def test_t8_keys_are_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[tuple[bytes, bytes]] = []

    def compare(ours: bytes, theirs: bytes) -> bool:
        compared.append((ours, theirs))
        return ours == theirs

    monkeypatch.setattr(guards.hmac, "compare_digest", compare)
    for given in ("", "k", KEY, "é", "\udc80"):
        assert guards.same_key(given, guards.digest(KEY)) is (given == KEY)
    assert {len(one) for pair in compared for one in pair} == {32}  # of equal length, whatever was sent


def test_people_log_in_once(tmp_path: Path) -> None:
    with service(tmp_path / "data", api_key=KEY) as served:
        client = served.client
        page = client.get("/", headers={"accept": "text/html"})
        assert (page.status_code, page.headers["location"]) == (303, "/login")
        form = client.get("/login")
        assert (form.status_code, "http" in form.text.lower().replace("<!doctype html>", "")[:0]) == (
            200,
            False,
        )
        wrong = client.post("/login", data={"key": "no"})
        assert wrong.status_code == 401
        assert "set-cookie" not in wrong.headers
        entered = client.post("/login", data={"key": KEY})
        assert entered.status_code == 303
        cookie = entered.headers["set-cookie"].lower()
        assert "httponly" in cookie
        assert "samesite=strict" in cookie
        assert KEY.lower() not in cookie
        assert client.get("/v1/videos").status_code == 200
        client.cookies.clear()
        assert client.get("/v1/videos", headers={"cookie": "infinite_talk_session=guess"}).status_code == 401


def test_t6_bodies_are_counted_while_they_arrive(tmp_path: Path) -> None:
    with service(tmp_path / "data", upload_bytes=2000, json_bytes=500, small_bytes=50) as served:
        post = served.client.post
        assert error(post("/v1/videos", files={"audio": bytes(3000)}))[:2] == (413, "body_too_large")
        kind = {"content-type": "application/json"}
        assert error(post("/v1/videos", content=b" " * 501, headers=kind))[:2] == (413, "body_too_large")
        assert error(post("/nowhere", content=b" " * 51))[:2] == (413, "body_too_large")

        def endless() -> Any:  # chunked, without a length
            for _ in range(100):
                yield b" " * 100

        assert error(post("/v1/videos", content=endless(), headers=kind))[:2] == (413, "body_too_large")
        lying = HEAD + b"Content-Length: 99999999\r\n\r\n"
        assert b" 413 " in raw(served, lying).split(b"\r\n")[0]


def test_t6_a_body_that_does_not_arrive_is_given_up(tmp_path: Path) -> None:
    head = HEAD + b"Content-Type: application/json\r\nContent-Length: 9\r\n\r\n{"
    with service(tmp_path / "data", idle_seconds=0.05) as served:
        assert b" 408 " in raw(served, head).split(b"\r\n")[0]


def test_t6_a_body_that_drips_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(guards, "monotonic", lambda: now[0])

    async def drip() -> dict[str, object]:
        now[0] += 1.0
        return {"type": "http.request", "body": b"x", "more_body": True}

    async def read() -> int:
        body = Body(drip, 10**9, HttpOptions(slowest=1024))
        for count in range(1000):
            try:
                await body.receive()
            except Refusal as refusal:
                assert refusal.status == 408
                return count
        return -1

    assert asyncio.run(read()) == 30  # half a minute


def test_a_broken_line_leaves_nothing(served: Service) -> None:
    host, port = served.url.removeprefix("http://").split(":")
    head = HEAD + b"Content-Type: multipart/form-data; boundary=b\r\nContent-Length: 9999\r\n\r\n"
    with socket.create_connection((host, int(port))) as line:
        line.sendall(head + b'--b\r\nContent-Disposition: form-data; name="audio"; filename="a"\r\n\r\nxx')
    for _ in range(100):  # until the server has noticed
        if served.client.get("/health").status_code == 200:
            break
        time.sleep(0.01)
    assert not list(served.desk.folder.jobs.iterdir())


def test_limits_by_path() -> None:
    options = HttpOptions(upload_bytes=3, json_bytes=2, small_bytes=1)
    form = "multipart/form-data; boundary=x"
    assert limit_of("/v1/videos", form, options) == 3
    assert limit_of("/v1/videos/sync", "application/json", options) == 2
    assert limit_of("/ui/gradio_api/upload", form, options) == 3
    assert limit_of("/login", form, options) == 1


def test_unknown_paths_methods_and_ids(served: Service) -> None:
    client = served.client
    assert error(client.get("/v1/nothing"))[:2] == (404, "not_found")
    wrong = client.put("/v1/videos")
    assert error(wrong)[0] == 405
    assert wrong.headers["allow"]
    for number in (
        "x",
        "video_" + "0" * 32,
        "..%2f..%2fetc%2fpasswd",
        "%2e%2e",
        "video_" + "A" * 32,
        "a%00b",
    ):
        for path in (
            "",
            "/content",
            "/events",
            "/preview",
            "/preview.m3u8",
            "/preview/init.mp4",
            "/preview/0.m4s",
        ):
            assert error(client.get(f"/v1/videos/{number}{path}"))[0] == 404, (number, path)
        assert error(client.delete(f"/v1/videos/{number}"))[0] == 404
        for action in ("cancel", "pause", "resume", "retry"):
            assert error(client.post(f"/v1/videos/{number}/{action}"))[0] == 404
    for query in ("limit=0", "limit=101", "limit=x", "order=up"):
        assert error(client.get(f"/v1/videos?{query}"))[:2] == (400, "invalid_field"), query
    assert error(client.get("/v1/videos?after=nothing"))[0] == 404
    assert error(client.get("/v1/videos/x/content?variant=film"))[:3] == (400, "invalid_field", "variant")


@pytest.mark.parametrize(
    ("raised", "status"),
    [
        (UsageError("m"), 400),
        (InputError("m"), 400),
        (InputError("m", code="image_unsupported"), 415),
        (CapabilityError("m"), 400),
        (JobActionError("m"), 409),
        (JobActionError("m", code="job_not_found"), 404),
        (JobActionError("m", code="key_reused"), 409),
        (LimitError("m"), 400),
        (LimitError("m", code="queue_full"), 429),
        (LimitError("m", code="upload_too_large"), 413),
        (TakeError("m", code="not_ready"), 409),
        (NoSpaceError("m"), 507),
        (StoreError("m", code="store_busy"), 503),
        (CheckpointError("m"), 503),
        (OutOfMemoryError("m"), 503),
        (NumericalError("m"), 500),
        (TakeError("m"), 500),
        (InfiniteTalkError("m", code="check_unavailable"), 503),
    ],
)
def test_our_errors_have_a_status(raised: InfiniteTalkError, status: int) -> None:
    refusal = refusal_of(raised)
    assert (refusal.status, refusal.code, refusal.message) == (status, raised.code, "m")
    assert ("retry-after" in refusal.headers) is (status in (429, 503))


def test_a_failure_of_the_server_says_nothing_of_itself(
    served: Service, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("a secret place")

    monkeypatch.setattr(served.desk, "list", broken)
    answer = served.client.get("/v1/videos")
    assert error(answer)[:2] == (500, "internal_error")
    assert "secret" not in answer.text
    assert "a secret place" in caplog.text


def test_a_store_that_is_gone_is_503_and_health_stays(
    served: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(*_: object, **__: object) -> None:
        raise StoreError("The store is gone.", code="store_gone")

    monkeypatch.setattr(served.desk.store, "counts", gone)
    monkeypatch.setattr(served.desk, "list", gone)
    for path in ("/ready", "/metrics", "/v1/videos"):
        answer = served.client.get(path)
        assert error(answer)[:2] == (503, "store_gone"), path
        assert answer.headers["retry-after"]
    assert served.client.get("/health").json()["status"] == "ok"


def test_clients_without_keepalive_are_served(served: Service) -> None:
    with httpx.Client(base_url=served.url, headers={"connection": "close"}) as client:
        assert client.get("/health").status_code == 200
