"""The window loop of the nodes: the engine's video where both mean the same, and what is its own."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from infinite_talk.conditioning import encode
from infinite_talk.errors import Cancelled, CapabilityError, InputError, OutOfMemoryError, UsageError
from infinite_talk.generate import generate, plan_for
from infinite_talk.inputs.resize import resize_picture, to_tensor
from infinite_talk.media.colour_transfer import transfer_colours
from infinite_talk.media.pictures import read_frames
from infinite_talk.nodes.host import Host, hosted
from infinite_talk.nodes.longvideo import source_slice
from infinite_talk.nodes.walking import ModelWalker
from infinite_talk.presets import resolve
from infinite_talk.progress import Phase, Progress
from infinite_talk.request import Request, Speaker
from infinite_talk.rooms import Rooms
from infinite_talk.types import Size, Window
from tests.unit import tiny
from tests.unit.nodes import scenes
from tests.unit.nodes.scenes import FRAMES, MOTION, SIDE


@pytest.fixture(scope="module")
def rooms() -> Rooms:
    return tiny.tiny_rooms()


def engine_scene(
    rooms: Rooms, frames: int, people: int, text: float, audio: float
) -> tuple[torch.Tensor, dict[str, Any]]:
    """The engine's video, and arguments that ask the nodes for the same."""
    speakers = tuple(Speaker(audio=Path(f"{i}.wav")) for i in range(people))
    asked = {
        "text_guidance": text,
        "audio_guidance": audio,
        "steps": 4,
        "shift": 3.0,
        "seed": 5,
        "prompt": "a|b",
    }
    request = resolve(
        Request(image=Path("a.png"), speakers=speakers, colour_strength=0.0, **asked), tiny.DEFAULTS
    )
    source = replace(tiny.source(frames, people), size=Size(SIDE, SIDE))
    video = torch.cat([clip.frames for clip in generate(request, source, rooms)])
    told = encode(source, plan_for(source, request), request, rooms)
    picture = to_tensor(resize_picture(source.pictures[0], source.size))
    # The engine's masks are on the latent grid; given eight times as large, the nearest pixel is the same one.
    masks = told.token_masks.repeat_interleave(8, 1).repeat_interleave(8, 2)
    same = scenes.arguments(
        rooms,
        scheduler="multitalk",
        cfg=text,
        image_embeds=scenes.image_embeds(
            rooms,
            multitalk_start_image=picture[None, :, None],
            clip_context=rooms.vision(picture[None]),
        ),
        text_embeds={"prompt_embeds": list(told.prompts), "negative_prompt_embeds": [told.negative]},
        multitalk_embeds={
            "audio_features": list(told.speech),
            "audio_guide_scale": audio,
            "num_frames": frames,
            "ref_target_masks": masks if people > 1 else None,
        },
    )
    return video, same


@pytest.mark.parametrize(
    ("frames", "people", "text", "audio"), [(40, 1, 1.0, 1.0), (20, 1, 1.5, 1.2), (17, 2, 1.0, 1.2)]
)
def test_the_nodes_make_the_engines_video(rooms: Rooms, frames: int, people: int, text: float, audio: float):
    expected, asked = engine_scene(rooms, frames, people, text, audio)
    (result,) = scenes.WanVideoSampler().process(**asked)
    levels = ((result["video"] + 1) / 2 * 255).round().clamp(0, 255)
    assert levels.shape == expected.shape
    # Sums in another order; random networks make much of it, on some processors more than on others.
    assert (levels - expected).abs().max() <= 24
    assert (levels - expected).abs().mean() < 0.05


@pytest.mark.parametrize("frames", [1, 16, FRAMES, FRAMES + 1, 29, 30])
def test_the_video_is_as_long_as_the_speech(rooms: Rooms, frames: int):
    video = scenes.video(rooms, steps=1, multitalk_embeds=scenes.multitalk_embeds(frames))
    assert video.shape == (frames, SIDE, SIDE, 3)
    assert video.dtype == torch.float32 and video.abs().max() <= 1


def test_num_frames_says_where_the_speech_ends_and_the_rest_is_its_tail(rooms: Rooms):
    whole = scenes.multitalk_embeds(30)
    cut = scenes.video(rooms, steps=1, multitalk_embeds={**whole, "num_frames": FRAMES})
    assert len(cut) == FRAMES


