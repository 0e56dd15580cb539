"""T7: a Gradio page mounted on another application reads uploaded files only, and has the routes it needs only.

The hole is shown first: without the door, a path in an event makes the server hand out any file.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from hypothesis import given
from hypothesis import strategies as st

from infinite_talk.frontends.web.door import MAX_EVENT, guard, is_upload, paths_in

gradio = pytest.importorskip("gradio")


def page(uploads: Path, *, door: bool = True) -> TestClient:
    """The smallest page that echoes a file, mounted as the studio is, and never launched."""
    with gradio.Blocks() as blocks:
        field, answer = gradio.File(), gradio.Textbox()
        blocks.GRADIO_CACHE = str(uploads)
        field.change(
            lambda path: "" if path is None else Path(path).read_text(), field, answer, api_name="echo"
        )
    app = FastAPI()

    @app.get("/health")
    def health() -> str:
        return "ok"

    app = gradio.mount_gradio_app(app, blocks, path="/ui", ssr_mode=False)
    if door:
        guard(app, "/ui", uploads)
    return TestClient(app)


@pytest.fixture(scope="module")
def uploads(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("uploads")
    (folder / "voice.wav").write_text("uploaded")
    return folder


@pytest.fixture(scope="module")
def client(uploads):
    with page(uploads) as opened:
        yield opened


@pytest.fixture(scope="module")
def secret(tmp_path_factory) -> Path:
    file = tmp_path_factory.mktemp("elsewhere") / "secret.txt"
    file.write_text("sesame")
    return file


def event(path: object, **more: object) -> dict[str, object]:
    data = {"path": path, "meta": {"_type": "gradio.FileData"}, **more}
    return {"data": [data], "fn_index": 0, "session_hash": "s", "trigger_id": None, "event_data": None}


def test_the_hole_is_there_without_the_door(uploads, secret, monkeypatch):
    """Fails when Gradio closes it itself; the door stays useful then, and this test can go."""
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(uploads))
    with page(uploads, door=False) as open_page:
        started = open_page.post("/ui/gradio_api/call/echo", json={"data": event(str(secret))["data"]})
        answer = open_page.get(f"/ui/gradio_api/call/echo/{started.json()['event_id']}")
    assert "sesame" in answer.text


def tricks(secret: Path, uploads: Path) -> list[object]:
    link = uploads / "link.wav"
    if not link.is_symlink():
        link.symlink_to(secret)
    return [
        str(secret),
        "/etc/hostname",
        "pyproject.toml",
        "./pyproject.toml",
        f"file://{secret}",
        f"{uploads}/../elsewhere0/secret.txt",
        f"{uploads}/../../etc/passwd",
        f"{uploads}2/x",
        str(uploads),
        str(link),
        "http://127.0.0.1/",
        "\\\\host\\share",
        "a\0b",
        f"{uploads}/\0",
        "",
        7,
        ["/etc/hostname"],
        {"path": "/etc/hostname"},
    ]


@pytest.mark.parametrize("number", range(18))
def test_t7_an_event_names_uploaded_files_only(client, uploads, secret, number):
    path = tricks(secret, uploads)[number]
    for body in (event(path), event(str(uploads / "voice.wav"), inner=[{"x": {"path": path}}])):
        answer = client.post("/ui/gradio_api/queue/join", json=body)
        assert answer.status_code == 403, answer.text
        assert answer.json()["error"]["code"] == "file_outside"
        assert "secret" not in answer.text


def test_an_event_with_an_uploaded_file_passes(client, uploads):
    answer = client.post("/ui/gradio_api/queue/join", json=event(str(uploads / "voice.wav")))
    assert answer.status_code == 200 and answer.json()["event_id"]
    nothing = {"data": [None], "fn_index": 0, "session_hash": "s"}
    assert client.post("/ui/gradio_api/queue/join", json=nothing).status_code == 200


@pytest.mark.parametrize(
    "path",
    [
        "/gradio_api/call/echo",
        "/gradio_api/call/v2/echo",
        "/gradio_api/run/echo",
        "/gradio_api/api/echo",
        "/gradio_api/component_server",
        "/gradio_api/process_recording",
        "/gradio_api/stream/1",
        "/gradio_api/vibe-edit",
        "/gradio_api//queue/join",
        "/gradio_api/queue/join/x",
        "/login",
        "//gradio_api/queue/join",
    ],
)
def test_t7_no_other_way_in(client, secret, path):
    for body in (event(str(secret)), {"data": []}):
        assert client.post(f"/ui{path}", json=body).status_code == 404


def test_t7_an_event_without_the_queue_passes_the_same_door(client, secret):
    assert client.post("/ui/gradio_api/run/predict", json=event(str(secret))).status_code == 403


@pytest.mark.parametrize(
    "path",
    [
        "/gradio_api/file=/etc/hostname",
        "/gradio_api/file=pyproject.toml",
        "/gradio_api/file=../../etc/passwd",
        "/gradio_api/file=%2e%2e/%2e%2e/etc/passwd",
        "/gradio_api/file=http://169.254.169.254/",
        "/gradio_api/file=file:///etc/hostname",
        "/gradio_api/file%3D/etc/hostname",
        "/gradio_api/file//etc/hostname",
        "/gradio_api/proxy=http://127.0.0.1/",
        "/gradio_api/stream/a/b/1/playlist-file",
        "/gradio_api/openapi.json",
        "/gradio_api/deep_link",
        "/gradio_api/runs",
        "/monitoring",
        "/monitoring/summary",
        "/gradio_api/token",
        "/static/..%2f..%2f..%2froutes.py",
        "/static/../../routes.py",
        "/assets/%2e%2e/%2e%2e/index.html",
        "/gradio_api/custom_component/1/client/component/../../x",
    ],
)
def test_t7_files_of_the_server_are_not_given(client, path):
    answer = client.get(f"/ui{path}")
    assert answer.status_code in (403, 404), answer.text[:200]
    assert "root:" not in answer.text and "[project]" not in answer.text


def test_the_page_itself_opens_and_what_is_beside_it_is_untouched(client):
    assert client.get("/ui/").status_code == 200
    assert client.get("/ui/config").status_code == 200
    assert client.get("/health").json() == "ok"
    assert client.get("/uix").json() == {"detail": "Not Found"}
    assert client.put("/ui/").status_code == 404


def test_t3_events_that_are_no_json_or_too_large(client):
    def send(body: bytes) -> int:
        headers = {"content-type": "application/json"}
        return client.post("/ui/gradio_api/queue/join", content=body, headers=headers).status_code

    assert send(b"{") == 400
    assert send(b"\xff\xfe") == 400
    assert send(b"[" * 100_000) == 400
    assert send(b'{"data":' + b"[" * 200 + b"]" * 200 + b"}") == 400
    assert send(b'{"data":["' + b"x" * MAX_EVENT + b'"]}') == 413


@given(
    st.recursive(
        st.none() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["path", "url", "a"]), inner)
        ),
        max_leaves=12,
    )
)
def test_every_path_is_found_however_deep(value):
    """The slow twin: count by the text of the JSON."""
    found = list(paths_in(json.loads(json.dumps(value))))
    written = json.dumps(value).count('"path": ') - json.dumps(value).count('"path": null')
    assert len(found) == written


def test_a_sibling_whose_name_begins_alike_is_outside(tmp_path):
    (tmp_path / "up").mkdir()
    assert is_upload(str(tmp_path / "up" / "x"), tmp_path / "up")
    assert not is_upload(str(tmp_path / "upper" / "x"), tmp_path / "up")
    assert not is_upload(str(tmp_path / "up"), tmp_path / "up")


def test_t7_the_studios_own_page_has_the_door(tmp_path, secret, monkeypatch):
    """The real page, mounted as the server does: every one of its events, whatever it expects."""
    from infinite_talk.frontends.http.app import create_app
    from infinite_talk.frontends.web.options import PageOptions
    from infinite_talk.frontends.web.page import build, mount
    from infinite_talk.jobs.desk import Desk

    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))  # the page sets it anew; this restores it
    desk = Desk.open(tmp_path / "data")
    app, options = create_app(desk), PageOptions(uploads=tmp_path / "uploads")
    blocks = build(desk, options)
    mount(app, blocks, options)
    with TestClient(app, base_url="http://localhost") as client:
        assert client.get("/ui/").status_code == 200
        for number in blocks.fns:
            body = event(str(secret)) | {"fn_index": number}
            assert client.post("/ui/gradio_api/queue/join", json=body).status_code == 403
        assert client.get("/ui/gradio_api/info").status_code == 200
        assert client.post("/ui/gradio_api/call/submit", json={"data": []}).status_code == 404
        upload = client.post("/ui/gradio_api/upload", files={"files": ("../../x.png", b"x")})
        (stored,) = upload.json()
        assert is_upload(stored, options.uploads) and Path(stored).name == "x.png"
        evil = {"origin": "http://evil.example"}
        assert (
            client.post("/ui/gradio_api/upload", files={"files": ("a", b"x")}, headers=evil).status_code
            == 403
        )
