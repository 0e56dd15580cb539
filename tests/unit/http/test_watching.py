"""Following a video while it is made: states, events, previews."""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import httpx

from infinite_talk.jobs.types import Retention
from tests.unit.http.service import FORM, PLAN, Service, error, service


def events(answer: httpx.Response) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Id, name and data of each event."""
    found: dict[str, str] = {}
    for line in answer.iter_lines():
        if not line:
            if "data" in found:
                yield found.get("id", ""), found["event"], json.loads(found["data"])
            found = {}
        elif not line.startswith(":"):
            name, _, value = line.partition(": ")
            found[name] = value


def frames(path: Path) -> int:
    with av.open(str(path)) as container:
        return sum(1 for _ in container.decode(video=0))


def test_states_of_a_job(served: Service) -> None:
    first, second = served.order()["id"], served.order()["id"]
    assert [served.get(one)["queue_position"] for one in (first, second)] == [1, 2]
    assert error(served.client.get(f"/v1/videos/{first}/content"))[:2] == (409, "not_ready")
    lease = served.stub.take()
    served.stub.tell(lease, 1, step=2, steps=4, eta=9.5)
    told = served.get(first)
    assert (told["status"], told["state"], told["chunks_done"], told["chunks_total"]) == (
        "in_progress",
        "running",
        1,
        3,
    )
    assert (told["progress"], told["eta_s"]) == (33, 9.5)
    assert (told["metrics"]["step"], told["metrics"]["steps"], told["metrics"]["phase"]) == (2, 4, "sampling")
    served.stub.finish(lease)
    told = served.get(first)
    assert (told["status"], told["progress"], told["error"], told["eta_s"]) == ("completed", 100, None, None)
    assert told["completed_at"] >= told["created_at"]
    lease = served.stub.take()
    served.stub.leases.fail(lease, "out_of_memory", "Too little memory.")
    told = served.get(second)
    assert (told["status"], told["error"]["code"], told["completed_at"]) == ("failed", "out_of_memory", None)
    refused = served.client.get(f"/v1/videos/{second}/content")
    assert error(refused)[:2] == (409, "not_ready")
    assert "Too little memory" in refused.text
    assert served.client.post(f"/v1/videos/{second}/retry").json()["state"] == "queued"
    assert error(served.client.post(f"/v1/videos/{first}/retry"))[0] == 409


def test_a_list_in_pages(served: Service) -> None:
    made = [served.order(seed=str(n))["id"] for n in range(5)]
    for order, expected in (("asc", made), ("desc", made[::-1])):
        found: list[str] = []
        page: dict[str, Any] = {"has_more": True}
        while page["has_more"]:
            after = {"after": found[-1]} if found else {}
            page = served.client.get("/v1/videos", params={"limit": 2, "order": order, **after}).json()
            ids = [one["id"] for one in page["data"]]
            assert (page["object"], page["first_id"], page["last_id"]) == ("list", ids[0], ids[-1])
            found += ids
        assert found == expected


def test_t13_cancel_and_delete_as_often_as_one_likes(served: Service) -> None:
    waiting, running, done = served.order()["id"], served.order()["id"], None
    for _ in range(2):
        told = served.client.post(f"/v1/videos/{waiting}/cancel").json()
        assert (told["status"], told["state"], told["error"]["code"]) == ("failed", "cancelled", "cancelled")
    lease = served.stub.take()
    told = served.client.post(f"/v1/videos/{running}/cancel").json()
    assert (told["status"], told["stopping"]) == ("in_progress", True)
    served.stub.leases.release(lease)
    assert served.get(running)["state"] == "cancelled"
    done = served.made()["id"]
    assert served.client.post(f"/v1/videos/{done}/cancel").json()["status"] == "completed"
    for video in (waiting, running, done):
        told = served.client.delete(f"/v1/videos/{video}").json()
        assert told == {"id": video, "object": "video.deleted", "deleted": True}
        assert error(served.client.delete(f"/v1/videos/{video}"))[0] == 404
    assert not list(served.desk.folder.jobs.iterdir())


def test_deleting_a_running_job_waits_for_its_step(served: Service) -> None:
    video = served.order()["id"]
    lease = served.stub.take()
    stop = threading.Timer(0.2, lambda: served.stub.leases.release(lease))
    stop.start()
    assert served.client.delete(f"/v1/videos/{video}").json()["deleted"]
    stop.join()
    assert error(served.client.get(f"/v1/videos/{video}"))[0] == 404


def test_pause_and_resume(served: Service) -> None:
    video = served.order()["id"]
    told = served.client.post(f"/v1/videos/{video}/pause").json()
    assert (told["status"], told["state"], told["queue_position"]) == ("queued", "paused", None)
    assert served.client.post(f"/v1/videos/{video}/resume").json()["queue_position"] == 1


def test_events_tell_each_change_to_the_end(served: Service) -> None:
    video = served.order()["id"]
    with served.client.stream("GET", f"/v1/videos/{video}/events") as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        heard = events(answer)
        number, name, told = next(heard)
        assert (name, told["status"]) == ("progress", "queued")
        lease = served.stub.take()
        while told["status"] != "in_progress":
            _, _, told = next(heard)
        served.stub.windows(lease, 2)
        while told["chunks_done"] < 2:
            _, _, told = next(heard)
        served.stub.finish(lease)
        *_, (last, name, told) = heard  # the stream ends by itself
    assert (name, told["status"], told["progress"]) == ("completed", "completed", 100)
    assert int(last) > int(number)
    path = f"/v1/videos/{video}/events"
    again = served.client.get(path, headers={"last-event-id": last})
    assert (again.status_code, again.content) == (204, b"")  # tells a browser not to come back
    missed = served.client.get(path, headers={"last-event-id": number})
    assert [name for _, name, _ in events(missed)] == ["completed"]
    assert served.client.get(path, headers={"last-event-id": "nonsense"}).status_code == 200


def test_who_knows_the_last_event_hears_the_next_one(served: Service) -> None:
    video = served.order()["id"]
    with served.client.stream("GET", f"/v1/videos/{video}/events") as answer:
        number, _, _ = next(events(answer))
    with served.client.stream(
        "GET", f"/v1/videos/{video}/events", headers={"last-event-id": number}
    ) as answer:
        served.client.post(f"/v1/videos/{video}/cancel")
        assert [name for _, name, _ in events(answer)] == ["cancelled"]


def test_a_silent_stream_is_kept_alive_and_ends_with_the_job(tmp_path: Path) -> None:
    with service(tmp_path / "data", heartbeat=0.05) as served:
        video = served.order()["id"]
        with served.client.stream("GET", f"/v1/videos/{video}/events") as answer:
            lines = answer.iter_lines()
            assert next(line for line in lines if line.startswith(":"))
            served.client.delete(f"/v1/videos/{video}")
            assert "event: deleted" in list(lines)


def test_t12_streams_are_counted_and_given_back(tmp_path: Path) -> None:
    with service(tmp_path / "data", streams=2, heartbeat=0.05) as served:
        path = f"/v1/videos/{served.order()['id']}/events"
        with served.client.stream("GET", path), served.client.stream("GET", path):
            refused = served.client.get(path)
            assert error(refused)[:2] == (429, "too_many_streams")
        for _ in range(3000):  # until the server has noticed that they are gone
            with served.client.stream("GET", path) as answer:
                if answer.status_code == 200:
                    return
            time.sleep(0.02)
        raise AssertionError("streams were not given back")


def test_a_preview_grows_with_the_video(served: Service, tmp_path: Path) -> None:
    video = served.order()["id"]
    path = f"/v1/videos/{video}/preview"
    assert error(served.client.get(path))[:2] == (409, "not_ready")
    lease = served.stub.take()
    served.stub.windows(lease, 1)
    with served.client.stream("GET", path) as answer:
        kind = answer.headers["content-type"]
        assert kind.startswith('video/mp4; codecs="avc1.')
        parts = answer.iter_raw()
        received = next(parts)
        (tmp_path / "first.mp4").write_bytes(served.client.get(f"{path}?windows=1").content)
        assert frames(tmp_path / "first.mp4") == 5  # the first window plays while the rest is made
        served.stub.finish(lease)
        received += b"".join(parts)
    (tmp_path / "all.mp4").write_bytes(received)
    assert frames(tmp_path / "all.mp4") == PLAN.length
    # The same film from the finished video, but for its bit rate in the head.
    again = served.client.get(path).content
    assert (len(again), again[again.index(b"moof") :]) == (len(received), received[received.index(b"moof") :])
    head = served.client.head(path, headers={"range": "bytes=0-9"})
    assert (head.status_code, head.headers["content-type"], head.headers["accept-ranges"]) == (
        200,
        kind,
        "none",
    )
    assert served.sounds.written == 1


def test_a_preview_ends_where_a_job_ends(served: Service, tmp_path: Path) -> None:
    video = served.order()["id"]
    lease = served.stub.take()
    served.stub.windows(lease, 2)
    with served.client.stream("GET", f"/v1/videos/{video}/preview") as answer:
        parts = answer.iter_raw()
        received = next(parts)
        served.stub.leases.fail(lease, "numerical_failure", "NaN.")
        received += b"".join(parts)
    (tmp_path / "part.mp4").write_bytes(received)
    assert frames(tmp_path / "part.mp4") == 9


def test_a_playlist_and_its_parts_are_the_same_film(served: Service) -> None:
    video = served.order()["id"]
    base = f"/v1/videos/{video}/"
    assert error(served.client.get(base + "preview.m3u8"))[:2] == (409, "not_ready")
    lease = served.stub.take()
    served.stub.windows(lease, 2)
    answer = served.client.get(base + "preview.m3u8")
    assert answer.headers["content-type"] == "application/vnd.apple.mpegurl"
    assert "#EXT-X-ENDLIST" not in answer.text
    names = [line for line in answer.text.splitlines() if not line.startswith("#")]
    assert names == ["preview/0.m4s", "preview/1.m4s"]
    parts = [served.client.get(base + name).content for name in ("preview/init.mp4", *names)]
    assert error(served.client.get(base + "preview/2.m4s"))[:2] == (404, "piece_not_found")
    assert error(served.client.get(base + "preview/x.m4s"))[:2] == (400, "invalid_field")
    served.stub.finish(lease)
    assert "#EXT-X-ENDLIST" in served.client.get(base + "preview.m3u8").text
    whole = served.client.get(base + "preview").content
    assert all(part in whole for part in parts[1:])


def test_pictures_of_a_video(served: Service) -> None:
    video = served.made()["id"]
    path = f"/v1/videos/{video}/content"
    for variant, kind, magic in (
        ("thumbnail", "image/webp", b"RIFF"),
        ("spritesheet", "image/jpeg", b"\xff\xd8"),
        ("video", "video/mp4", b"\0\0\0"),
    ):
        answer = served.client.get(path, params={"variant": variant})
        assert (answer.status_code, answer.headers["content-type"]) == (200, kind)
        assert answer.content.startswith(magic)
        assert answer.headers["x-content-type-options"] == "nosniff"
        tag = {"if-none-match": answer.headers["etag"]}
        assert served.client.get(path, params={"variant": variant}, headers=tag).status_code == 304


def test_what_is_not_kept_is_gone(tmp_path: Path) -> None:
    with service(tmp_path / "data", retention=Retention(seconds=60.0)) as served:
        told = served.made()
        assert told["expires_at"] == told["completed_at"] + 60
        served.desk.folder.video(told["id"]).unlink()
        for path in ("content", "content?variant=thumbnail", "preview", "preview.m3u8", "preview/0.m4s"):
            assert error(served.client.get(f"/v1/videos/{told['id']}/{path}"))[:2] == (410, "expired"), path


def test_sync_gives_the_file(served: Service) -> None:
    maker = threading.Thread(target=_make_when_ordered, args=(served,))
    maker.start()
    answer = served.client.post("/v1/videos/sync", files=FORM)
    maker.join()
    (job,) = served.desk.list()
    assert (answer.status_code, answer.headers["content-type"]) == (200, "video/mp4")
    assert answer.content == served.desk.folder.video(job.id).read_bytes()


def test_t14_who_hangs_up_on_sync_cancels(served: Service) -> None:
    try:
        served.client.post("/v1/videos/sync", files=FORM, timeout=1.0)
        raise AssertionError("nobody makes it")
    except httpx.ReadTimeout:
        pass
    (job,) = served.desk.list()
    for _ in range(3000):
        if served.get(job.id)["state"] == "cancelled":
            return
        time.sleep(0.02)
    raise AssertionError(served.get(job.id)["state"])


def test_numbers_for_prometheus(tmp_path: Path) -> None:
    with service(tmp_path / "data") as served:  # counts since the start, so a server of its own
        served.order()
        served.made()
        wanted = 'infinite_talk_jobs_ended_total{state="completed"} 1.0'
        for _ in range(3000):  # the server looks when the store has changed
            text = served.client.get("/metrics").text
            if wanted in text:
                break
            time.sleep(0.02)
        assert wanted in text
        for line in (
            'infinite_talk_jobs{state="queued"} 1.0',
            'infinite_talk_jobs{state="completed"} 1.0',
            "infinite_talk_queue_length 1.0",
            "infinite_talk_job_seconds_count 1.0",
            'infinite_talk_http_requests_total{method="POST",route="/v1/videos",status="200"} 2.0',
        ):
            assert line in text, line
        assert not re.search("video_[0-9a-f]", text)  # no row for each video


def _make_when_ordered(served: Service) -> None:
    while not served.desk.list():
        time.sleep(0.02)
    served.stub.make()
