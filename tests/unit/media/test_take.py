"""A growing video survives what can happen to it, and ends with the same bytes as if nothing had."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import random
import shutil
import subprocess
import tempfile
import time
import weakref
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from infinite_talk.errors import NoSpaceError, TakeError, UsageError
from infinite_talk.media import take as take_module
from infinite_talk.media.recipe import Recipe, sidecar_of
from infinite_talk.media.take import Take, folder_of
from tests.unit.media import worker
from tests.unit.media.fakes import play, tone
from tests.unit.media.worker import KILLED, clip_of, make, plan_of, recipe_of, run

PLAN = plan_of(5, 4, 4, 6, 3, shots=(3,))
SMALL = plan_of(2, 1, 1, 2, shots=(3,))


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Hash of the video of ``PLAN`` when nothing happens."""
    return digest(make(tmp_path_factory.mktemp("undisturbed") / "out.mp4", PLAN))


@pytest.fixture(scope="session")
def undisturbed_small(tmp_path_factory: pytest.TempPathFactory) -> str:
    return digest(make(tmp_path_factory.mktemp("undisturbed") / "out.mp4", SMALL))


def begin(output: Path, windows: int, **options: bool) -> None:
    """An interrupted run: ``windows`` windows are finished."""
    with Take.open(output, recipe_of(PLAN), PLAN, **options) as take:
        while take.finished < windows:
            take.add(clip_of(PLAN.windows[take.finished], take.motion()))


def test_an_undisturbed_run(tmp_path: Path, undisturbed: str):
    output = tmp_path / "some folder" / "mé 说话.mp4"
    assert make(output, PLAN) == output
    assert sorted(p.name for p in output.parent.iterdir()) == [output.name, output.name + ".json"]
    assert digest(output) == undisturbed  # neither the name nor the time is in the file
    played = play(output)
    assert played.times == [Fraction(n, 25) for n in range(22)]
    assert {0, 5, 9, 13, 19} <= set(played.keys)
    assert played.sound_length == Fraction(22, 25)


def test_what_the_file_says_of_itself(tmp_path: Path, undisturbed: str):
    output = make(tmp_path / "out.mp4", PLAN)
    tags = play(output).tags
    assert "AI-generated" in tags["description"]
    assert json.loads(tags["comment"])["ai_generated"] is True
    assert Recipe.from_file(output) == Recipe.from_file(sidecar_of(output)) == recipe_of(PLAN)
    told = json.loads(sidecar_of(output).read_text())
    assert told["file"]["sha256"] == undisturbed
    assert [window["frames"] for window in told["windows"]] == [5, 4, 4, 6, 3]
    assert told["report"]["seconds"] > 0


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(news=st.lists(st.integers(1, 6), min_size=1, max_size=4), data=st.data())
def test_any_plan_stopped_anywhere(tmp_path: Path, news: list[int], data: st.DataObject):
    plan = plan_of(*news, shots=tuple(data.draw(st.sets(st.integers(1, 3)))))
    whole = digest(make(tmp_path / "whole.mp4", plan))
    output = tmp_path / "parts.mp4"
    for _ in range(len(news)):  # one window per run
        with Take.open(output, recipe_of(plan), plan) as take:
            take.add(clip_of(plan.windows[take.finished], take.motion()))
    assert digest(make(output, plan)) == whole
    assert len(play(output).times) == sum(news)
    for name in ("whole.mp4", "parts.mp4"):
        (tmp_path / name).unlink()


def test_a_video_of_one_frame(tmp_path: Path):
    played = play(make(tmp_path / "out.mp4", plan_of(1)))
    assert played.times == [0]
    assert played.sound_length == Fraction(1, 25)


@pytest.fixture
def quick_folder() -> Iterator[Path]:
    """In memory where possible: hundreds of runs, and most of each would be waiting for the disk."""
    memory = Path("/dev/shm")
    folder = Path(tempfile.mkdtemp(dir=memory if os.access(memory, os.W_OK) else None))
    yield folder
    shutil.rmtree(folder)


@pytest.mark.slow
def test_killed_before_every_file_operation(quick_folder: Path, undisturbed_small: str):
    (quick_folder / "count").mkdir()
    run(worker.make_counting, quick_folder / "count" / "out.mp4", SMALL, quick_folder / "operations")
    operations = int((quick_folder / "operations").read_text())
    assert operations > 50
    for operation in range(1, operations + 1):
        output = quick_folder / str(operation) / "out.mp4"
        output.parent.mkdir()
        assert run(worker.make_dying, output, SMALL, operation) == KILLED
        if output.exists():  # a file with the output's name is complete, always
            assert digest(output) == undisturbed_small, operation
        try:
            make(output, SMALL)
        except NoSpaceError as error:  # killed while the very last crumbs of the folder were removed
            assert error.code == "exists", operation
        assert digest(output) == undisturbed_small, operation
        assert sorted(p.name for p in output.parent.iterdir()) == ["out.mp4", "out.mp4.json"], operation


