"""The tab Create without a browser: files, estimates, handing in, what is shown of a job."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("gradio")

from infinite_talk import AudioLayout, Distilled, InfiniteTalkError, InputError, Phase, Settings
from infinite_talk.frontends.presets import LOW_MEMORY
from infinite_talk.frontends.web.create import estimated, kind_of, show
from infinite_talk.frontends.web.files import uploaded
from infinite_talk.frontends.web.form import Form, FormError
from infinite_talk.frontends.web.node_fields import node_fields, values_of
from infinite_talk.frontends.web.options import Estimate
from infinite_talk.jobs import JobProgress, State
from infinite_talk.jobs.node_options import NodeOptions


def values(**fields: Any) -> list[Any]:
    """What a browser sends for a form that is filled in like this."""
    return [fields.get(name, getattr(Form(), name)) for name in Form.names()]


def test_a_job_has_its_own_copies_of_the_files(maker, upload):
    sent = values(picture=upload("me.png"), voice=upload("hello.wav"), prompt="a woman", steps=3)
    job = maker.submit(sent)
    request, folder = job.order.request, maker.desk.folder.of(job.id)
    assert job.state is State.QUEUED and request.steps == 3 and request.prompt == "a woman"
    assert (folder / request.image).read_bytes() == b"me.png"
    assert (folder / request.speakers[0].audio).read_bytes() == b"hello.wav"
    assert {file.name for file in job.order.files} == {"me.png", "hello.wav"}
    assert job.order.title == "me · hello" and job.order.extra == {"preset": "balanced"}


def test_two_people_and_a_film(maker, upload):
    sent = values(
        picture=upload("film.mp4"),
        voice=upload("a.wav"),
        voice2=upload("b.wav"),
        mask_first=upload("m1.png"),
        mask_second=upload("m2.png"),
    )
    job = maker.submit(sent)
    folder, first_second = maker.desk.folder.of(job.id), job.order.request.speakers
    assert job.order.request.image is None and job.order.request.video is not None
    assert [(folder / s.audio).read_bytes() for s in first_second] == [b"a.wav", b"b.wav"]
    assert [(folder / s.mask).read_bytes() for s in first_second] == [b"m1.png", b"m2.png"]


def test_a_profile_is_named_unless_the_preset_changes_it(maker, upload):
    maker.desk.store.set_profile("mine", Settings(crf=20))
    sent = {"picture": upload("me.png"), "voice": upload("hello.wav"), "profile": "mine"}
    named = maker.submit(values(**sent))
    changed = maker.submit(values(**sent, preset="low-memory"))
    assert named.order.profile == "mine" and named.order.settings.crf == 20
    assert changed.order.settings.vram == LOW_MEMORY and changed.order.settings.crf == 20
    with pytest.raises(FormError, match="unknown_profile"):
        maker.submit(values(**sent | {"profile": "gone"}))


def test_a_refused_form_leaves_nothing_behind(maker, upload):
    with pytest.raises(FormError):
        maker.submit(values(picture=upload("me.png")))
    assert list(maker.desk.folder.jobs.iterdir()) == [] and maker.desk.list() == ()


@pytest.mark.parametrize("field", ["picture", "voice", "voice2", "mask_first", "mask_second"])
def test_paths_that_were_not_uploaded_are_refused_wherever_they_come(maker, upload, tmp_path, field):
    """Row T7: the path of a file is the browser's word only."""
    secret = tmp_path / "secret.png"
    secret.write_bytes(b"secret")
    sent = {"picture": upload("me.png"), "voice": upload("hello.wav")} | {field: str(secret)}
    with pytest.raises(InputError) as error:
        maker.submit(values(**sent))
    assert error.value.code == "file_outside" and "secret" not in error.value.message
    assert "role" in maker.estimate(values(**sent), "en")
    assert maker.desk.list() == ()


@pytest.mark.parametrize(
    "path",
    [
        "/etc/hostname",
        "../secret",
        "{uploads}/../secret",
        "{uploads}",
        "{uploads}/link",
        "{uploads}/dir/s",
        "\0",
        7,
        ["x"],
    ],
)
def test_ways_out_of_the_uploads(tmp_path, path):
    """Row T7: also by links, of files and of folders."""
    uploads = tmp_path / "uploads"
    uploads.mkdir()
    (tmp_path / "s").write_bytes(b"secret")
    (tmp_path / "secret").write_bytes(b"secret")
    (uploads / "link").symlink_to(tmp_path / "secret")
    (uploads / "dir").symlink_to(tmp_path)
    given = path.format(uploads=uploads) if isinstance(path, str) else path
    with pytest.raises(InputError) as error:
        uploaded(given, uploads)
    assert error.value.code == "file_outside"


def test_a_pipe_is_no_upload(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InputError):
        uploaded(str(tmp_path / "pipe"), tmp_path)


def test_an_empty_field_is_none(tmp_path):
    assert uploaded(None, tmp_path) is None and uploaded("", tmp_path) is None


