"""The engine from files to files, with a model folder of a few thousand random parameters."""

from __future__ import annotations

import hashlib
import json
import sys
from dataclasses import replace
from pathlib import Path
from threading import Event

import av
import numpy as np
import pytest
import torch

import infinite_talk
from infinite_talk import (
    Cancelled,
    CheckpointError,
    EasyCache,
    Engine,
    InputError,
    MagCache,
    NoSpaceError,
    OutOfMemoryError,
    Phase,
    Progress,
    Request,
    Settings,
    Speaker,
    TeaCache,
    UsageError,
    talk,
    window_seams,
)
from infinite_talk.media.take import Take
from infinite_talk.request import StepCache
from infinite_talk.rooms import Rooms
from infinite_talk.types import Clip


@pytest.fixture(scope="module")
def engine(tiny_bundle: Path) -> Engine:
    return Engine(Settings(model=tiny_bundle))


@pytest.fixture
def request_(portrait: Path, speech: Path) -> Request:
    return Request(image=portrait, speakers=(Speaker(audio=speech),))


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_portrait_and_speech_become_a_film_with_sound(
    engine: Engine, request_: Request, tmp_path: Path
) -> None:
    result = engine.write(request_, tmp_path / "me.mp4")
    assert result.path == tmp_path / "me.mp4"
    with av.open(str(result.path)) as film:
        pictures = sum(1 for _ in film.decode(video=0))
        assert (film.streams.video[0].width, film.streams.video[0].height) == (64, 64)
    with av.open(str(result.path)) as film:
        sound = sum(frame.samples for frame in film.decode(audio=0)) / film.streams.audio[0].rate
    assert pictures == result.frames == 41  # 1.62 s at 25 frames per second, rounded up
    assert abs(sound - pictures / 25) < 0.05
    assert not list(tmp_path.glob("*.take"))
    assert result.recipe["request"]["steps"] == engine.defaults.steps
    assert len(result.timings.windows) == 3
    assert window_seams(result.path) == (17, 29)  # windows of 17 frames, 5 of them carried over
    assert json.loads((tmp_path / "me.mp4.json").read_text())["recipe"]["ai_generated"]


def test_an_interrupted_run_continues_to_the_same_bytes(
    engine: Engine, request_: Request, tmp_path: Path
) -> None:
    undisturbed = engine.write(request_, tmp_path / "whole" / "me.mp4")

    def interrupt(event: Progress) -> None:
        if event.phase is Phase.SAMPLING and (event.window, event.step) == (stop_in, 1):
            raise Cancelled("stop")

    for stop_in in range(3):
        output = tmp_path / str(stop_in) / "me.mp4"
        with pytest.raises(Cancelled):
            engine.write(request_, output, progress=interrupt)
        assert not output.exists()
        result = engine.write(request_, output)
        assert result.timings.resumed == stop_in
        assert len(result.timings.windows) == 3 - stop_in
        assert sha256(output) == sha256(undisturbed.path)


