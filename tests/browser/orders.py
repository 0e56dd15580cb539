"""Videos that are ordered over the HTTP interface, as small as can be, for tests of what the page does with them."""

from __future__ import annotations

import time
from pathlib import Path

import httpx

from . import media
from .person import FINISHING

SMALL = {"size": "64x64", "num_inference_steps": "1"}
LONG = {"size": "64x64", "num_inference_steps": "400"}
"""Takes far longer than any test; whoever orders it stops it."""


def order(client: httpx.Client, voice: Path, title: str, **fields: str) -> str:
    """The id of a video that was accepted."""
    files = {
        "input_reference": ("portrait.png", media.PORTRAIT.read_bytes(), "image/png"),
        "audio": ("voice.wav", voice.read_bytes(), "audio/wav"),
    }
    answer = client.post("/v1/videos", data={"prompt": title, "title": title} | fields, files=files)
    assert answer.status_code < 300, answer.text
    return str(answer.json()["id"])


def until_finished(client: httpx.Client, videos: list[str]) -> None:
    """Wait until all are made."""
    until = time.monotonic() + FINISHING / 1000
    while True:
        states = {client.get(f"/v1/videos/{video}").json()["status"] for video in videos}
        if states == {"completed"}:
            return
        assert states <= {"queued", "in_progress", "completed"} and time.monotonic() < until, states
        time.sleep(0.3)


def remove_all(client: httpx.Client) -> None:
    """Delete every video, running or not, so that the next test finds an idle server."""
    for video in client.get("/v1/videos", params={"limit": 100}).json()["data"]:
        client.delete(f"/v1/videos/{video['id']}")