def test_the_estimate_follows_the_form(maker, upload):
    assert "Choose a picture" in maker.estimate(values(), "en")
    assert "选好图片" in maker.estimate(values(), "zh")
    ready = {"picture": upload("me.png"), "voice": upload("hello.wav")}
    assert "8 s of video, 192 × 128" in maker.estimate(values(**ready), "en")
    assert "2.5 s of video" in maker.estimate(values(**ready, trim_start=0.5, trim_end=3), "en")
    assert "no box" in maker.estimate(values(**ready, box_first="<b>"), "en")
    assert "<b>" not in maker.estimate(values(**ready, box_first="<b>"), "en")


CHANGES = {
    "voice2": "b.wav", "layout": AudioLayout.IN_TURN.value,
    "box_first": "1,2,3,4", "box_second": "5,6,7,8", "mask_first": "m.png",
    "mask_second": "n.png", "trim_start": 0.5, "trim_end": 3.0, "prompt": "a | b", "negative_prompt": "dull",
    "preset": "low-memory", "profile": "mine", "size": "64x64", "steps": 3, "scheduler": "unipc", "shift": 2.0,
    "text_guidance": 3.0, "audio_guidance": 2.0, "window_frames": 17, "motion_frames": 5, "max_frames": 9,
    "colour_strength": 0.5, "step_cache": "teacache", "distilled": next(iter(Distilled)).value,
}  # fmt: skip
"""Another value than the usual one for each field that the estimate is to follow."""


def test_the_estimate_is_asked_with_every_setting(maker, upload, monkeypatch):
    """Whatever is changed in the form changes what is asked; with few files for all of them, once each."""
    asked = []

    def estimate(request, settings, _look, options):
        asked.append((request, settings, options))
        return Estimate(64, 64, 1.0, 2.0, 3.0)

    maker.options = replace(maker.options, estimate=estimate, more=node_fields(maker.texts))
    maker.more = dict.fromkeys(node_values())
    maker.desk.store.set_profile("mine", Settings(crf=20))
    ready = {"picture": upload("me.png"), "voice": upload("hello.wav")}
    pair = ready | {
        "voice2": upload("c.wav"),
        "mask_first": upload("o.png"),
        "mask_second": upload("p.png"),
    }
    assert set(CHANGES) == set(Form.names()) - {"picture", "voice", "title", "seed", "scene_cuts"}
    for name, value in CHANGES.items():
        before = pair if name in ("layout", "box_first", "box_second", "mask_first", "mask_second") else ready
        changed = upload(value) if "." in str(value) and isinstance(value, str) else value
        for form in (before, before | {name: changed}):
            maker.estimate([*values(**form), *node_values().values()], "en")
        assert asked[-2] != asked[-1], name
    for name, value in {"fps": 24, "audio_frames": 9, "resize": "pad"}.items():
        maker.estimate([*values(**ready), *(node_values() | {name: value}).values()], "en")
        assert asked[-1][2] != NodeOptions(), name


def node_values() -> dict[str, Any]:
    return values_of(NodeOptions())


def test_every_field_asks_for_the_estimate():
    """By its event: where something is typed, once it is written to its end."""
    names = (*Form.names(), *node_values())
    events = estimated({name: Component(name) for name in names})
    assert {event.split(".")[0] for event in events} == set(names) - {"title", "seed"}
    assert {"size.blur", "size.submit", "fps.change", "text_guidance.change"} <= set(events)
    assert "size.change" not in events


class Component:
    def __init__(self, name: str) -> None:
        self.change, self.blur, self.submit = (f"{name}.{event}" for event in ("change", "blur", "submit"))


def test_a_seed_that_is_drawn_is_no_other_question(maker, upload):
    asked = set()

    def estimate(request, *_):
        asked.add(request.seed)
        return Estimate(64, 64, 1.0)

    maker.options = replace(maker.options, estimate=estimate)
    for _ in range(3):
        maker.estimate(values(picture=upload("me.png"), voice=upload("hello.wav"), seed=-1), "en")
    assert len(asked) == 1


def test_what_will_be_refused_is_said_before_the_button_is_pressed(maker, upload):
    """Too long for this server, or options that exclude each other; in the visitor's language."""
    ready = {"picture": upload("me.png"), "voice": upload("hello.wav")}
    maker.desk.limits = replace(maker.desk.limits, seconds=5.0)
    assert "at most 5 s" in maker.estimate(values(**ready), "en")
    assert "视频太长" in maker.estimate(values(**ready), "zh")
    assert "it-warn" not in maker.estimate(values(**ready, trim_end=4), "en")
    maker.options = replace(maker.options, more=node_fields(maker.texts))
    maker.more = dict.fromkeys(node_values())
    both = [*values(**ready, trim_end=4, step_cache="teacache"), *(node_values() | {"fps": 24}).values()]
    assert "不能一起用" in maker.estimate(both, "zh")