def test_a_full_disk_is_told_at_the_next_step_and_the_run_continues_later(
    engine: Engine, request_: Request, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    undisturbed, failed = engine.write(request_, tmp_path / "whole" / "me.mp4"), Event()
    add = Take.add

    def refuse(take: Take, clip: Clip) -> None:
        if take.finished == 1:
            failed.set()
            raise NoSpaceError("full")
        add(take, clip)

    seen: list[Progress] = []

    def listen(event: Progress) -> None:
        if event.phase is Phase.SAMPLING and (event.window, event.step) == (2, 1):
            assert failed.wait(30)  # the second window is being written while the third one is made
        seen.append(event)

    with monkeypatch.context() as patch, pytest.raises(NoSpaceError):
        patch.setattr(Take, "add", refuse)
        engine.write(request_, tmp_path / "me.mp4", progress=listen)
    assert seen[-1].window == 2
    result = engine.write(request_, tmp_path / "me.mp4")
    assert result.timings.resumed == 1
    assert sha256(result.path) == sha256(undisturbed.path)


@pytest.mark.parametrize(
    ("cache", "computed"),
    [
        (TeaCache(threshold=1e9), 5),
        (MagCache(threshold=1e9, longest=9, ratios=(1.0, 0.9)), 2),
        (EasyCache(threshold=1e9), 2),
    ],
)
def test_what_a_step_cache_left_out_is_told_and_survives_an_interruption(
    engine: Engine, request_: Request, tmp_path: Path, cache: StepCache, computed: int
) -> None:
    asked = replace(request_, steps=7, step_cache=cache)
    undisturbed = engine.write(asked, tmp_path / "whole" / "me.mp4")
    left_out = dict.fromkeys(("cond", "drop_text", "uncond"), 7 - computed)
    assert undisturbed.skipped == (left_out,) * 3
    assert undisturbed.recipe["request"]["step_cache"]["threshold"] == 1e9
    told = json.loads((tmp_path / "whole" / "me.mp4.json").read_text())
    assert [window["skipped"] for window in told["windows"]] == [left_out] * 3
    if sys.platform.startswith("linux"):
        assert all(window["memory"] > 1e7 for window in told["windows"])
    assert sum("approximate" in note for note in undisturbed.notes) == 1

    def interrupt(event: Progress) -> None:
        if event.phase is Phase.SAMPLING and (event.window, event.step) == (1, 6):
            raise Cancelled("stop")

    with pytest.raises(Cancelled):
        engine.write(asked, tmp_path / "me.mp4", progress=interrupt)
    resumed = engine.write(asked, tmp_path / "me.mp4")
    assert resumed.timings.resumed == 1
    assert resumed.skipped == undisturbed.skipped  # the earlier run's windows too
    assert sha256(resumed.path) == sha256(undisturbed.path)


def test_clips_can_be_taken_one_by_one_and_the_rest_left(engine: Engine, request_: Request) -> None:
    clips = engine.generate(request_)
    first = next(clips)
    assert first.frames.shape == (17, 64, 64, 3)
    clips.close()
    with pytest.raises(StopIteration):
        next(clips)


def test_events_tell_the_whole_story(engine: Engine, request_: Request, tmp_path: Path) -> None:
    events: list[Progress] = []
    engine.write(request_, tmp_path / "me.mp4", progress=events.append)
    phases = list(dict.fromkeys(event.phase for event in events))
    assert phases == [p for p in Phase if p is not Phase.LOADING]
    assert events[-1].phase is Phase.DONE and events[-1].window == events[-1].windows == 3


def test_a_preview_says_what_will_be_made(engine: Engine, request_: Request) -> None:
    preview = engine.preview(request_)
    assert (preview.frames, preview.windows, preview.size.width) == (41, 3, 64)
    assert preview.passes == 3 * 2 * 3
    assert preview.memory > 0 and preview.estimated_seconds > 0
    larger = engine.preview(replace(request_, size="1024x1024!"))
    assert larger.memory > preview.memory
    assert engine.preview(replace(request_, text_guidance=1.0, audio_guidance=1.0)).passes == 3 * 2


def test_bad_requests_are_refused_before_the_model_is_loaded(
    tiny_bundle: Path, request_: Request, tmp_path: Path
) -> None:
    (tmp_path / "empty.wav").touch()
    fresh = Engine(Settings(model=tiny_bundle), progress=_refuse_loading)
    with pytest.raises(UsageError):
        fresh.write(replace(request_, steps=0), tmp_path / "me.mp4")
    with pytest.raises(InputError):
        fresh.write(replace(request_, speakers=(Speaker(audio=tmp_path / "empty.wav"),)), tmp_path / "me.mp4")
    (tmp_path / "there.mp4").touch()
    with pytest.raises(NoSpaceError):
        fresh.write(request_, tmp_path / "there.mp4")
    with pytest.raises(InputError):
        fresh.generate(replace(request_, image=tmp_path / "no.png"))


def _refuse_loading(event: Progress) -> None:
    assert event.phase is not Phase.LOADING


def test_several_people_speak(engine: Engine, request_: Request, speech: Path, tmp_path: Path) -> None:
    boxes = [infinite_talk.Box(left, 10, left + 30, 90) for left in (2, 40, 80)]
    speakers = tuple(
        Speaker(audio=audio, box=box) for audio, box in zip((speech, None, speech), boxes, strict=True)
    )
    result = engine.write(replace(request_, speakers=speakers), tmp_path / "three.mp4")
    assert result.frames == 41


@pytest.mark.parametrize(
    "failure", [MemoryError(), RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory")]
)
def test_memory_that_runs_out_is_explained(
    engine: Engine, request_: Request, failure: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> torch.Tensor:
        raise failure

    monkeypatch.setattr(Rooms, "decode_video", fail)
    with pytest.raises(OutOfMemoryError, match="smaller size"):
        next(engine.generate(request_))


def test_the_helper_makes_a_film_in_one_call(
    tiny_bundle: Path, portrait: Path, speech: Path, tmp_path: Path
) -> None:
    settings = Settings(model=tiny_bundle)
    result = talk(portrait, speech, tmp_path / "me.mp4", settings=settings, steps=1, max_frames=10)
    assert result.frames == 10 and result.path.exists()


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="transformer is missing"):
        Engine(Settings(model=tmp_path)).runtime()


def test_frames_of_the_film_are_those_of_the_clips(
    engine: Engine, request_: Request, tmp_path: Path, tiny_bundle: Path
) -> None:
    frames = np.concatenate([clip.frames.numpy() for clip in engine.generate(request_)])
    lossless = Engine(Settings(model=tiny_bundle, crf=1))
    path = lossless.write(request_, tmp_path / "me.mp4").path
    with av.open(str(path)) as film:
        shown = np.stack([frame.to_ndarray(format="rgb24") for frame in film.decode(video=0)])
    # Chroma is stored at half size, so brightness is what can be compared.
    assert abs(shown.mean(-1) - frames.mean(-1)).mean() < 12
