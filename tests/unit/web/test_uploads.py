"""What nobody hands in is removed: soon where it broke off, in a day where it is whole."""

from __future__ import annotations

import os

from fastapi import FastAPI
from fastapi.testclient import TestClient

from infinite_talk.frontends.web.uploads import BROKEN, DAY, keep_swept, sweep

NOW = 1_800_000_000.0


def put(path, age):
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"x")
    for touched in (path, path.parent):
        os.utime(touched, (NOW - age, NOW - age))
    return path


def test_what_has_outlived_its_time_goes_and_nothing_else(tmp_path):
    outside = tmp_path / "outside"
    kept = [put(outside / "mine.wav", 9 * DAY)]
    folder = tmp_path / "uploads"
    folder.mkdir()
    gone = [put(folder / "tmpabc", BROKEN + 1), put(folder / "0f3a" / "old.png", DAY + 1)]
    kept += [
        put(folder / "tmpdef", BROKEN - 1),  # is still arriving
        put(folder / "77aa" / "hello.wav", DAY - 1),
        put(folder / "samples" / "portrait.png", 9 * DAY),
    ]
    half = put(folder / "88bb" / "picture.png", DAY + 1)
    kept += [half, put(folder / "88bb" / "preview-480.jpg", 5)]  # looked at a moment ago
    os.utime(half, (NOW - DAY - 1, NOW - DAY - 1))
    link = folder / "link"
    link.symlink_to(outside)
    os.utime(link, (NOW - BROKEN - 1, NOW - BROKEN - 1), follow_symlinks=False)
    assert set(sweep(folder, NOW)) == {gone[0], gone[1].parent, link}
    assert not any(path.exists() for path in gone) and all(path.exists() for path in kept)


def test_what_was_there_before_a_restart_goes_too(tmp_path):
    """Gradio remembers its files in the process; here the folder is looked at, first of all when the server starts."""
    broken = put(tmp_path / "uploads" / "tmpxyz", 0)
    os.utime(broken, (0, 0))
    app = FastAPI()
    keep_swept(app, broken.parent, pause=0.01)
    with TestClient(app) as client:
        while broken.exists():
            client.get("/")
    assert broken.parent.is_dir()


def test_a_folder_that_cannot_be_read_stops_nobody(tmp_path, caplog):
    app = FastAPI()
    keep_swept(app, tmp_path / "none", pause=0.01)
    with TestClient(app) as client:
        while "not looked at" not in caplog.text:
            client.get("/")
        assert client.get("/openapi.json").status_code == 200
