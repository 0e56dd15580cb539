"""The writer keeps the order, tells what went wrong, and never has the maker wait for a writer that has failed."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event, current_thread

import pytest
import torch

from infinite_talk.errors import Cancelled, NoSpaceError
from infinite_talk.media.take import Take
from infinite_talk.media.writer import WAITING, Writer
from infinite_talk.types import Clip
from tests.unit.media.fakes import tone
from tests.unit.media.worker import clip_of, make, plan_of, recipe_of

PLAN = plan_of(5, 4, 4, 6, 3, shots=(3,))


@dataclass
class Shelf:
    """Takes clips when it is let, and fails at one."""

    let: Event = field(default_factory=Event)
    fails_at: int | None = None
    taken: list[Clip] = field(default_factory=list)
    threads: set[str] = field(default_factory=set)

    def add(self, clip: Clip) -> None:
        assert self.let.wait(10)
        self.threads.add(current_thread().name)
        if self.fails_at == len(self.taken):
            raise NoSpaceError("full")
        self.taken.append(clip)


def clips(count: int) -> list[Clip]:
    return [clip_of(PLAN.windows[0], None) for _ in range(count)]


def test_clips_are_written_in_order_beside_the_caller() -> None:
    shelf, made = Shelf(), clips(6)
    with Writer(shelf) as writer:
        for clip in made[: 1 + WAITING]:
            writer.add(clip)  # does not wait, although nothing can be written yet
        assert shelf.taken == []
        shelf.let.set()
        for clip in made[1 + WAITING :]:
            writer.add(clip)
    assert [id(clip) for clip in shelf.taken] == [id(clip) for clip in made]
    assert shelf.threads == {"clip writer"}


def test_what_goes_wrong_is_raised_at_the_next_step_and_nothing_after_it_is_written() -> None:
    shelf = Shelf(fails_at=1)
    shelf.let.set()
    with pytest.raises(NoSpaceError, match="full"), Writer(shelf) as writer:
        for clip in clips(50):
            writer.add(clip)  # ends, although the writer has stopped
    assert len(shelf.taken) == 1
    shelf = Shelf(fails_at=0)
    with pytest.raises(NoSpaceError), Writer(shelf) as writer:
        writer.add(clips(1)[0])
        writer.check()
        shelf.let.set()
    assert shelf.taken == []


def test_the_last_clip_failing_is_told_at_the_end() -> None:
    shelf = Shelf(fails_at=1)
    shelf.let.set()
    with pytest.raises(NoSpaceError), Writer(shelf) as writer:
        writer.add(clips(1)[0])
        writer.add(clips(1)[0])
    assert len(shelf.taken) == 1


def test_a_stopped_run_keeps_the_windows_it_has_finished() -> None:
    shelf = Shelf()
    with pytest.raises(Cancelled), Writer(shelf) as writer:
        writer.add(clips(1)[0])
        shelf.let.set()
        raise Cancelled("enough")
    assert len(shelf.taken) == 1


def test_the_reason_to_stop_is_not_hidden_by_a_failure() -> None:
    shelf = Shelf(fails_at=0)
    shelf.let.set()
    with pytest.raises(Cancelled), Writer(shelf) as writer:
        writer.add(clips(1)[0])
        raise Cancelled("enough")


def test_the_video_is_the_same_as_without_a_writer(tmp_path: Path) -> None:
    """The slow twin adds each clip to the take itself."""
    slow = make(tmp_path / "slow.mp4", PLAN)
    motion, output = torch.empty(0), tmp_path / "me.mp4"
    with Take.open(output, recipe_of(PLAN), PLAN) as take:
        with Writer(take) as writer:
            for window in PLAN.windows:
                clip = clip_of(window, motion[:, -window.overlap :] if window.overlap else None)
                writer.add(clip)
                motion = clip.motion
        assert take.complete
        take.finish(tone(PLAN.length / 25))
    digests = {hashlib.sha256(path.read_bytes()).hexdigest() for path in (slow, output)}
    assert len(digests) == 1