@pytest.mark.slow
def test_killed_at_random_moments(quick_folder: Path, undisturbed: str):
    moments = random.Random(20)
    output = quick_folder / "out.mp4"
    killed = videos = 0
    while killed < 20:
        process = worker.PROCESSES.Process(target=worker.make_slowly, args=(output, PLAN, 0.02))
        process.start()
        time.sleep(moments.uniform(0.0, 0.25))
        process.kill()
        process.join()
        killed += process.exitcode == KILLED
        if output.exists() and not folder_of(output).exists():
            assert digest(output) == undisturbed
            videos += 1
            output.unlink()
    make(output, PLAN)
    assert digest(output) == undisturbed


@pytest.mark.parametrize("blocks", [0, 1, 3])
def test_killed_while_joining(tmp_path: Path, undisturbed: str, blocks: int):
    output = tmp_path / "out.mp4"
    begin(output, 5)
    assert run(worker.finish_dying, output, PLAN, blocks) == KILLED
    assert not output.exists()
    with Take.open(output, recipe_of(PLAN), PLAN) as take:
        assert take.complete  # no window is lost
    assert digest(make(output, PLAN)) == undisturbed


@pytest.mark.slow
@pytest.mark.parametrize(("code", "every"), [(errno.ENOSPC, 1), (errno.EACCES, 4)])
def test_refused_at_every_file_operation(quick_folder: Path, undisturbed_small: str, code: int, every: int):
    (quick_folder / "count").mkdir()
    run(worker.make_counting, quick_folder / "count" / "out.mp4", SMALL, quick_folder / "operations")
    for operation in range(1, int((quick_folder / "operations").read_text()) + 1, every):
        output = quick_folder / str(operation) / "out.mp4"
        output.parent.mkdir()
        assert run(worker.make_refused, output, SMALL, operation, code) == 0, operation
        assert digest(output) == undisturbed_small, operation


@pytest.mark.parametrize("limit", [0, 1000, 2500, 5000, 20_000])
def test_disk_full(tmp_path: Path, undisturbed: str, limit: int):
    assert run(worker.make_limited, tmp_path / "out.mp4", PLAN, limit) == 0
    assert digest(tmp_path / "out.mp4") == undisturbed


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A real file system of 64 kB; only an administrator can make one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", folder], check=False).returncode:
        pytest.skip("mounting is not allowed here")
    yield folder
    subprocess.run(["umount", folder], check=True)


def test_a_real_full_disk(small_disk: Path, undisturbed: str):
    output = small_disk / "out.mp4"
    for _ in range(2):
        with pytest.raises(NoSpaceError, match="disk is full") as caught:
            make(output, PLAN)
        assert caught.value.code == "no_space"
    assert list(folder_of(output).glob("window-*.json"))  # some of it did fit, and is kept
    subprocess.run(["mount", "-o", "remount,size=4m", small_disk], check=True)
    assert digest(make(output, PLAN)) == undisturbed


def test_disk_full_keeps_what_was_finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, undisturbed: str):
    output = tmp_path / "out.mp4"
    with Take.open(output, recipe_of(PLAN), PLAN) as take:
        take.add(clip_of(PLAN.windows[0], None))
        clip = clip_of(PLAN.windows[1], take.motion())
        with monkeypatch.context() as full:
            full.setattr(
                take_module, "write_segment", lambda path, *_, **__: Path("/dev/full").write_bytes(b"x")
            )
            with pytest.raises(NoSpaceError, match=r"disk is full.*same command again") as caught:
                take.add(clip)
        assert caught.value.exit_code == 6
        assert take.finished == 1
        assert not list(take.folder.glob("*.part"))
        take.add(clip)  # there is space again
        assert take.finished == 2
    assert digest(make(output, PLAN)) == undisturbed


def test_two_processes(tmp_path: Path, undisturbed: str):
    output, ready = tmp_path / "out.mp4", tmp_path / "ready"
    begin(output, 2)
    process = worker.PROCESSES.Process(target=worker.hold, args=(output, PLAN, ready))
    process.start()
    try:
        while not ready.exists():
            assert process.is_alive()
            time.sleep(0.01)
        with pytest.raises(TakeError, match=f"in use by process {process.pid}") as caught:
            make(output, PLAN)
        assert caught.value.code == "busy"
        with pytest.raises(TakeError, match="in use"):
            make(output, PLAN, resume=False, overwrite=True)
    finally:
        process.kill()
        process.join()
    assert digest(make(output, PLAN)) == undisturbed