def test_a_draft_goes_with_the_nodes_options(maker, upload):
    """The preset's step cache, which nobody chose, makes way."""
    maker.options = replace(maker.options, more=node_fields(maker.texts))
    maker.more = dict.fromkeys(node_values())
    form = values(picture=upload("me.png"), voice=upload("hello.wav"), preset="draft")
    plain = maker.submit([*form, *node_values().values()])
    slow = maker.submit([*form, *(node_values() | {"fps": 24}).values()])
    assert plain.order.request.step_cache is not None and slow.order.request.step_cache is None
    assert plain.order.request.steps == slow.order.request.steps


def test_a_film_that_ends_before_the_voice_is_told(maker, upload):
    ready = {"picture": upload("film.mp4"), "voice": upload("hello.wav")}
    assert "for the last 6 s" in maker.estimate(values(**ready), "en")
    assert "last picture" not in maker.estimate(values(**ready, trim_end=2), "en")


def test_the_estimate_tells_of_the_queue(maker, upload, job):
    job(), job()
    ready = {"picture": upload("me.png"), "voice": upload("hello.wav")}
    assert "Videos before yours: 2" in maker.estimate(values(**ready), "en")


def test_a_file_is_looked_at_once(maker, upload):
    path = Path(upload("hello.wav"))
    for _ in range(3):
        maker.found_sound(path, (0.0, None), "en")
    assert len(maker.options.checker.asked) == 1
    maker.found_sound(path, (1.0, None), "en")
    path.write_bytes(b"another recording under the same name")
    maker.found_sound(path, (1.0, None), "en")
    assert len(maker.options.checker.asked) == 3


@pytest.mark.parametrize(
    ("name", "said"), [("silent.wav", "stay shut"), ("faint.wav", "very quiet"), ("ok.wav", "-20 LUFS")]
)
def test_loudness_is_judged(maker, upload, name, said):
    assert said in maker.found_sound(Path(upload(name)), (0.0, None), "en")


def test_names_of_files_are_escaped(maker, upload):
    """Row T2."""
    html = maker.found_picture(Path(upload("<img src=x onerror=alert(1)>.png")), None, "en")
    assert "onerror" not in html


RUNNING = JobProgress(
    phase=Phase.SAMPLING, window=1, windows=4, step=2, steps=8, seconds_per_step=1.26, eta=100, percent=31.2
)


def test_nothing_is_shown_of_no_job(maker):
    assert all("skip" in repr(part) or part == {"__type__": "update"} for part in show(maker, "", "", "en"))


@pytest.mark.parametrize("known", ["video_0", {"x": 1}, ["video_1"], 3])
def test_a_job_that_is_gone_or_nonsense(maker, known):
    status = show(maker, known, "something", "en")[0]
    assert "alert" in status or "it-empty" in status


def test_a_running_job_is_told_in_numbers(maker, job):
    running = job(State.RUNNING, progress=RUNNING, title="News")
    status, player, *_ = show(maker, running.id, "", "en")
    for fact in (
        "31 %",
        "part 2 of 4",
        "step 2 of 8",
        "1.3 s a step",
        "about 2 min left",
        'aria-valuenow="31"',
    ):
        assert fact in status
    assert (
        f'data-preview="/v1/videos/{running.id}/preview"' in player and 'data-finished-windows="1"' in status
    )
    assert "第 2 段，共 4 段" in show(maker, running.id, "", "zh")[0]


def test_a_player_is_left_alone_while_it_shows_the_same(maker, job):
    """A video that is being watched must not start again every second."""
    running = job(State.RUNNING, progress=RUNNING)
    *_, seen = show(maker, running.id, "", "en")
    _, player, *_ = show(maker, running.id, seen, "en")
    assert not isinstance(player, str)


@pytest.mark.parametrize("state", [State.COMPLETED, State.FAILED, State.CANCELLED])
def test_an_end_stops_the_clock(maker, job, state):
    ended = job(state)
    status, player, cancel, timer, seen = show(maker, ended.id, "", "en")
    assert cancel["visible"] is False and not timer.active and seen == kind_of(ended)
    assert f"it-state-{state}" in status and "progressbar" not in status
    assert ("/content" in player) == (state is State.COMPLETED)


def test_a_failure_says_why_in_both_languages(maker, job):
    failed = job(State.FAILED)
    assert "It needs &lt;9&gt; GB." in show(maker, failed.id, "", "en")[0]
    assert "省显存" in show(maker, failed.id, "", "zh")[0]


def test_samples_lie_among_the_uploads(maker):
    sample = maker.sample(maker.options.sample_picture)
    assert (
        maker.uploaded(str(sample)) == sample
        and sample.read_bytes() == maker.options.sample_picture.read_bytes()
    )


def test_a_full_queue_is_a_sentence(maker, upload):
    maker.desk.limits = replace(maker.desk.limits, queued=0)
    with pytest.raises(InfiniteTalkError) as error:
        maker.submit(values(picture=upload("me.png"), voice=upload("hello.wav")))
    assert "请" in maker.complaint(error.value, "zh")
