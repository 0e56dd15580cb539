"""The catalogue's rows that concern the HTTP service, named by row; see ``docs/reliability.md``."""

from __future__ import annotations

import asyncio
import hmac
import json
import logging
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from infinite_talk.frontends.http import guards
from infinite_talk.frontends.http.options import HttpOptions
from infinite_talk.jobs import State
from infinite_talk.jobs.fetch import FetchRules, Network, read_url
from infinite_talk.jobs.limits import Limits
from tests.safety.service import PNG, WAV, Service, serving

MARKUP = (
    "<script>alert(1)</script> {{7*7}} %s ![x](http://evil.example/x.png) \x1b[31mred\x1b[0m\r\nX-Injected: 1"
)


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    with serving(tmp_path_factory.mktemp("data")) as running:
        yield running


def code_of(answer) -> str:
    """The code of a refusal, which always has the envelope."""
    error = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"} and error["message"]
    return error["code"]


# I, V


def test_i10_what_was_uploaded_is_never_served(service: Service):
    """A picture that is a page too lies in the job's folder, and no route gives it back."""
    polyglot = PNG + b"<html><script>alert(1)</script>"
    job = service.order(files={"input_reference": ("x.html", polyglot)}).json()["id"]
    (kept,) = [path for path in service.left() if job in path and "image" in path]
    assert Path(kept).read_bytes() == polyglot
    for path in ("content", "content?variant=thumbnail", "preview", "inputs/image.png", "preview/init.mp4"):
        answer = service.client.get(f"/v1/videos/{job}/{path}")
        assert answer.status_code in (404, 409) and b"<script>" not in answer.content


@pytest.mark.parametrize(
    "name",
    [
        "../../x.png",
        "/etc/cron.d/x",
        "a\\..\\..\\b.png",
        "CON",
        "x" * 300,
        "-rf",
        "😀.png",
        "..",
        "a/b.png",
        "",
    ],
)
def test_i12_names_of_uploads_are_never_paths(service: Service, name):
    before = set(service.left())
    answer = service.order(files={"audio": (name or "x", WAV)})
    assert answer.status_code == 200
    folder = service.desk.folder.of(answer.json()["id"])
    new = set(service.left()) - before
    assert new and all(Path(path).is_relative_to(folder) for path in new)
    assert all(Path(path).stem.rstrip("0123456789").isalpha() for path in new)  # a name of ours


def test_v7_a_script_posing_as_mp4_is_refused_at_the_door(tmp_path):
    """With the real check, in its child process: neither the file nor the job stays."""
    (tmp_path / "secret.wav").write_bytes(b"secret")
    script = f"ffconcat version 1.0\nfile '{tmp_path}/secret.wav'\n".encode()
    with serving(tmp_path / "data", check=None) as service:
        answer = service.order(files={"input_reference": ("clip.mp4", script)})
        assert answer.status_code == 415 and code_of(answer) == "video_unsupported"
        assert answer.json()["error"]["param"] == "input_reference"
        assert not service.left() and not service.desk.list()


# T


@pytest.mark.parametrize("text", ["", "\u202eabc", "👩‍👩‍👧", "Z͑ͫ̓ͪ̂ͫ̽a", "x" * 32_000, "a\tb\nc", MARKUP])
def test_t1_texts_come_back_unchanged(service: Service, text):
    body = {
        "prompt": text,
        "input_reference": "data:image/png;base64,iVBORw0KGgo=",
        "audio": "data:;base64,UklGRg==",
    }
    answer = service.client.post("/v1/videos", json=body)
    assert answer.status_code == 200, answer.text
    assert service.client.get(f"/v1/videos/{answer.json()['id']}").json()["prompt"] == text


@pytest.mark.parametrize("text", ["x" * 32_001, "a\0b", "x" * 10_000_000])
def test_t1_texts_that_nothing_can_hold(service: Service, text):
    answer = service.order(data={"prompt": text})
    assert answer.status_code in (400, 413)
    assert len(answer.text) < 1000


def test_t2_no_text_of_a_client_is_markup_or_a_line_of_the_log(service: Service, caplog):
    """JSON is JSON, events are one line each, and what is logged has no control characters."""
    with caplog.at_level(logging.DEBUG):
        job = service.order(
            data={"prompt": MARKUP, "title": MARKUP[:150]}, headers={"user-agent": "a\x1b[31m"}
        ).json()
        looked = service.client.get(f"/v1/videos/{job['id']}")
        service.client.get("/v1/videos/<script>%0a%1b[31m")
        service.desk.cancel(job["id"])
        events = service.client.get(f"/v1/videos/{job['id']}/events").text
    assert looked.headers["content-type"].startswith("application/json")
    assert looked.headers.get("x-injected") is None
    lines = [line for line in events.splitlines() if line and not line.startswith(":")]
    assert {line.partition(":")[0] for line in lines} <= {"id", "event", "data", "retry"}
    ours = [record.getMessage() for record in caplog.records if record.name.startswith("infinite_talk")]
    assert not any("\x1b" in message or "\n" in message for message in ours)


