"""What models are told: masks of small faces, silence after the speech, prompts, reference pictures."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from infinite_talk.conditioning.image import References
from infinite_talk.conditioning.people import encode_people
from infinite_talk.conditioning.speech import encode_speech, listen, speech_window
from infinite_talk.conditioning.text import encode_texts, prompt_for
from infinite_talk.errors import InputError
from infinite_talk.generate import generate
from infinite_talk.inputs.resize import token_masks
from infinite_talk.plan.windows import plan_windows
from infinite_talk.request import Compat
from infinite_talk.rooms import Rooms
from tests.unit import tiny
from tests.unit.test_generate import request

ROOMS = tiny.tiny_rooms()


def _with_face(top: int, left: int, side: int) -> object:
    """Two people; the second one is a square of ``side`` pixels."""
    media = tiny.source(20, 2)
    masks = np.zeros((3, 70, 90), np.bool_)
    masks[0, :, :30] = True
    masks[1, top : top + side, left : left + side] = True
    masks[2] = ~masks[:2].any(0)
    return replace(media, masks=masks)


@pytest.mark.parametrize("left", range(40, 60, 3))
def test_the_smallest_face_has_a_token(left: int) -> None:
    media = _with_face(30, left, 2)
    grid = encode_people(media, Compat.FIXED, ROOMS).bool().numpy()
    assert token_masks(grid)[1].any()
    assert token_masks(grid)[1].sum() <= 4


def test_official_masks_may_lose_it() -> None:
    lost = [
        not encode_people(_with_face(30, left, 2), Compat.OFFICIAL, ROOMS)[1].any() for left in range(40, 60)
    ]
    assert any(lost)


def test_large_faces_are_the_same_either_way() -> None:
    media = _with_face(20, 45, 30)
    assert torch.equal(*(encode_people(media, compat, ROOMS) for compat in Compat))


def test_a_person_who_is_cropped_away_is_named() -> None:
    with pytest.raises(InputError, match="Person 2 is outside"):
        encode_people(_with_face(30, 86, 2), Compat.FIXED, ROOMS)


def test_after_the_speech_there_is_silence_and_officially_its_reverse() -> None:
    media = tiny.source(20)
    plan = plan_windows(20, frames=17, motion=5)
    last = plan.windows[-1]
    heard = {}
    for compat in Compat:
        features = encode_speech(media, plan, compat, ROOMS)
        heard[compat] = speech_window(features, listen(features, plan, compat)[last.index])
        assert heard[compat].shape == (1, 17, 5, 2, 4)
    beyond = 20 + 2 - last.start  # the first frame whose whole window lies behind the speech
    assert not heard[Compat.FIXED][0, beyond:].any()
    assert heard[Compat.OFFICIAL][0, beyond].any()
    # While there is speech both hear the same, but for the last two frames' look ahead.
    torch.testing.assert_close(heard[Compat.FIXED][0, :6], heard[Compat.OFFICIAL][0, :6])


def test_equal_texts_are_encoded_once() -> None:
    asked = []

    class Counting(tiny.Texts):
        def encode(self, texts):
            asked.extend(texts)
            return super().encode(texts)

    (first, second, third), notes = encode_texts(["a", "b", "a"], replace(ROOMS, text=Counting()))
    assert asked == ["a", "b"] and notes == ()
    assert encode_texts(["a", "b" * 500], ROOMS)[1] == ("bbbbbbbb was cut",)
    assert torch.equal(first, third) and not torch.equal(first, second)
    assert [prompt_for([first, second], window) is second for window in range(4)] == [False, True, True, True]


def test_a_reference_marks_its_first_frame_only() -> None:
    reference = References(tiny.source(20), 17, ROOMS).at(0)
    assert reference.latents.shape == (20, 5, 8, 8)
    assert bool((reference.latents[:4, 0] == 1).all()) and not reference.latents[:4, 1:].any()


def test_the_start_of_a_shot_is_the_latent_of_its_picture_alone() -> None:
    references = References(tiny.source(20), 17, ROOMS)
    alone = ROOMS.encode_video(references.picture(0)[:, None])
    torch.testing.assert_close(references.at(0).start, alone, atol=1e-4, rtol=1e-4)


def test_a_still_picture_is_encoded_once_and_a_window_then_its_motion_frames_alone(monkeypatch) -> None:
    pictures, videos = [], []
    still, video = Rooms.encode_still, Rooms.encode_video

    def encode_still(rooms: Rooms, picture: torch.Tensor, *rest: float) -> torch.Tensor:
        pictures.append(picture.shape[1:])
        return still(rooms, picture, *rest)

    def encode_video(rooms: Rooms, frames: torch.Tensor) -> torch.Tensor:
        videos.append(frames.shape[1])
        return video(rooms, frames)

    monkeypatch.setattr(Rooms, "encode_still", encode_still)
    monkeypatch.setattr(Rooms, "encode_video", encode_video)
    clips = list(generate(request(), tiny.source(50), ROOMS))
    assert len(clips) == 4 and pictures == [(64, 64)] and videos == [5, 5, 5]
