"""The page: lengths, resuming, prompts, people, cuts, cancelling, memory."""

from __future__ import annotations

import gc
import weakref
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from infinite_talk.errors import Cancelled
from infinite_talk.generate import Start, generate, plan_for, to_bytes
from infinite_talk.presets import resolve
from infinite_talk.progress import Phase, Progress
from infinite_talk.request import Compat, EasyCache, MagCache, Request, Speaker, StepCache, TeaCache
from infinite_talk.rooms import Rooms
from infinite_talk.types import Clip
from tests.unit import tiny


@pytest.fixture(scope="module")
def rooms() -> Rooms:
    return tiny.tiny_rooms()


def request(**settings: object) -> Request:
    speakers = (Speaker(audio=Path("speech.wav")),)
    return resolve(Request(image=Path("portrait.png"), speakers=speakers, **settings), tiny.DEFAULTS)


def video(clips: list[Clip]) -> torch.Tensor:
    return torch.cat([clip.frames for clip in clips])


@pytest.mark.parametrize("frames", [1, 2, 16, 17, 18, 29, 30, 42])
def test_the_video_is_exactly_as_long_as_the_speech(rooms: Rooms, frames: int) -> None:
    clips = list(generate(request(), tiny.source(frames), rooms))
    assert video(clips).shape == (frames, 64, 64, 3)
    assert all(len(clip.frames) == clip.window.new for clip in clips)


