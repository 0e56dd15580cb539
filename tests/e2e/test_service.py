"""An order over HTTP, from the upload to the file, with the real checks and a real worker process."""

from __future__ import annotations

import json
import time
from pathlib import Path

import av
import httpx
import pytest

from infinite_talk import Engine, Request, Settings, Speaker
from infinite_talk.frontends.http import HttpOptions, create_app
from infinite_talk.jobs.checking import Checker
from infinite_talk.jobs.desk import Desk
from infinite_talk.jobs.supervisor import Supervisor
from tests.unit.http.service import running

FRAMES = 41


@pytest.mark.slow
def test_an_order_is_followed_watched_and_fetched(
    tmp_path: Path, tiny_bundle: Path, portrait: Path, speech: Path
) -> None:
    settings = Settings(model=tiny_bundle, threads=1)
    desk = Desk.open(tmp_path / "data")
    desk.store.set_profile("default", settings)
    app = create_app(desk, HttpOptions(poll=0.05), checker=Checker(settings))
    files = {"input_reference": portrait.open("rb"), "audio": speech.open("rb")}
    with (
        Supervisor(desk.store, desk.folder),
        running(app) as url,
        httpx.Client(base_url=url, timeout=120) as client,
    ):
        bad = client.post("/v1/videos", files={**files, "audio": ("a.wav", b"no sound")})
        assert (bad.status_code, bad.json()["error"]["param"]) == (415, "audio")
        told = client.post("/v1/videos", files=files, data={"seed": "5"}).json()
        assert (told["size"], told["seconds"]) == ("64x64", "1.64")
        path = f"/v1/videos/{told['id']}"
        grown = _watch(client, f"{path}/preview")
        (tmp_path / "grown.mp4").write_bytes(grown)
        percents = []
        with client.stream("GET", f"{path}/events") as events:
            for line in events.iter_lines():
                if line.startswith("data: "):
                    percents.append(json.loads(line.removeprefix("data: "))["progress"])
        assert percents == sorted(percents)
        assert percents[-1] == 100
        content = client.get(f"{path}/content").content
    desk.close()
    # The same bytes as from the command line, but for names: the recipe names files by what is in them.
    request = Request(image=portrait, speakers=(Speaker(audio=speech),), seed=5)
    alone = Engine(settings).write(request, tmp_path / "alone.mp4").path
    (tmp_path / "served.mp4").write_bytes(content)
    assert _pixels(tmp_path / "served.mp4") == _pixels(alone) == _pixels(tmp_path / "grown.mp4")
    with av.open(str(tmp_path / "grown.mp4")) as container:
        heard = sum(frame.samples for frame in container.decode(audio=0)) / container.streams.audio[0].rate
    assert abs(heard - FRAMES / 25) < 0.1


def _watch(client: httpx.Client, path: str) -> bytes:
    """The preview, from the first window on."""
    for _ in range(1200):
        answer = client.get(path)
        if answer.status_code == 200:
            return answer.content
        assert answer.json()["error"]["code"] == "not_ready"
        time.sleep(0.1)
    raise AssertionError("no window was finished")


def _pixels(path: Path) -> list[bytes]:
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="gray").tobytes() for frame in container.decode(video=0)]
