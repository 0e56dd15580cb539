"""What is handed in is checked, kept with the job, and goes with it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from infinite_talk import InfiniteTalkError, InputError, Request, Settings, Speaker
from infinite_talk.frontends.cli.main import run
from infinite_talk.jobs import Checked, State
from infinite_talk.jobs.desk import Desk
from infinite_talk.jobs.leases import Leases
from infinite_talk.jobs.limits import Limits
from infinite_talk.jobs.presence import this_host

LOOKED = Checked(480, 832, 250, 10.0)
REQUEST = Request(image=Path("inputs/image"), speakers=(Speaker(audio=Path("inputs/audio")),))


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk.open(tmp_path / "data", check=lambda folder, request, settings: LOOKED)


def hand_in(desk: Desk, request: Request = REQUEST, **more):
    with desk.draft() as draft:
        draft.add("image", [b"pic", b"ture"], name="../../me.png")
        draft.add("audio", [b"sound"])
        return desk.submit(draft, request, **more)


def code_of(call, *arguments, **more) -> str:
    with pytest.raises(InfiniteTalkError) as caught:
        call(*arguments, **more)
    return caught.value.code


def folders(desk: Desk) -> list[str]:
    return [path.name for path in desk.folder.jobs.iterdir()]


def test_files_lie_under_names_of_ours(desk: Desk):
    job = hand_in(desk, title="<b>", extra={"a": 1}, priority=2)
    assert (desk.folder.inputs(job.id) / "image").read_bytes() == b"picture"
    assert [(file.path, file.bytes, file.name) for file in job.order.files] == [
        ("inputs/audio", 5, ""),
        ("inputs/image", 7, "../../me.png"),
    ]
    assert job.order.extra == {"a": 1} and job.order.profile == "default" and job.priority == 2
    assert sorted(path.name for path in desk.folder.of(job.id).rglob("*")) == ["audio", "image", "inputs"]


@pytest.mark.parametrize(
    "path", ["/etc/hostname", "../x", "inputs/../../x", "inputs/other", "inputs/./image/.."]
)
def test_only_files_of_the_job_are_named(desk: Desk, path: str):
    assert code_of(hand_in, desk, replace(REQUEST, image=Path(path))) == "path_outside"
    assert folders(desk) == [] and desk.list() == ()


def test_a_refused_order_leaves_nothing(desk: Desk):
    desk.limits = Limits(upload_bytes=10)
    assert code_of(hand_in, desk) == "upload_too_large"
    desk.limits = Limits(seconds=9)
    assert code_of(hand_in, desk) == "video_too_long"
    desk.limits = Limits(pixels=480 * 832 - 1)
    assert code_of(hand_in, desk) == "video_too_large"
    desk.limits = Limits(queued=0)
    assert code_of(hand_in, desk) == "queue_full"
    desk.limits = Limits(free_bytes=2**62)
    assert code_of(hand_in, desk) == "no_space"
    desk.limits = Limits()
    assert code_of(hand_in, desk, settings="none") == "unknown_profile"

    def bad(folder, request, settings):
        raise InputError("no", code="audio_empty")

    desk._check = bad
    assert code_of(hand_in, desk) == "audio_empty"
    assert folders(desk) == [] and desk.list() == ()


def test_a_repeated_key_keeps_one_folder(desk: Desk):
    jobs = [hand_in(desk, key="k") for _ in range(3)]
    assert len({job.id for job in jobs}) == 1 and folders(desk) == [jobs[0].id]
    assert code_of(hand_in, desk, replace(REQUEST, seed=1), key="k") == "key_reused"


def test_settings_are_those_of_the_profile_when_the_job_came(desk: Desk):
    desk.store.set_profile("default", Settings(crf=20))
    desk.store.set_profile("other", Settings(crf=21))
    first = hand_in(desk)
    desk.store.set_profile("default", Settings(crf=22))
    orders = [
        desk.get(first.id).order,
        hand_in(desk, settings="other").order,
        hand_in(desk, settings=Settings()).order,
    ]
    assert [(order.settings.crf, order.profile) for order in orders] == [
        (20, "default"),
        (21, "other"),
        (18, ""),
    ]


def test_t13_delete_removes_the_files_once(desk: Desk):
    job = hand_in(desk)
    assert desk.delete(job.id) is None and folders(desk) == []
    assert code_of(desk.delete, job.id) == "job_not_found"


def test_a_wish_of_a_job_whose_worker_is_dead_is_granted_at_once(desk: Desk):
    job = hand_in(desk)
    Leases(desk.store.database).claim("dead", host=this_host())
    assert desk.cancel(job.id).state is State.CANCELLED


def test_paths_in_a_job_s_folder(desk: Desk):
    job = hand_in(desk)
    assert desk.path(job, "inputs/image").read_bytes() == b"picture"
    for path in ("../other", "/etc/hostname", "inputs/../../x", "a\0b"):
        assert code_of(desk.path, job, path) == "path_outside"
    assert desk.video(job) is None


def test_the_command_line(desk: Desk, capsys, monkeypatch, tmp_path: Path):
    monkeypatch.setenv("INFINITE_TALK_DATA_DIR", str(desk.folder.root))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "none"))
    first, second = hand_in(desk, title="One"), hand_in(desk, title="Two\x1b[31m")

    def told(*arguments: str) -> dict:
        assert run(["jobs", *arguments, "--json"]) == 0
        return json.loads(capsys.readouterr().out)

    assert [job["id"] for job in told("list")["jobs"]] == [second.id, first.id]
    assert told("move", second.id, "--before", first.id)["job"]["position"] == 1
    assert told("pause", first.id, second.id)["jobs"][0]["state"] == "paused"
    assert told("resume", second.id)["jobs"][0]["state"] == "queued"
    assert told("cancel", second.id)["jobs"][0]["state"] == "cancelled"
    assert [job["id"] for job in told("list", "--state", "cancelled")["jobs"]] == [second.id]
    assert told("retry", second.id)["jobs"][0]["state"] == "queued"
    assert told("show", first.id)["job"]["folder"] == str(desk.folder.of(first.id))
    assert told("rm", first.id)["jobs"] == [{"id": first.id, "state": "deleted"}]
    assert run(["jobs", "list"]) == 0
    out = capsys.readouterr().out
    assert "place 1" in out and "Two" in out and "\x1b" not in out
    assert run(["jobs", "show", "none"]) == 2
    assert run(["jobs", "list", "--data-dir", str(tmp_path / "nothing")]) == 1
    assert "no store of jobs" in capsys.readouterr().err