def test_twice_in_one_process(tmp_path: Path):
    with (
        Take.open(tmp_path / "out.mp4", recipe_of(PLAN), PLAN),
        pytest.raises(TakeError, match=f"process {os.getpid()}"),
    ):
        Take.open(tmp_path / "out.mp4", recipe_of(PLAN), PLAN)


def test_an_error_on_opening_gives_the_lock_back(tmp_path: Path):
    begin(tmp_path / "out.mp4", 1)
    for _ in range(2):
        with pytest.raises(TakeError, match="other settings"):
            Take.open(tmp_path / "out.mp4", recipe_of(PLAN, steps=9), PLAN)


def test_continuing_says_so(tmp_path: Path):
    begin(tmp_path / "out.mp4", 2)
    with Take.open(tmp_path / "out.mp4", recipe_of(PLAN), PLAN) as take:
        assert take.finished == 2
        assert take.frames == 9
        assert take.notes == ("continuing after 2 of 5 windows",)


def test_motion_is_exact_and_no_more_than_needed(tmp_path: Path):
    output = tmp_path / "out.mp4"
    clip = clip_of(PLAN.windows[0], None)
    with Take.open(output, recipe_of(PLAN), PLAN) as take:
        assert take.motion() is None
        take.add(clip)
    with Take.open(output, recipe_of(PLAN), PLAN) as take:
        motion = take.motion()
        assert motion is not None
        assert torch.equal(motion, clip.motion[:, -2:])
        for number in (1, 2):
            take.add(clip_of(PLAN.windows[number], take.motion()))
        assert take.motion() is None  # a new shot begins
        for number in (3, 4):
            take.add(clip_of(PLAN.windows[number], take.motion()))
        assert take.motion() is None
        assert len(list(take.folder.glob("*.motion"))) <= 2


DAMAGES = [
    *(
        (kind, *place)
        for kind in ("mp4", "json")
        for place in [(1, 0), (3, 0), (3, 1), (3, 2), (5, 4), (5, 3)]
    ),
    *(("motion", *place) for place in [(1, 0), (2, 0), (2, 1), (4, 3), (5, 3)]),
]


@pytest.mark.parametrize(("kind", "finished", "damaged"), DAMAGES)
@pytest.mark.parametrize("harm", ["changed", "cut", "gone"])
def test_damaged_windows_are_made_again(
    tmp_path: Path, undisturbed: str, kind: str, finished: int, damaged: int, harm: str
):
    output = tmp_path / "out.mp4"
    begin(output, finished)
    file = folder_of(output) / f"window-{damaged:05d}.{kind}"
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 0x55
    if harm == "gone":
        file.unlink()
    else:
        file.write_bytes(content if harm == "changed" else content[: len(content) // 2])
    with Take.open(output, recipe_of(PLAN), PLAN) as take:
        if kind != "motion":
            assert take.finished <= damaged
            assert take.finished == damaged or damaged < finished - 1  # the last window: just that one
            if (kind, harm, damaged) != (
                "json",
                "gone",
                finished - 1,
            ):  # that looks like a window not finished
                assert "damaged" in take.notes[0]
    assert digest(make(output, PLAN)) == undisturbed


def test_another_recipe_is_refused(tmp_path: Path, undisturbed: str):
    output = tmp_path / "out.mp4"
    begin(output, 2)
    other = recipe_of(PLAN, steps=9, prompt="another")
    with pytest.raises(TakeError, match="steps: 9 here, 4 there") as caught:
        Take.open(output, other, PLAN)
    assert "prompt" in caught.value.message
    assert "--force" in caught.value.message
    assert caught.value.exit_code == 1
    newer = replace(recipe_of(PLAN), versions={**recipe_of(PLAN).versions, "torch": "9"})
    with pytest.raises(TakeError, match="torch"):
        Take.open(output, newer, PLAN)
    plan = plan_of(5, 5)
    with pytest.raises(TakeError, match="plan"):
        Take.open(output, recipe_of(plan), plan)
    assert digest(make(output, PLAN)) == undisturbed  # nothing was lost


def test_force_starts_again(tmp_path: Path):
    output = tmp_path / "out.mp4"
    begin(output, 2)
    with Take.open(output, recipe_of(PLAN, steps=9), PLAN, resume=False, overwrite=True) as take:
        assert take.finished == 0
        assert not list(take.folder.glob("window-*"))


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b'{"schema": 1}', b'{"schema": 9, "recipe": {}, "plan": {}}']
)
def test_a_damaged_description_is_an_error(tmp_path: Path, content: bytes):
    output = tmp_path / "out.mp4"
    begin(output, 1)
    (folder_of(output) / "take.json").write_bytes(content)
    with pytest.raises(TakeError, match="--force"):
        Take.open(output, recipe_of(PLAN), PLAN)
    assert (folder_of(output) / "window-00000.mp4").exists()