def test_the_same_request_gives_the_same_video_and_another_seed_another(rooms: Rooms) -> None:
    first, again, other = (
        video(list(generate(request(seed=seed), tiny.source(20), rooms))) for seed in (1, 1, 2)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.parametrize("compat", list(Compat))
def test_a_run_continued_at_any_window_ends_in_the_same_video(rooms: Rooms, compat: Compat) -> None:
    asked, media = request(compat=compat), tiny.source(50)
    whole = list(generate(asked, media, rooms))
    assert len(whole) >= 4
    for k in range(1, len(whole)):
        start = Start(k, whole[k - 1].motion)
        rest = list(generate(asked, tiny.source(50), rooms, start=start))
        assert [clip.window for clip in rest] == [clip.window for clip in whole[k:]]
        assert torch.equal(video(rest), video(whole[k:]))


def test_one_window_can_be_made_again_alone(rooms: Rooms) -> None:
    whole = list(generate(request(), tiny.source(60), rooms))
    alone = next(generate(request(), tiny.source(60), rooms, start=Start(3, whole[2].motion)))
    assert torch.equal(alone.frames, whole[3].frames)


def test_windows_continue_each_other(rooms: Rooms) -> None:
    """The motion frames decide how the next window goes on."""
    whole = list(generate(request(), tiny.source(40), rooms))
    other = next(generate(request(), tiny.source(40), rooms, start=Start(1, whole[0].motion.flip(0))))
    assert not torch.equal(other.frames, whole[1].frames)
    assert whole[0].motion.shape == (3, 5, 64, 64)
    assert torch.equal(to_bytes(whole[0].motion, Compat.FIXED), whole[0].frames[-5:])


def test_closing_the_generator_stops_the_work(rooms: Rooms) -> None:
    events: list[Progress] = []
    clips = generate(request(), tiny.source(60), rooms, listen=events.append)
    next(clips)
    clips.close()
    assert max(event.window for event in events) == 1


def test_the_listener_can_stop_within_a_window(rooms: Rooms) -> None:
    def stop(event: Progress) -> None:
        if event.step == 1:
            raise Cancelled("enough")

    with pytest.raises(Cancelled):
        next(generate(request(), tiny.source(20), rooms, listen=stop))


def test_progress_counts_every_step_of_every_window(rooms: Rooms) -> None:
    events: list[Progress] = []
    clips = list(generate(request(steps=3), tiny.source(40), rooms, listen=events.append))
    assert events[0].phase is Phase.ENCODING
    steps = [(e.window, e.step) for e in events if e.phase is Phase.SAMPLING and e.step]
    assert steps == [(window, step) for window in range(len(clips)) for step in (1, 2, 3)]
    assert events[-1].phase is Phase.WRITING and events[-1].window == len(clips) == events[-1].windows
    assert events[-1].eta == 0


def test_each_window_has_its_own_prompt_and_the_last_one_holds(rooms: Rooms) -> None:
    whole = list(generate(request(prompt="a | b"), tiny.source(50), rooms))
    only_a, only_b = (list(generate(request(prompt=text), tiny.source(50), rooms)) for text in "ab")
    assert torch.equal(whole[0].frames, only_a[0].frames)
    assert not torch.equal(whole[1].frames, only_a[1].frames)
    continued = list(generate(request(prompt="b"), tiny.source(50), rooms, start=Start(1, whole[0].motion)))
    assert torch.equal(video(whole[1:]), video(continued))
    assert not torch.equal(only_a[0].frames, only_b[0].frames)


@pytest.mark.parametrize("people", [2, 3])
def test_every_person_is_heard(rooms: Rooms, people: int) -> None:
    media = tiny.source(20, people)
    base = video(list(generate(request(), media, rooms)))
    for person in range(people):
        speech = tuple(-3 * s if i == person else s for i, s in enumerate(media.speech))
        assert not torch.equal(base, video(list(generate(request(), replace(media, speech=speech), rooms))))


def test_people_of_unequal_length_last_as_long_as_the_source_says(rooms: Rooms) -> None:
    """The official program takes one person's length for all; here the source's decides."""
    media = tiny.source(40, 2)
    for lengths in ((40, 10), (10, 40)):
        speech = tuple(s[: length * 640] for s, length in zip(media.speech, lengths, strict=True))
        assert len(video(list(generate(request(), replace(media, speech=speech), rooms)))) == 40


@pytest.mark.parametrize(("text", "audio", "passes"), [(3, 2, 3), (1, 2, 2), (3, 1, 2), (1, 1, 1)])
def test_guidance_of_one_costs_no_pass(rooms: Rooms, text: float, audio: float, passes: int) -> None:
    calls = []
    hook = rooms.transformer.blocks[0].register_forward_hook(lambda *_: calls.append(1))
    list(generate(request(text_guidance=text, audio_guidance=audio), tiny.source(20), rooms))
    hook.remove()
    assert len(calls) == 2 * 2 * passes  # windows, steps


@pytest.mark.parametrize(
    ("cache", "computed"),
    [
        (TeaCache(threshold=1e9, coefficients=(1.0, 0.0)), 5),
        (MagCache(threshold=1e9, longest=9, ratios=(1.0, 0.9)), 2),
        (EasyCache(threshold=1e9), 2),
    ],
)
def test_a_step_cache_skips_work_tells_it_and_still_resumes_anywhere(
    rooms: Rooms, cache: StepCache, computed: int
) -> None:
    runs, events = [], []
    hook = rooms.transformer.blocks[0].register_forward_hook(lambda *_: runs.append(1))
    asked = request(steps=8, step_cache=cache)
    whole = list(generate(asked, tiny.source(40), rooms, listen=events.append))
    hook.remove()
    assert len(runs) == len(whole) * 3 * computed
    assert all(
        clip.skipped == {"cond": 8 - computed, "drop_text": 8 - computed, "uncond": 8 - computed}
        for clip in whole
    )
    notes = [event.note for event in events if event.note]
    assert len(notes) == 1 and f"{8 - computed} of 8 steps" in notes[0]  # every window is alike: said once
    for start in (1, 2):
        rest = list(generate(asked, tiny.source(40), rooms, start=Start(start, whole[start - 1].motion)))
        assert torch.equal(video(rest), video(whole[start:]))


def test_without_a_step_cache_nothing_is_told(rooms: Rooms) -> None:
    events: list[Progress] = []
    clips = list(generate(request(), tiny.source(20), rooms, listen=events.append))
    assert not any(clip.skipped for clip in clips) and not any(event.note for event in events)


def test_a_still_picture_is_encoded_once_and_a_film_at_every_window(rooms: Rooms) -> None:
    for pictures, looks in ((tiny.Still(), [0]), (tiny.Moving(), [0, 12, 24])):
        list(generate(request(), tiny.source(40, pictures=pictures), rooms))
        colours, *seen = pictures.looked_at
        assert (colours, seen) == (0, looks)


def test_a_new_shot_starts_from_its_own_picture(rooms: Rooms) -> None:
    pictures = tiny.Moving()
    media = tiny.source(40, pictures=pictures, cuts=(20,))
    clips = list(generate(request(), media, rooms))
    assert [clip.window.start for clip in clips] == [0, 12, 20, 32]
    first_of_shot = [clip.window.overlap == 0 for clip in clips]
    assert first_of_shot == [True, False, True, False]
    # Continued in the second shot, its own colours are looked up again, not those of the first.
    again = tiny.Moving()
    rest = list(generate(request(), replace(media, pictures=again), rooms, start=Start(3, clips[2].motion)))
    assert sorted(again.looked_at) == [20, 32]
    assert torch.equal(rest[0].frames, clips[3].frames)


def test_what_lies_beyond_the_speech_is_heard_as_silence(rooms: Rooms) -> None:
    """A recording followed by silence gives the same frames as the recording alone."""
    short = tiny.source(20)
    padded = replace(short, speech=(np.pad(short.speech[0], (0, 640 * 40)),))
    assert torch.equal(*(video(list(generate(request(), media, rooms))) for media in (short, padded)))


def test_finished_windows_are_not_kept(rooms: Rooms) -> None:
    gone = []
    for clip in generate(request(steps=1, text_guidance=1.0, audio_guidance=1.0), tiny.source(50), rooms):
        gone.append(weakref.ref(clip.frames))
        del clip
        gc.collect()
        assert sum(ref() is not None for ref in gone) <= 1


def test_official_plan_has_the_official_length(rooms: Rooms) -> None:
    media = tiny.source(30, 2)
    speech = (media.speech[0], media.speech[1][: 21 * 640 + 1])
    plan = plan_for(replace(media, speech=speech), request(compat=Compat.OFFICIAL))
    assert plan.length == 21  # the last person's recording decides


def test_bytes_are_rounded_unless_the_official_way_is_wanted() -> None:
    levels = torch.tensor([-1.0, -0.001, 0.0, 0.5, 1.0]).expand(3, 1, 1, 5)
    assert to_bytes(levels, Compat.FIXED)[0, 0, :, 0].tolist() == [0, 127, 128, 191, 255]
    assert to_bytes(levels, Compat.OFFICIAL)[0, 0, :, 0].tolist() == [0, 127, 127, 191, 255]
