"""Adapters beside the sampler: each acts on one latent and in the window loop, in its own part of the video."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from infinite_talk.errors import UsageError
from infinite_talk.models.adapters import (
    FantasyPortrait,
    FantasyTalking,
    PortraitConfig,
    TalkingConfig,
    Uni3C,
    Uni3CConfig,
    UniAnimate,
    UniAnimateConfig,
)
from infinite_talk.nodes.adapting import _Guided
from infinite_talk.nodes.host import Host, hosted
from infinite_talk.progress import Progress
from infinite_talk.rooms import Rooms
from infinite_talk.types import Window
from tests.unit import tiny
from tests.unit.adapters import nets
from tests.unit.nodes import scenes
from tests.unit.nodes.scenes import FRAMES, MOTION, SIDE

DIM, LAYERS = scenes.CONFIG.dim, scenes.CONFIG.num_layers
GRID = (SIDE // 8, SIDE // 8)
LONG = 2 * FRAMES - MOTION  # two windows
LATENTS = (LONG - 1) // 4 + 1
Args = dict[str, Any]


@pytest.fixture(scope="module")
def rooms() -> Rooms:
    return tiny.tiny_rooms()


@pytest.fixture(scope="module")
def model(rooms: Rooms, tmp_path_factory: pytest.TempPathFactory) -> scenes.TinyModel:
    """With all networks connected."""
    talking = TalkingConfig(speech_dim=7, context_dim=10, dim=DIM, num_layers=LAYERS)
    portrait = PortraitConfig(
        **{
            "context_dim": 10,
            "inner_dim": 16,
            "depth": 1,
            "mouth_tokens": 3,
            "mood_tokens": 2,
            "num_heads": 1,
        },
        dim=DIM,
        num_layers=LAYERS,
    )
    poses = nets.random(UniAnimate(UniAnimateConfig(dim=DIM, channels=4)))
    return scenes.TinyModel(
        rooms,
        loras=(nets.saved(poses, tmp_path_factory.mktemp("loras") / "poses.safetensors"),),
        fantasy_talking=SimpleNamespace(network=nets.random(FantasyTalking(talking))),
        fantasy_portrait=SimpleNamespace(network=nets.random(FantasyPortrait(portrait))),
    )


@pytest.fixture(scope="module")
def uni3c() -> Any:
    config = Uni3CConfig(
        patch_dim=24, dim=128, ffn_dim=32, time_dim=DIM, out_dim=DIM, num_heads=2, num_layers=LAYERS
    )
    return SimpleNamespace(network=nets.random(Uni3C(config)))


def poses(frames: int = LONG, **changes: Any) -> Args:
    pictures = scenes.noise(1, 3, LONG, SIDE, SIDE, seed=50)[:, :, :frames].abs().clamp(0, 1)
    return {
        "pose": pictures,
        "ref": None,
        "strength": 1.0,
        "start_percent": 0.0,
        "end_percent": 1.0,
        **changes,
    }


def voice(latents: int = LATENTS, **changes: Any) -> Args:
    return {
        "audio_proj": scenes.noise(1, LATENTS, 3, 10, seed=51)[:, :latents],
        "audio_context_lens": torch.full((latents,), 3),
        "audio_scale": 1.0,
        "audio_cfg_scale": 1.0,
        **changes,
    }


def face(latents: int = LATENTS, **changes: Any) -> Args:
    return {"adapter_proj": scenes.noise(1, LATENTS, 4, 10, seed=52)[:, :latents], "strength": 1.0, **changes}


def guide(uni3c: Any, latents: int = LATENTS, **changes: Any) -> Args:
    rendered = scenes.noise(1, 16, LATENTS, *GRID, seed=53)[:, :, :latents]
    return {
        "controlnet": uni3c,
        "controlnet_weight": 1.0,
        "render_latent": rendered,
        "offload": False,
        **changes,
    }


def asked(name: str, uni3c: Any, **changes: Any) -> tuple[Args, Args]:
    """Arguments of ``process``, and entries of ``image_embeds``, for one adapter."""
    match name:
        case "poses":
            return {"unianimate_poses": poses(**changes)}, {}
        case "voice":
            return {"fantasytalking_embeds": voice(**changes)}, {}
        case "face":
            return {}, {"portrait_embeds": face(**changes)}
        case _:
            return {"uni3c_embeds": guide(uni3c, **changes)}, {}


OFF = {
    "poses": {"strength": 0.0},
    "voice": {"audio_scale": 0.0},
    "face": {"strength": 0.0},
    "guide": {"controlnet_weight": 0.0},
}


def long_video(rooms: Rooms, model: Any, arguments: Args, embeds: Args) -> torch.Tensor:
    return scenes.video(
        rooms,
        model=model,
        steps=1,
        multitalk_embeds=scenes.multitalk_embeds(LONG),
        image_embeds=scenes.image_embeds(rooms, **embeds),
        **arguments,
    )


@pytest.mark.parametrize("name", list(OFF))
def test_an_adapter_acts_on_one_latent_and_not_without_strength(
    rooms: Rooms, model: Any, uni3c: Any, name: str
):
    def made(arguments: Args, embeds: Args) -> torch.Tensor:
        shape = {"target_shape": (16, LATENTS, *GRID)}
        return scenes.latent(rooms, model=model, image_embeds={**shape, **embeds}, **arguments)

    plain = made({}, {})
    assert (made(*asked(name, uni3c)) - plain).abs().max() > 1e-3
    assert torch.equal(made(*asked(name, uni3c, **OFF[name])), plain)


@pytest.mark.parametrize("name", list(OFF))
def test_in_the_loop_each_window_has_its_part(rooms: Rooms, model: Any, uni3c: Any, name: str):
    """The first window is told what a video of its length alone would be, the second one something else.

    Of poses it also sees those that follow within a latent frame, as in the whole sequence.
    """
    window = 1 + (FRAMES - 1) // 4
    short = {"frames": FRAMES + 4} if name == "poses" else {"latents": window}
    plain = long_video(rooms, model, {}, {})
    whole, begun = (long_video(rooms, model, *asked(name, uni3c, **how)) for how in ({}, short))
    assert (whole[:FRAMES] - plain[:FRAMES]).abs().max() > 1e-3
    if name != "poses":  # whose network looks at the frames behind too
        # The guide is decoded and encoded again, by a random codec that makes much of a last bit.
        assert (whole[:FRAMES] - begun[:FRAMES]).abs().mean() < (1e-3 if name == "guide" else 1e-6)
    assert (whole[FRAMES:] - begun[FRAMES:]).abs().max() > 1e-3


def test_a_rendering_is_encoded_anew_for_each_window(rooms: Rooms, model: Any, uni3c: Any):
    """As the batch of its frames is, the last one staying behind the end; not a slice of the long latent."""
    latent = scenes.noise(1, 16, 3, *GRID, seed=60)
    frames = rooms.decode_video(latent[0])  # nine
    embeds = {"multitalk_start_image": frames[None]}
    rendered, batch = (
        long_video(rooms, model, {"uni3c_embeds": guide(uni3c, render_latent=given)}, embeds)
        for given in (latent, None)
    )
    apart, without = (rendered - batch).abs(), long_video(rooms, model, {}, embeds)
    assert apart[:FRAMES].mean() < 1e-3 < 0.1 * (without - batch)[:FRAMES].abs().mean()
    second = Window(1, 4, FRAMES, 5, 12, 4)
    encoded = _Guided(guide(uni3c, render_latent=latent), frames, lambda: rooms.codec)._encoded(second)
    shown = torch.cat([frames.half()[:, 4:], frames.half()[:, -1:].expand(-1, FRAMES - 5, -1, -1)], 1)
    assert torch.equal(encoded, rooms.encode_video(shown.float()))


def test_the_voice_keeps_its_own_scale_beside_the_speech(rooms: Rooms, model: Any):
    quiet, loud = (
        long_video(rooms, model, {"fantasytalking_embeds": voice(audio_scale=scale)}, {})
        for scale in (1.0, 3.0)
    )
    assert (quiet - loud).abs().max() > 1e-3


def test_a_face_has_guidance_of_its_own(rooms: Rooms, model: Any):
    """``f + s (c - f)`` over one step: a line through its scales."""
    shape = {"target_shape": (16, LATENTS, *GRID)}
    one, two, three = (
        scenes.latent(
            rooms, model=model, steps=1, image_embeds={**shape, "portrait_embeds": face(cfg_scale=scale)}
        )
        for scale in (1.0, 2.0, 3.0)
    )
    assert (one - two).abs().max() > 1e-3
    assert torch.allclose(three - two, two - one, atol=1e-3)


def test_a_face_is_guided_in_an_edit_too(rooms: Rooms, model: Any):
    """Both sides: with the same words nothing changes, whatever the scale; with others the scale matters."""
    samples = {"samples": scenes.noise(1, 16, LATENTS, *GRID, seed=30)}

    def made(scale: float, words: Args) -> torch.Tensor:
        embeds = {"target_shape": (16, LATENTS, *GRID), "portrait_embeds": face(cfg_scale=scale)}
        edit = {"source_embeds": words, "skip_steps": 0, "source_cfg": 1.0}
        return scenes.latent(rooms, model=model, image_embeds=embeds, samples=samples, flowedit_args=edit)

    texts = scenes.text_embeds()
    other = {**texts, "prompt_embeds": [scenes.noise(3, scenes.CONFIG.text_dim, seed=60)]}
    assert torch.allclose(made(3.0, texts), samples["samples"], atol=1e-4)
    assert (made(3.0, other) - made(1.0, other)).abs().max() > 1e-3


def test_a_scale_of_the_voice_guides_where_no_other_speech_does_and_else_is_told(rooms: Rooms, model: Any):
    shape = {"target_shape": (16, LATENTS, *GRID)}
    one, two = (
        scenes.latent(
            rooms,
            model=model,
            image_embeds=shape,
            multitalk_embeds=None,
            fantasytalking_embeds=voice(audio_cfg_scale=scale),
        )
        for scale in (1.0, 3.0)
    )
    assert (one - two).abs().max() > 1e-3
    heard: list[Progress] = []
    with hosted(Host(listen=heard.append)):
        long_video(rooms, model, {"fantasytalking_embeds": voice(audio_cfg_scale=3.0)}, {})
    assert [event.note for event in heard if "fantasytalking_embeds has no effect" in event.note]


@pytest.mark.parametrize(
    ("name", "loader"),
    [
        ("poses", "WanVideoModelLoader"),
        ("voice", "FantasyTalkingModelLoader"),
        ("face", "FantasyPortraitModelLoader"),
    ],
)
def test_a_network_that_is_not_connected_is_named(rooms: Rooms, uni3c: Any, name: str, loader: str):
    with pytest.raises(UsageError, match=loader):
        long_video(rooms, scenes.TinyModel(rooms), *asked(name, uni3c))


def test_a_guide_needs_a_rendering_outside_of_the_loop(rooms: Rooms, model: Any, uni3c: Any):
    shape = {"target_shape": (16, LATENTS, *GRID)}
    with pytest.raises(UsageError, match="render_latent"):
        scenes.latent(rooms, model=model, image_embeds=shape, uni3c_embeds=guide(uni3c, render_latent=None))


def test_adapters_go_along_with_stretches_of_a_context(rooms: Rooms, model: Any, uni3c: Any):
    """Each stretch has the adapter's part for its frames: another result than the whole's, and than without."""
    shape = {"target_shape": (16, LATENTS, *GRID)}
    context = {"context_frames": 9, "context_overlap": 4, "freenoise": False}
    arguments = {"unianimate_poses": poses(), "fantasytalking_embeds": voice(), "uni3c_embeds": guide(uni3c)}
    with_all, without = (
        scenes.latent(rooms, model=model, image_embeds=shape, context_options=context, **some)
        for some in (arguments, {})
    )
    assert with_all.isfinite().all() and (with_all - without).abs().max() > 1e-3