ABUSES = {
    "cut": b'{"prompt":',
    "a list": b"[]",
    "NaN": b'{"seed": NaN}',
    "infinity": b'{"flow_shift": 1e999}',
    "twice": b'{"prompt": "a", "prompt": "b"}',
    "deep": b'{"extra_params":' + b"[" * 10_000 + b"]" * 10_000 + b"}",
    "digits": b'{"seed": ' + b"9" * 100_000 + b"}",
    "surrogate": b'{"prompt": "\\ud800"}',
    "not UTF-8": b'{"prompt": "\xff"}',
    "types": b'{"seed": "1; DROP TABLE jobs", "steps": {}}',
    "unknown": b'{"__class__": "x"}',
    "empty": b"",
}


@pytest.mark.parametrize("abuse", ABUSES)
def test_t3_abuse_of_json(service: Service, abuse):
    answer = service.client.post(
        "/v1/videos", content=ABUSES[abuse], headers={"content-type": "application/json"}
    )
    assert answer.status_code == 400, answer.text
    code_of(answer)


def test_t3_a_body_of_a_hundred_megabytes_is_refused_by_its_length(service: Service):
    headers = {"content-type": "application/json", "content-length": "100000000"}
    answer = service.client.post("/v1/videos", content=b"{}", headers=headers)
    assert answer.status_code == 413


@pytest.mark.parametrize(
    "field",
    [
        {"size": "1x1"},
        {"size": "99999x99999"},
        {"size": "-1"},
        {"size": "833x481!"},
        {"num_inference_steps": "0"},
        {"num_inference_steps": "1000000"},
        {"seed": "18446744073709551616"},
        {"seed": "-1"},
        {"fps": "0"},
        {"fps": "1000"},
        {"seconds": "-1"},
        {"seconds": "nan"},
        {"flow_shift": "inf"},
        {"guidance_scale": "1e308"},
        {"window_frames": "1000000001"},
        {"bbox": "[1, 2, 3]"},
        {"bbox": "[0, 0, 1e400, 1]"},
        {"lora": "../../secret.safetensors"},
        {"lora": "/etc/passwd"},
    ],
    ids=str,
)
def test_t4_numbers_are_capped_by_the_server(service: Service, field):
    answer = service.order(data=field)
    assert answer.status_code == 400, answer.text
    said = answer.json()["error"]
    assert said["param"] in field or re.search(rf"{next(iter(field))}|number", said["message"], re.IGNORECASE)


def test_t5_urls_are_not_fetched_unless_allowed(tmp_path, service: Service):
    body = {"input_reference": {"image_url": "http://127.0.0.1:1/a.png"}, "audio": "data:;base64,UklGRg=="}
    assert code_of(service.client.post("/v1/videos", json=body)) == "url_not_allowed"
    inside = Network(resolve=lambda host, port: ["169.254.169.254"])
    with serving(tmp_path, fetch=lambda url: read_url(url, FetchRules(), inside)) as allowed:
        for url, code in (
            ("http://metadata.example/latest", "url_private"),
            ("http://localhost:22/", "url_invalid"),
        ):
            answer = allowed.client.post("/v1/videos", json={**body, "input_reference": {"image_url": url}})
            assert answer.status_code == 400 and code_of(answer) == code
        for url in ("file:///etc/passwd", "ftp://x/", "//x/", "gopher://x"):
            answer = allowed.client.post("/v1/videos", json={**body, "input_reference": url})
            assert answer.status_code == 400
        assert not allowed.left()


def test_t6_uploads_over_the_cap(tmp_path):
    """By the declared length, and by the bytes when none is declared; nothing stays."""
    with serving(tmp_path, options=HttpOptions(upload_bytes=50_000), limits=Limits(free_bytes=0)) as service:
        assert service.order(files={"audio": ("v.wav", bytes(60_000))}).status_code == 413

        def endless():
            yield b'--b\r\nContent-Disposition: form-data; name="audio"; filename="a"\r\n\r\n'
            for _ in range(100):
                yield bytes(10_000)

        headers = {"content-type": "multipart/form-data; boundary=b"}
        answer = service.client.post("/v1/videos", content=endless(), headers=headers)
        assert answer.status_code == 413 and code_of(answer) == "body_too_large"
        assert not service.left()
    with serving(tmp_path / "2", limits=Limits(upload_bytes=100, free_bytes=0)) as service:
        answer = service.order()
        assert answer.status_code == 413 and code_of(answer) == "upload_too_large"
        assert not service.left()


