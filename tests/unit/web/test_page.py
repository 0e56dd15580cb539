"""The page as the server sends it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

pytest.importorskip("gradio")

import gradio as gr
from fastapi import FastAPI
from fastapi.testclient import TestClient

from infinite_talk.frontends.web.making import Maker
from infinite_talk.frontends.web.options import More, PageOptions, Section
from infinite_talk.frontends.web.page import build, mount
from infinite_talk.jobs.desk import Desk

from .test_making import values


@dataclass(frozen=True)
class Site:
    page: gr.Blocks
    client: TestClient
    options: PageOptions


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Iterator[Site]:
    """Built once: that takes a second."""
    folder = tmp_path_factory.mktemp("site")
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("GRADIO_TEMP_DIR", "")  # the page sets it; afterwards it is as before
        desk = Desk.open(folder / "data")
        options = PageOptions(uploads=folder / "uploads", max_upload=1000)
        app, page = FastAPI(), build(desk, options)
        mount(app, page, options)
        with TestClient(app, base_url="http://127.0.0.1") as client:
            yield Site(page, client, options)
        desk.close()


@pytest.fixture
def client(site) -> TestClient:
    return site.client


@pytest.fixture
def page(site) -> gr.Blocks:
    return site.page


def test_nothing_comes_from_elsewhere(client):
    """Offline: no address of another host is loaded, by the page or by its styles."""
    sent = client.get("/ui/").text + client.get("/ui/theme.css").text
    loaded = re.findall(
        r"""(?:src|href)=["']?(https?:)?//([^"'/ >]+)|url\(["']?(https?:)?//([^"')/]+)""", sent
    )
    hosts = {host for _, first, _, second in loaded if (host := first or second)}
    assert hosts <= {"127.0.0.1"}


def test_both_languages_are_in_the_page(client):
    translations = client.get("/ui/config").json()["i18n_translations"]
    assert translations["en"]["make"] == "Make the video" and translations["zh-CN"]["make"] == "生成视频"


def test_no_handler_is_an_endpoint_for_programs(page, client):
    """They have the HTTP interface, with its limits and its documentation."""
    assert all(handler.api_visibility == "private" for handler in page.fns.values())
    assert client.get("/ui/gradio_api/info").json()["named_endpoints"] == {}


def test_gradios_own_check_of_paths_is_on(page, client):
    """Row T7: on a mounted page it is off unless the flag says that the page was launched (ECOSYSTEM, fact 13)."""
    assert page.has_launched and page.allowed_paths == []
    assert client.get("/ui/gradio_api/file=/etc/hostname").status_code in (403, 404)


def test_an_upload_over_the_limit_is_refused(client):
    files = {"files": ("big.wav", b"x" * 5000)}
    assert client.post("/ui/gradio_api/upload", files=files).status_code == 413


def test_uploads_land_in_the_folder(client, site):
    path = client.post("/ui/gradio_api/upload", files={"files": ("me.png", b"x" * 10)}).json()[0]
    assert path.startswith(str(site.options.uploads.resolve()))


def test_other_modules_add_tabs_and_options(maker, monkeypatch):
    """What they add to the form reaches the desk by name."""
    monkeypatch.setenv("GRADIO_TEMP_DIR", "")
    built, given = [], {}

    more = More(lambda: {"pace": gr.Number(8)}, lambda values: given.update(values) or {"priority": 3})
    options = PageOptions(
        uploads=maker.options.uploads,
        checker=maker.options.checker,
        more=more,
        sections=(Section("extra", "tab_models", lambda _tab, _timer: built.append("extra")),),
    )
    build(maker.desk, options)
    assert built == ["extra"]
    maker = Maker(maker.desk, options)
    maker.more["pace"] = gr.Number(8)
    for name in ("me.png", "hello.wav"):
        (options.uploads / name).write_bytes(b"x")
    sent = values(picture=str(options.uploads / "me.png"), voice=str(options.uploads / "hello.wav"))
    assert maker.submit([*sent, 12]).priority == 3 and given == {"pace": 12}


def test_the_browser_itself_switches_the_timers_before_anything_else(maker, monkeypatch):
    """Answers of the server come in any order: the one for a tab that was left could stop the timer of the next."""
    monkeypatch.setenv("GRADIO_TEMP_DIR", "")
    options = PageOptions(
        uploads=maker.options.uploads,
        sections=(Section("extra", "tab_models", lambda tab, _: tab.select(print, None, None), every=3),),
    )
    config = build(maker.desk, options).config
    timers = {part["id"] for part in config["components"] if part["type"] == "timer"}
    tabs = [part["id"] for part in config["components"] if part["type"] == "tabitem"]
    assert len(tabs) == 4
    for tab in tabs:
        first, *others = [event for event in config["dependencies"] if (tab, "select") in event["targets"]]
        assert set(first["outputs"]) < timers and len(first["outputs"]) == 2
        assert not first["backend_fn"] and first["js"].count("active: true") <= 1
        assert not any(timers & set(event["outputs"]) for event in others)