def test_leftovers_are_removed(tmp_path: Path, undisturbed: str):
    output = tmp_path / "out.mp4"
    begin(output, 2)
    leftover = folder_of(output) / "window-00002.mp4.part"
    leftover.write_bytes(b"half")
    with Take.open(output, recipe_of(PLAN), PLAN):
        assert not leftover.exists()
    assert digest(make(output, PLAN)) == undisturbed


def test_files_of_others_stay(tmp_path: Path):
    output = tmp_path / "out.mp4"
    begin(output, 1)
    (folder_of(output) / "notes.txt").write_text("mine")
    make(output, PLAN)
    assert [p.name for p in folder_of(output).iterdir()] == ["notes.txt"]


def test_an_existing_output_is_not_replaced_unasked(tmp_path: Path, undisturbed: str):
    output = tmp_path / "out.mp4"
    output.write_bytes(b"precious")
    with pytest.raises(NoSpaceError, match=r"there already.*--force") as caught:
        make(output, PLAN)
    assert (caught.value.exit_code, caught.value.code) == (6, "exists")
    assert output.read_bytes() == b"precious"
    assert not folder_of(output).exists()
    begin(output, 2, overwrite=True)
    assert output.read_bytes() == b"precious"  # until the new one is complete
    with pytest.raises(NoSpaceError, match="there already"):
        make(output, PLAN)
    assert digest(make(output, PLAN, overwrite=True)) == undisturbed


def test_an_output_that_appears_meanwhile(tmp_path: Path, undisturbed: str):
    output = tmp_path / "out.mp4"
    begin(output, 5)
    with Take.open(output, recipe_of(PLAN), PLAN) as take:
        output.write_bytes(b"precious")
        with pytest.raises(NoSpaceError, match="there already"):
            take.finish(tone(22 / 25))
        assert output.read_bytes() == b"precious"
        output.unlink()
        take.finish(tone(22 / 25))
    assert digest(output) == undisturbed


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every user can reach."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    yield folder
    folder.chmod(0o755)
    shutil.rmtree(folder)


def test_a_folder_that_cannot_be_written(open_folder: Path):
    open_folder.chmod(0o555)
    assert run(worker.make_as_nobody, open_folder / "out.mp4", PLAN) == 0
    assert not list(open_folder.iterdir())


@pytest.mark.parametrize(
    "name", ["file/out.mp4", "file/deeper/out.mp4", "x" * 300 + ".mp4", "a" * 250 + ".mp4"]
)
def test_names_that_cannot_be(tmp_path: Path, name: str):
    (tmp_path / "file").write_text("")
    with pytest.raises(NoSpaceError) as caught:
        make(tmp_path / name, PLAN)
    assert caught.value.exit_code == 6


@pytest.mark.parametrize("output", [Path("/dev/null"), Path("/tmp")])
def test_outputs_that_are_no_files(output: Path):
    with pytest.raises(UsageError, match="not a file"):
        make(output, PLAN, overwrite=True)


def test_misuse_is_told(tmp_path: Path):
    with Take.open(tmp_path / "out.mp4", recipe_of(PLAN), PLAN) as take:
        with pytest.raises(ValueError, match="0 of 5 windows"):
            take.finish(None)
        with pytest.raises(ValueError, match="clip of window 1"):
            take.add(clip_of(PLAN.windows[1], None))
        short = clip_of(PLAN.windows[0], None)
        with pytest.raises(ValueError, match="motion frames"):
            take.add(replace(short, motion=short.motion[:, :1]))
        assert take.finished == 0
    with pytest.raises(ValueError, match="another plan"):
        Take.open(tmp_path / "other.mp4", recipe_of(plan_of(3)), PLAN)


def test_frames_are_not_held(tmp_path: Path):
    with Take.open(tmp_path / "out.mp4", recipe_of(PLAN), PLAN) as take:
        clip = clip_of(PLAN.windows[0], None)
        held = [weakref.ref(clip.frames), weakref.ref(clip.motion)]
        take.add(clip)
        del clip
        assert [reference() for reference in held] == [None, None]