def scope_of(path: str, **headers: str) -> dict[str, object]:
    named = {"host": "localhost", **{name.replace("_", "-"): value for name, value in headers.items()}}
    return {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": [(name.encode(), value.encode()) for name, value in named.items()],
        "client": ("127.0.0.1", 1),
        "server": ("localhost", 80),
    }


def test_t6_a_broken_upload_leaves_nothing(tmp_path):
    """The connection ends in the middle of a file."""
    part = b'--b\r\nContent-Disposition: form-data; name="audio"; filename="a"\r\n\r\n' + bytes(3_000_000)
    messages = [{"type": "http.request", "body": part, "more_body": True}, {"type": "http.disconnect"}]
    with serving(tmp_path) as service:

        async def receive():
            return messages.pop(0) if messages else {"type": "http.disconnect"}

        async def send(message):
            pass

        async def upload():
            scope = scope_of("/v1/videos", content_type="multipart/form-data; boundary=b")
            await service.app(scope, receive, send)

        service.client.portal.call(upload)
        assert not service.left() and not service.desk.list()
        assert not list(service.desk.folder.jobs.glob("*"))


def test_t6_an_upload_that_stalls_is_given_up(tmp_path):
    with serving(tmp_path, options=HttpOptions(idle_seconds=0.05)) as service:
        sent = []

        async def receive():
            await asyncio.sleep(30)

        async def send(message):
            sent.append(message)

        service.client.portal.call(
            service.app, scope_of("/v1/videos", content_type="application/json"), receive, send
        )
        assert sent[0]["status"] == 408


@pytest.mark.parametrize(
    "id_",
    [
        "../../etc/passwd",
        "%2e%2e%2f%2e%2e%2fetc%2fpasswd",
        "video_",
        "video_" + "0" * 32,
        "jobs.db",
        "a%00b",
        "*",
    ],
)
def test_t7_ids_are_not_paths(service: Service, id_):
    for method in ("GET", "DELETE"):
        answer = service.client.request(method, f"/v1/videos/{id_}")
        assert answer.status_code in (404, 405), answer.text
    for tail in ("content", "events", "preview", "preview.m3u8", "preview/0.m4s"):
        answer = service.client.get(f"/v1/videos/{id_}/{tail}")
        assert answer.status_code in (400, 404) and "root:" not in answer.text
    assert (service.desk.folder.root / "jobs.db").exists()


def test_t8_wrong_and_missing_keys(tmp_path):
    with serving(tmp_path, options=HttpOptions(api_key="sesame")) as service:
        get = service.client.get
        assert get("/v1/videos", headers={"authorization": "Bearer sesame"}).status_code == 200
        assert get("/health").status_code == 200
        for headers in (
            {},
            {"authorization": "Bearer wrong"},
            {"authorization": "Bearer "},
            {"authorization": "Basic sesame"},
            {"authorization": "sesame"},
            {"x-api-key": "sesame"},
            {"cookie": "infinite_talk_session=sesame"},
        ):
            answer = get("/v1/videos?key=sesame&api_key=sesame", headers=headers)
            assert answer.status_code == 401 and code_of(answer) == "invalid_api_key"
        for path in ("/metrics", "/openapi.json", "/v1/models", "/ui/", "/ui/gradio_api/queue/data"):
            assert get(path).status_code == 401, path
        assert service.order().status_code == 401


def test_t8_keys_are_compared_in_constant_time_and_never_logged(tmp_path, monkeypatch, caplog):
    """Digests of one length go to ``compare_digest``; the key is in no log, answer or ``repr``."""
    compared = []

    def compare(a, b):
        compared.append((len(a), len(b)))
        return hmac.compare_digest(a, b)

    monkeypatch.setattr(guards.hmac, "compare_digest", compare)
    options = HttpOptions(api_key="sesame-open")
    with caplog.at_level(logging.DEBUG), serving(tmp_path, options=options) as service:
        for key in ("x", "sesame-open", "y" * 5000):
            answer = service.client.get("/v1/videos", headers={"authorization": f"Bearer {key}"})
            assert "sesame-open" not in answer.text
        metrics = service.client.get("/metrics", headers={"authorization": "Bearer sesame-open"}).text
    assert len(compared) >= 3 and {size for pair in compared for size in pair} == {32}
    assert "sesame-open" not in caplog.text + metrics + repr(options)


