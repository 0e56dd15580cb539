"""A service for tests of its door: the real application and desk, no workers, and media that are believed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from fastapi.testclient import TestClient

from infinite_talk import Request, Settings
from infinite_talk.frontends.http.app import create_app
from infinite_talk.frontends.http.options import HttpOptions
from infinite_talk.inputs import validate
from infinite_talk.jobs import Checked
from infinite_talk.jobs.desk import Check, Desk
from infinite_talk.jobs.limits import Limits

PNG = b"\x89PNG\r\n\x1a\n" + bytes(60)
WAV = b"RIFF" + bytes(60)


def believe(folder: Path, request: Request, settings: Settings) -> Checked:
    """A check that opens nothing: words and numbers only."""
    validate(request)
    return Checked(width=64, height=64, frames=25, seconds=1.0)


@dataclass(frozen=True)
class Service:
    app: FastAPI
    desk: Desk
    client: TestClient

    def order(self, **fields: Any):
        """Hand in a video, as a form."""
        files = {"input_reference": ("a.png", PNG), "audio": ("v.wav", WAV)} | fields.pop("files", {})
        return self.client.post("/v1/videos", files=files, data=fields.pop("data", {}), **fields)

    def left(self) -> list[str]:
        """Files below the folder of jobs."""
        return sorted(str(path) for path in self.desk.folder.jobs.rglob("*") if path.is_file())


@contextmanager
def serving(
    folder: Path,
    *,
    options: HttpOptions | None = None,
    limits: Limits | None = None,
    check: Check | None = believe,
    **more: Any,
) -> Iterator[Service]:
    """The application as ``infinite-talk serve`` builds it, in this process."""
    desk = Desk.open(folder, check=check, limits=limits or Limits(free_bytes=0))
    app = create_app(desk, options, **more)
    with TestClient(app, base_url="http://localhost", raise_server_exceptions=False) as client:
        yield Service(app, desk, client)