def test_two_calls_are_the_same_and_another_seed_is_not(rooms: Rooms):
    first, again, other = (scenes.video(rooms, steps=1, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(first, again) and not torch.equal(first, other)


def test_a_window_of_multitalk_after_the_first_is_told_the_last_frames(rooms: Rooms):
    """Another video than InfiniteTalk's, from the second window on and in the first one too, which is not held."""
    speech = scenes.multitalk_embeds(29)
    one, other = (
        scenes.video(
            rooms,
            multitalk_embeds=speech,
            image_embeds=scenes.image_embeds(rooms, multitalk_mode=mode),
        )
        for mode in ("infinitetalk", "multitalk")
    )
    assert not torch.equal(one, other)


def test_auto_is_the_mode_of_the_adapter(rooms: Rooms):
    videos = {
        (kind, mode): scenes.video(
            rooms,
            steps=1,
            model=scenes.TinyModel(rooms, kind),
            image_embeds=scenes.image_embeds(rooms, multitalk_mode=mode),
        )
        for kind, mode in (("MultiTalk", "auto"), ("MultiTalk", "multitalk"), ("InfiniteTalk", "auto"))
    }
    assert torch.equal(videos["MultiTalk", "auto"], videos["MultiTalk", "multitalk"])
    assert not torch.equal(videos["MultiTalk", "auto"], videos["InfiniteTalk", "auto"])
    with pytest.raises(CapabilityError, match="SkyReels"):
        scenes.video(rooms, image_embeds=scenes.image_embeds(rooms, multitalk_mode="skyreelsv3"))


def test_window_k_starts_from_picture_k_and_the_last_one_stays(rooms: Rooms):
    pictures = torch.cat([scenes.noise(1, 3, 1, SIDE, SIDE, seed=seed).clamp(-1, 1) for seed in (1, 2)], 2)
    speech = scenes.multitalk_embeds(2 * FRAMES)  # three windows

    def made(batch: torch.Tensor) -> torch.Tensor:
        embeds = scenes.image_embeds(rooms, multitalk_start_image=batch)
        return scenes.video(rooms, steps=1, multitalk_embeds=speech, image_embeds=embeds)

    one, two = made(pictures[:, :, :1]), made(pictures)
    longer = made(torch.cat([pictures, pictures[:, :, 1:]], 2))
    assert torch.equal(one[:FRAMES], two[:FRAMES])
    assert not torch.equal(one[FRAMES:], two[FRAMES:])
    assert torch.equal(two, longer)


def test_more_than_the_windows_take_is_told(rooms: Rooms):
    heard: list[Progress] = []
    embeds = scenes.image_embeds(
        rooms, multitalk_start_image=scenes.noise(1, 3, 5, SIDE, SIDE, seed=1).clamp(-1, 1)
    )
    speech, texts = scenes.multitalk_embeds(29), scenes.text_embeds(3)
    with hosted(Host(listen=heard.append)):
        scenes.video(rooms, steps=1, multitalk_embeds=speech, text_embeds=texts, image_embeds=embeds)
        scenes.video(rooms, steps=1, multitalk_embeds=speech, text_embeds=scenes.text_embeds(2))
    assert [event.note.split(":")[0] for event in heard if event.note] == [
        "There are 3 prompts and 2 windows",
        "There are 5 start images and 2 windows",
    ]


def test_each_window_has_its_prompt(rooms: Rooms):
    speech = scenes.multitalk_embeds(29)
    one, two = (
        scenes.video(rooms, steps=1, multitalk_embeds=speech, text_embeds=scenes.text_embeds(n))
        for n in (1, 2)
    )
    assert torch.equal(one[:FRAMES], two[:FRAMES]) and not torch.equal(one[FRAMES:], two[FRAMES:])


@pytest.mark.parametrize("method", ["mkl", "hm"])
def test_colours_follow_the_picture_of_the_window(rooms: Rooms, method: str):
    plain = scenes.video(rooms, steps=1)
    matched = scenes.video(rooms, steps=1, image_embeds=scenes.image_embeds(rooms, colormatch=method))
    picture = scenes.image_embeds(rooms)["multitalk_start_image"][0, :, 0]
    expected = transfer_colours(plain.permute(3, 0, 1, 2), picture, method).permute(1, 2, 3, 0)
    assert torch.allclose(matched, expected, atol=1e-5)


def test_with_an_output_path_the_frames_are_pictures_there(rooms: Rooms, tmp_path: Path):
    speech = scenes.multitalk_embeds(30)
    video = scenes.video(rooms, steps=1, multitalk_embeds=speech)
    embeds = scenes.image_embeds(rooms, output_path=str(tmp_path / "out"))
    asked = scenes.arguments(rooms, steps=1, multitalk_embeds=speech, image_embeds=embeds)
    (result,) = scenes.WanVideoSampler().process(**asked)
    assert result == {"video": None, "output_path": str(tmp_path / "out")}
    stored = torch.from_numpy(np.stack(list(read_frames(tmp_path / "out"))))
    assert torch.equal(stored, ((video + 1) / 2 * 255).round().clamp(0, 255).to(torch.uint8))


def test_the_transformer_rests_while_frames_are_decoded_when_asked(rooms: Rooms):
    def events(**embeds: Any) -> list[str]:
        model = scenes.TinyModel(rooms)
        scenes.video(
            rooms,
            steps=1,
            model=model,
            force_offload=False,
            multitalk_embeds=scenes.multitalk_embeds(29),
            image_embeds=scenes.image_embeds(rooms, **embeds),
        )
        return model.events

    assert events() == ["comes"]
    assert events(force_offload=True) == ["comes", "goes", "comes", "goes"]


def test_force_offload_lets_the_transformer_go_at_the_end_also_of_a_failed_run(rooms: Rooms):
    model = scenes.TinyModel(rooms)
    scenes.video(rooms, steps=1, model=model)
    assert model.events == ["comes", "goes"]
    with pytest.raises(UsageError):
        scenes.video(rooms, model=model, slg_args={"blocks": [99]}, cfg=2.0)
    assert model.events[-1] == "goes"


def test_progress_counts_windows_and_steps_and_says_why_there_are_four(rooms: Rooms):
    heard: list[Progress] = []
    with hosted(Host(listen=heard.append)):
        scenes.video(rooms, steps=30, scheduler="multitalk", multitalk_embeds=scenes.multitalk_embeds(29))
    steps = [(e.window, e.step, e.steps) for e in heard if e.phase is Phase.SAMPLING]
    assert steps == [(w, s, 4) for w in range(2) for s in range(5)]
    notes = [event.note for event in heard if event.note]
    assert len(notes) == 1 and "4" in notes[0] and "30" in notes[0]


def test_a_listener_can_stop_the_run_in_the_middle_of_a_window(rooms: Rooms):
    seen = 0

    def stop(event: Progress) -> None:
        nonlocal seen
        seen += event.phase is Phase.SAMPLING and event.step == 1
        if seen == 2:
            raise Cancelled("enough")

    model = scenes.TinyModel(rooms)
    with hosted(Host(listen=stop)), pytest.raises(Cancelled):
        scenes.video(rooms, model=model, multitalk_embeds=scenes.multitalk_embeds(29))
    assert model.events == ["comes", "goes"]


# Speech and people


def test_features_may_come_bare_in_the_image_embeds_or_both(rooms: Rooms):
    embeds = scenes.multitalk_embeds()
    base = scenes.video(rooms, steps=1)
    bare = scenes.video(rooms, steps=1, multitalk_embeds=embeds["audio_features"][0])
    beside = scenes.video(
        rooms,
        steps=1,
        multitalk_embeds=None,
        image_embeds=scenes.image_embeds(rooms, multitalk_embeds=embeds),
    )
    assert torch.equal(base, bare) and torch.equal(base, beside)
    with pytest.raises(UsageError, match="MultiTalkWav2VecEmbeds"):
        scenes.video(rooms, multitalk_embeds=None)


def test_two_people_own_most_of_their_halves_and_three_need_masks(rooms: Rooms):
    half = SIDE // 2
    masks = torch.zeros(3, SIDE, SIDE)
    top, bottom = int(SIDE * 0.1), int(SIDE * 0.9)
    masks[0, top:bottom, int(half * 0.1) : int(half * 0.9)] = 1
    masks[1, top:bottom, int(half * 1.1) : int(half * 1.9)] = 1
    masks[2] = 1 - masks[:2].sum(0)
    alone, told, unlabelled, turned = (
        scenes.video(rooms, steps=1, multitalk_embeds=scenes.multitalk_embeds(people=2, ref_target_masks=m))
        for m in (None, masks, masks[:2], masks[[1, 0, 2]])
    )
    assert torch.equal(alone, told) and torch.equal(alone, unlabelled) and not torch.equal(alone, turned)
    with pytest.raises(UsageError, match="3 people speak"):
        scenes.video(rooms, multitalk_embeds=scenes.multitalk_embeds(people=3))
    with pytest.raises(InputError, match="Person 2 is outside"):
        empty = masks * torch.tensor([1.0, 0.0, 1.0])[:, None, None]
        scenes.video(rooms, multitalk_embeds=scenes.multitalk_embeds(people=2, ref_target_masks=empty))


@pytest.mark.parametrize("cfg", [1.0, 3.0])
def test_the_packs_audio_scale_and_the_official_one_give_the_same_video(rooms: Rooms, cfg: float):
    """Official ``a + w (c - n) + g (n - a)``: the pack's factor is ``g / w``; without text guidance both are one."""
    official = 4.0
    ours = official if cfg == 1 else official / cfg
    pack, own, beside = (
        scenes.video(
            rooms, cfg=cfg, multitalk_embeds=speech, image_embeds=scenes.image_embeds(rooms, **image)
        )
        for speech, image in (
            (scenes.multitalk_embeds(audio_cfg_scale=ours), {}),
            (scenes.multitalk_embeds(audio_guide_scale=official), {}),
            (scenes.multitalk_embeds(), {"audio_guide_scale": official}),
        )
    )
    assert torch.allclose(pack, own, atol=1e-4) and torch.equal(own, beside)
    assert not torch.allclose(pack, scenes.video(rooms, cfg=cfg), atol=1e-2)
    with pytest.raises(UsageError, match="two names"):
        scenes.video(
            rooms, multitalk_embeds=scenes.multitalk_embeds(audio_cfg_scale=2.0, audio_guide_scale=4.0)
        )


# Video to video


def test_a_window_takes_its_latents_from_the_source_and_the_last_one_holds_on():
    latents = torch.arange(7.0).view(1, 7, 1, 1)
    window = Window(1, FRAMES - MOTION, FRAMES, MOTION, 12, 12)  # 12 frames further: 3 latents
    assert source_slice(latents, window).flatten().tolist() == [3, 4, 5, 6, 6]


def test_samples_are_where_the_walk_starts(rooms: Rooms):
    latents = scenes.noise(1, 16, 5, SIDE // 8, SIDE // 8, seed=9)
    base = scenes.video(rooms, steps=4)
    plain = scenes.video(rooms, steps=4, samples={"samples": latents})
    late = scenes.video(rooms, steps=4, samples={"samples": latents}, start_step=2, add_noise_to_samples=True)
    strength = scenes.video(rooms, steps=4, samples={"samples": latents}, denoise_strength=0.25)
    third = scenes.video(
        rooms, steps=4, samples={"samples": latents}, start_step=2, add_noise_to_samples=True
    )
    assert not torch.equal(base, plain) and not torch.equal(plain, late)
    assert torch.equal(strength, third) == (4 - int(4 * 0.25) - 1 == 2)
    with pytest.raises(UsageError, match="same width and height"):
        scenes.video(rooms, samples={"samples": latents[..., :2]})


def test_samples_without_effect_are_told(rooms: Rooms):
    heard: list[Progress] = []
    samples = {"samples": scenes.noise(1, 16, 5, SIDE // 8, SIDE // 8, seed=9)}
    with hosted(Host(listen=heard.append)):
        told = scenes.video(rooms, scheduler="multitalk", steps=4, samples=samples, add_noise_to_samples=True)
    assert torch.equal(told, scenes.video(rooms, scheduler="multitalk", steps=4))
    assert [event.note for event in heard if "no effect" in event.note]


def test_where_the_mask_is_black_the_source_comes_back(rooms: Rooms):
    latents = scenes.noise(1, 16, 5, SIDE // 8, SIDE // 8, seed=9)
    mask = torch.zeros(1, SIDE, SIDE)
    mask[:, :, SIDE // 2 :] = 1
    samples = {"samples": latents, "noise_mask": mask}
    embeds = {"target_shape": (16, 5, SIDE // 8, SIDE // 8)}
    found = scenes.latent(rooms, image_embeds=embeds, samples=samples, add_noise_to_samples=True, steps=3)
    assert torch.allclose(found[..., :2], latents[..., :2], atol=1e-5)
    assert not torch.allclose(found[..., 2:], latents[..., 2:], atol=1e-2)
    inside = scenes.video(rooms, samples=samples, add_noise_to_samples=True)
    assert not torch.equal(
        inside, scenes.video(rooms, samples={"samples": latents}, add_noise_to_samples=True)
    )


# What cannot be


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"target_w": 40}, "multiples of 16.*32 x 32"),
        ({"multitalk_start_image": None}, "start image"),
        ({"multitalk_start_image": torch.zeros(1, 3, 1, 16, 16)}, r"\(1, 3, 1, 16, 16\)"),
        ({"clip_context": torch.zeros(1, 5, 9)}, "9 wide"),
        ({"vae": None}, "VAE is not loaded; load models first"),
        ({"motion_frames": 9}, "motion_frames.*motion_frame"),
        ({"colormatch": "lab"}, "lab.*mkl"),
    ],
)
def test_image_embeds_that_cannot_be_used_say_why(rooms: Rooms, changes: dict[str, Any], message: str):
    with pytest.raises(UsageError, match=message):
        scenes.video(rooms, steps=1, image_embeds=scenes.image_embeds(rooms, **changes))


def test_motion_frames_need_not_fit_where_one_window_is_enough(rooms: Rooms):
    embeds = scenes.image_embeds(rooms, motion_frame=25)
    assert len(scenes.video(rooms, steps=1, image_embeds=embeds)) == FRAMES
    with pytest.raises(UsageError, match="25 motion frames leave nothing new"):
        scenes.video(rooms, image_embeds=embeds, multitalk_embeds=scenes.multitalk_embeds(30))


def test_no_clip_features_are_no_tokens_and_no_failure(rooms: Rooms):
    without = scenes.video(rooms, steps=1, image_embeds=scenes.image_embeds(rooms, clip_context=None))
    assert without.isfinite().all() and not torch.equal(without, scenes.video(rooms, steps=1))


# Memory


def running_out(rooms: Rooms, monkeypatch: pytest.MonkeyPatch, times: int) -> scenes.TinyModel:
    """A model whose second window is the first to run out of the GPU's memory, ``times`` times."""
    model, left, seen = scenes.TinyModel(rooms), [times], [0]
    walked = ModelWalker.walked

    def walk(self: ModelWalker, window: Window, *rest: Any) -> Any:
        found = walked(self, window, *rest)
        seen[0] += 1
        if window.index == 1 and left[0]:
            left[0] -= 1
            raise torch.OutOfMemoryError("CUDA out of memory")
        return found

    monkeypatch.setattr(ModelWalker, "walked", walk)
    return model


def test_a_window_that_does_not_fit_is_made_again_on_a_lower_plan(
    rooms: Rooms, monkeypatch: pytest.MonkeyPatch
):
    asked = {"steps": 1, "multitalk_embeds": scenes.multitalk_embeds(29)}
    expected, heard = scenes.video(rooms, **asked), []
    model = running_out(rooms, monkeypatch, 2)
    with hosted(Host(listen=heard.append)):
        assert torch.equal(scenes.video(rooms, model=model, **asked), expected)
    assert model.plans == ["plan 0", "plan 1"]  # those that did not do
    assert model.events == ["comes", "comes", "comes", "goes"]
    notes = [event.note for event in heard if event.note]
    assert [note.endswith(f"plan {i + 1}.") for i, note in enumerate(notes)] == [True, True]
    with pytest.raises(OutOfMemoryError, match="nothing is left"):
        scenes.video(rooms, model=running_out(rooms, monkeypatch, 9), **asked)