def test_t9_host_and_origin(service: Service):
    """A page elsewhere whose name leads here, and a page elsewhere that sends a form here."""
    get, post = service.client.get, service.client.post
    for host in (
        "evil.example",
        "evil.example:80",
        "localhost.evil.example",
        "localhost@evil.example",
        "",
        "127.0.0.2",
    ):
        for path in ("/v1/videos", "/health", "/ui/"):
            assert get(path, headers={"host": host}).status_code in (400, 403), (host, path)
    for host in ("localhost", "127.0.0.1:8000", "[::1]:8000", "LOCALHOST"):
        assert get("/v1/videos", headers={"host": host}).status_code == 200
    for origin in (
        "https://evil.example",
        "null",
        "http://localhost.evil.example",
        "http://localhost:1",
        "file://",
    ):
        answer = post("/v1/videos", headers={"origin": origin})
        assert answer.status_code == 403 and code_of(answer) == "origin_not_allowed"
        assert "access-control-allow-origin" not in answer.headers
        for path in ("/ui/gradio_api/upload", "/ui/gradio_api/queue/join"):
            assert post(path, headers={"origin": origin}).status_code == 403
    assert post("/v1/videos", headers={"origin": "http://localhost"}).status_code == 415


def test_t10_one_job_for_one_key(tmp_path):
    with serving(tmp_path) as service, ThreadPoolExecutor(8) as pool:
        keyed = list(pool.map(lambda _: service.order(headers={"idempotency-key": "k"}), range(12)))
        assert {answer.status_code for answer in keyed} == {200}
        assert len({answer.json()["id"] for answer in keyed}) == 1
        other = service.order(headers={"idempotency-key": "k"}, data={"prompt": "another"})
        assert other.status_code == 409 and code_of(other) == "key_reused"
        free = list(pool.map(lambda _: service.order(), range(5)))
        assert len({answer.json()["id"] for answer in free}) == 5
        assert len(service.desk.list()) == 6
        folders = {path.name for path in service.desk.folder.jobs.iterdir()}
        assert folders == {job.id for job in service.desk.list()}


def test_t11_a_full_queue_says_when_to_come_back(tmp_path):
    with serving(tmp_path, limits=Limits(queued=3, free_bytes=0)) as service, ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: service.order(), range(10)))
        assert sorted(answer.status_code for answer in answers) == [200] * 3 + [429] * 7
        refused = next(answer for answer in answers if answer.status_code == 429)
        assert code_of(refused) == "queue_full" and int(refused.headers["retry-after"]) > 0
        assert service.client.get("/health").status_code == 200
        assert len(list(service.desk.folder.jobs.iterdir())) == 3


def test_t13_deleting_and_cancelling_again_and_at_once(tmp_path):
    with serving(tmp_path) as service, ThreadPoolExecutor(8) as pool:
        job = service.order().json()["id"]
        cancelled = list(pool.map(lambda _: service.client.post(f"/v1/videos/{job}/cancel"), range(6)))
        assert {answer.status_code for answer in cancelled} == {200}
        assert service.desk.get(job).state is State.CANCELLED
        deleted = list(pool.map(lambda _: service.client.delete(f"/v1/videos/{job}"), range(6)))
        codes = sorted(answer.status_code for answer in deleted)
        assert codes[0] == 200 and set(codes) <= {200, 404}
        assert service.client.get(f"/v1/videos/{job}").status_code == 404
        assert not service.left() and not list(service.desk.folder.jobs.iterdir())


def test_t14_who_hangs_up_on_sync_cancels_it(tmp_path):
    """Nobody would fetch it; a job that is followed by events goes on."""
    with serving(tmp_path, options=HttpOptions(poll=0.02)) as service:
        body = json.dumps(
            {"input_reference": "data:;base64,iVBORw==", "audio": "data:;base64,UklGRg=="}
        ).encode()
        messages = [{"type": "http.request", "body": body, "more_body": False}]

        async def receive():
            return messages.pop(0) if messages else {"type": "http.disconnect"}

        async def send(message):
            pass

        scope = scope_of("/v1/videos/sync", content_type="application/json")
        service.client.portal.call(service.app, scope, receive, send)
        (job,) = service.desk.list()
        assert job.state is State.CANCELLED
        followed = service.order().json()["id"]
        scope = scope_of(f"/v1/videos/{followed}/events") | {"method": "GET"}
        service.client.portal.call(service.app, scope, receive, send)
        assert service.desk.get(followed).state is State.QUEUED


def test_t16_unknown_fields_and_header_injection(service: Service):
    answer = service.order(data={"promt": "x"})
    assert answer.status_code == 400 and answer.json()["error"]["param"] == "promt"
    for name in ("model", "title", "extra_params", "a\r\nSet-Cookie: x=1", "[section]\nmodel"):
        answer = service.order(data={name: "x\r\nSet-Cookie: x=1\n[model]\npath=/"})
        assert "set-cookie" not in answer.headers
        assert answer.status_code == (200 if name == "title" else 400)
    for key in ("a\x00b", "ü", "x" * 1000):
        answer = service.order(headers={"idempotency-key": key.encode()})
        assert answer.status_code == 400
