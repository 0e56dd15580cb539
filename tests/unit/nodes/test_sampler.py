"""``WanVideoSampler.process``: its signature, and for each parameter its effect or formula, alone and in the loop."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from typing import Any

import pytest
import torch

from infinite_talk.denoise.keeping import noised
from infinite_talk.denoise.noise import noise_for
from infinite_talk.errors import UsageError
from infinite_talk.nodes.host import Host, hosted
from infinite_talk.nodes.sampler import (
    WanVideoSampler,
    WanVideoSamplerExtraArgs,
    WanVideoSamplerFromSettings,
    WanVideoSamplerSettings,
    WanVideoSamplerv2,
)
from infinite_talk.progress import Progress
from infinite_talk.rooms import Rooms
from tests.unit import tiny
from tests.unit.nodes import scenes

Args = dict[str, Any]
GRID = (scenes.SIDE // 8, scenes.SIDE // 8)
SIGNATURE = (
    "self, model, image_embeds, shift, steps, cfg, seed, scheduler, riflex_freq_index, text_embeds=None, "
    "force_offload=True, samples=None, feta_args=None, denoise_strength=1.0, context_options=None, cache_args=None, "
    "teacache_args=None, flowedit_args=None, batched_cfg=False, slg_args=None, rope_function='default', "
    "loop_args=None, experimental_args=None, sigmas=None, unianimate_poses=None, fantasytalking_embeds=None, "
    "uni3c_embeds=None, multitalk_embeds=None, freeinit_args=None, start_step=0, end_step=-1, "
    "add_noise_to_samples=False"
)


@pytest.fixture(scope="module")
def rooms() -> Rooms:
    return tiny.tiny_rooms()


Made = Callable[..., torch.Tensor]


@pytest.fixture(scope="module")
def plain(rooms: Rooms) -> Callable[[Made, str], torch.Tensor]:
    """What the change of a name is compared with; made once for all that compare with the same."""
    known: dict[tuple[Made, str], torch.Tensor] = {}

    def give(made: Made, name: str = "") -> torch.Tensor:
        key = made, name if name in WITHOUT else ""
        if key not in known:
            known[key] = made(rooms, **WITHOUT.get(name, {}))
        return known[key]

    return give


def empty(latents: int = 5) -> Args:
    """Of the ordinary path: as WanVideoEmptyEmbeds gives them."""
    return {"target_shape": (16, latents, *GRID), "num_frames": 4 * (latents - 1) + 1}


def alone(rooms: Rooms, **changes: Any) -> torch.Tensor:
    """The latent of the ordinary path."""
    return scenes.latent(rooms, **{"image_embeds": empty(), **changes})


def source(latents: int = 5) -> Args:
    return {"samples": scenes.noise(1, 16, latents, *GRID, seed=30)}


# Signature and keywords


@pytest.mark.parametrize("node", [WanVideoSampler, WanVideoSamplerSettings])
def test_the_signature_is_exactly_the_one_that_scripts_call(node: type[WanVideoSampler]):
    parameters = inspect.signature(node.process).parameters.values()
    assert all(one.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD for one in parameters)
    said = [
        one.name if one.default is inspect.Parameter.empty else f"{one.name}={one.default!r}"
        for one in parameters
    ]
    assert ", ".join(said) == SIGNATURE


@pytest.mark.parametrize(
    ("keyword", "home"),
    [
        ("use_tf32", "tf32"),
        ("use_cublas_gemm", "gemm"),
        ("force_contiguous_tensors", "contiguous"),
        ("fuse_qkv_projections", "fuse_qkv"),
    ],
)
def test_a_setting_of_the_machine_is_told_where_it_belongs(rooms: Rooms, keyword: str, home: str):
    with pytest.raises(TypeError, match=rf"'{keyword}'.*`{home}` of `Settings`"):
        WanVideoSampler().process(**scenes.arguments(rooms), **{keyword: False})


# Each parameter has an effect, on one latent and in the window loop


CHANGES: dict[str, Args] = {
    "image_embeds": {},
    "shift": {"shift": 8.0},
    "steps": {"steps": 3},
    "cfg": {"cfg": 2.0},
    "cfg as a list": {"cfg": [2.0, 1.0]},
    "seed": {"seed": 6},
    "scheduler": {"scheduler": "unipc"},
    "scheduler with noise": {"scheduler": "lcm"},
    "scheduler as a dict": {"scheduler": {"scheduler": "euler", "steps": 3, "shift": 3.0}},
    "riflex_freq_index": {"riflex_freq_index": 1},
    "text_embeds": {"text_embeds": None},
    "samples": {"samples": source()},
    "feta_args": {"feta_args": {"weight": 5.0, "start_percent": 0.5, "end_percent": 1.0}},
    "denoise_strength": {"denoise_strength": 0.5, "samples": source()},
    "context_options": {"context_options": {"context_frames": 9, "context_stride": 4, "context_overlap": 4}},
    "cache_args": {
        "steps": 10,
        "cache_args": {"cache_type": "EasyCache", "easycache_thresh": 1.0, "start_step": 1},
    },
    "teacache_args": {
        "steps": 4,
        "teacache_args": {"rel_l1_thresh": 1.0, "start_step": 1, "use_coefficients": False},
    },
    "slg_args": {"cfg": 2.0, "slg_args": {"blocks": [0], "start_percent": 0.0, "end_percent": 1.0}},
    "rope_function": {"rope_function": {"rope_function": "default", "ntk_scale_w": 50.0}},
    "loop_args": {"loop_args": {"shift_skip": 2}},
    "freeinit_args": {"freeinit_args": {"freeinit_num_iters": 2, "freeinit_method": "butterworth"}},
    "sigmas": {"sigmas": torch.tensor([1.0, 0.4, 0.0])},
    "multitalk_embeds": {"multitalk_embeds": scenes.multitalk_embeds(audio_scale=2.0)},
    "audio_cfg_scale": {"multitalk_embeds": scenes.multitalk_embeds(audio_cfg_scale=3.0)},
    "start_step": {"start_step": 1, "samples": source()},
    "end_step": {"end_step": 1},
    "add_noise_to_samples": {"start_step": 1, "samples": source(), "add_noise_to_samples": True},
    "flowedit_args": {
        "samples": source(),
        "flowedit_args": {"source_embeds": scenes.text_embeds(), "skip_steps": 0, "source_cfg": 3.0},
    },
    **{
        f"experimental_args {key}": {"cfg": 3.0, "experimental_args": {key: value, **more}}
        for key, value, more in (
            ("cfg_zero_star", True, {}),
            ("use_zero_init", True, {"cfg_zero_star": True, "zero_star_steps": 0}),
            ("use_fresca", True, {"fresca_freq_cutoff": 1, "fresca_scale_high": 2.0}),
            ("use_tcfg", True, {}),
            ("raag_alpha", 1.0, {}),
            ("bidirectional_sampling", True, {}),
            ("temporal_score_rescaling", True, {"tsr_k": 0.5}),
        )
    },
}
"""Changes of two Euler steps at cfg 1."""
WITHOUT: dict[str, Args] = {
    "denoise_strength": {"samples": source()},
    "slg_args": {"cfg": 2.0},
    "cache_args": {"steps": 10},
    "teacache_args": {"steps": 4},
    "start_step": {"samples": source()},
    "add_noise_to_samples": {"start_step": 1, "samples": source()},
    "flowedit_args": {"samples": source()},
    **{name: {"cfg": 3.0} for name in CHANGES if name.startswith("experimental_args")},
    "experimental_args use_zero_init": {"cfg": 3.0, "experimental_args": {"cfg_zero_star": True}},
}
"""What a change is compared with, where that is not the plain run."""
POSITIONS = ("riflex_freq_index", "rope_function")
"""Matter little to one block of two heads; nothing else changes, so the rest is bitwise the same."""


@pytest.mark.parametrize("name", [name for name in CHANGES if CHANGES[name]])
@pytest.mark.parametrize("made", [alone, scenes.video], ids=["one latent", "window loop"])
def test_each_parameter_has_an_effect(
    rooms: Rooms, plain: Callable[..., torch.Tensor], name: str, made: Made
):
    changed, base = made(rooms, **CHANGES[name]), plain(made, name)
    assert changed.shape == base.shape
    assert changed.isfinite().all()
    assert (changed - base).abs().max() > (1e-6 if name in POSITIONS else 1e-3)


def test_every_parameter_is_among_those_that_are_changed():
    files = {
        "unianimate_poses",
        "fantasytalking_embeds",
        "uni3c_embeds",
    }  # test_adapting.py: they need models
    wanted = inspect.signature(WanVideoSampler.process).parameters.keys() - {"self", "model"} - files
    assert wanted <= {name.split(" ")[0] for name in (*CHANGES, *UNCHANGED)}


UNCHANGED: dict[str, Args] = {
    "feta outside its share": {"feta_args": {"weight": 5.0, "start_percent": 0.9}},
    "slg at cfg 1": {"slg_args": {"blocks": "0"}},
    "cache of threshold 0": {"cache_args": {"rel_l1_thresh": 0.0, "use_coefficients": False}},
    "cache that starts late": {"cache_args": {"cache_type": "EasyCache", "easycache_thresh": 1.0}},
    "comfy": {"rope_function": "comfy"},
    "comfy in chunks": {"rope_function": "comfy_chunked"},
    "ntk of 1": {"rope_function": {"rope_function": "comfy", "ntk_scale_h": 1.0}},
    "no shift of the loop": {"loop_args": {"shift_skip": 0}},
    "one iteration": {"freeinit_args": {"freeinit_num_iters": 1}},
    "plain experiments": {"experimental_args": {}},
    "scheduler as a dict": {"scheduler": {"scheduler": "euler", "steps": 2, "shift": 3.0}},
    "both ends": {"start_step": 0, "end_step": 2},
    "force_offload": {"force_offload": False},
    "batched_cfg": {"batched_cfg": True},
    "add_noise without samples": {"add_noise_to_samples": True},
}
"""Settings that change nothing at cfg 1."""


@pytest.mark.parametrize("name", list(UNCHANGED))
@pytest.mark.parametrize("made", [alone, scenes.video], ids=["one latent", "window loop"])
def test_what_is_off_changes_nothing(rooms: Rooms, plain: Callable[..., torch.Tensor], name: str, made: Made):
    # The random codec makes much of a last bit.
    assert torch.allclose(made(rooms, **UNCHANGED[name]), plain(made), atol=1e-5 if made is alone else 1e-3)


# Formulas


@pytest.mark.parametrize("audio", [1.0, 2.0])
def test_a_batch_of_branches_gives_the_same_answers(rooms: Rooms, audio: float):
    asked = {"cfg": 3.0, "multitalk_embeds": scenes.multitalk_embeds(audio_cfg_scale=audio)}
    assert torch.allclose(alone(rooms, **asked), alone(rooms, batched_cfg=True, **asked), atol=1e-4)


def test_a_list_of_scales_holds_its_last_one(rooms: Rooms):
    assert torch.equal(alone(rooms, cfg=[3.0, 2.0], steps=3), alone(rooms, cfg=[3.0, 2.0, 2.0], steps=3))
    assert torch.equal(alone(rooms, cfg=[3.0]), alone(rooms, cfg=3.0))


def test_guidance_is_linear_in_its_scale_over_one_step(rooms: Rooms):
    """``n + w (c - n)``: three points on a line."""
    one, two, three = (alone(rooms, cfg=cfg, steps=1) for cfg in (1.0, 2.0, 3.0))
    assert torch.allclose(three - two, two - one, atol=1e-3)


def test_noise_is_added_to_samples_in_the_share_of_the_first_step(rooms: Rooms):
    asked = {"steps": 4, "start_step": 2, "scheduler": "euler"}
    (sigma,) = [0.75]
    asked = {"sigmas": [1.0, sigma, 0.3, 0.0], "steps": 3, "start_step": 1}
    noise = noise_for(5, 0, (16, 5, *GRID))
    mixed = {"samples": noised(source()["samples"][0], noise, sigma)[None]}
    added = alone(rooms, samples=source(), add_noise_to_samples=True, **asked)
    assert torch.allclose(added, alone(rooms, samples=mixed, **asked), atol=1e-5)


def test_a_run_can_be_cut_in_two_and_go_on_from_its_samples(rooms: Rooms):
    whole = alone(rooms, steps=4)
    first, _ = WanVideoSampler().process(**scenes.arguments(rooms, image_embeds=empty(), steps=4, end_step=2))
    assert torch.allclose(whole, alone(rooms, steps=4, samples=first, start_step=2), atol=1e-5)


def test_floats_for_the_ends_are_thresholds_of_sigma(rooms: Rooms):
    asked = {"sigmas": [1.0, 0.8, 0.5, 0.2, 0.0], "steps": 4, "samples": source()}
    assert torch.equal(alone(rooms, start_step=0.6, **asked), alone(rooms, start_step=2, **asked))
    assert torch.equal(alone(rooms, end_step=0.5, **asked), alone(rooms, end_step=3, **asked))


def test_denoise_strength_starts_late_and_adds_noise(rooms: Rooms):
    asked = {"steps": 8, "samples": source()}
    assert torch.equal(
        alone(rooms, denoise_strength=0.5, **asked),
        alone(rooms, start_step=8 - int(8 * 0.5) - 1, add_noise_to_samples=True, **asked),
    )


def test_the_denoised_samples_are_the_last_estimate(rooms: Rooms):
    """After the last step both are the same; where the run stops early, the estimate is ``x - sigma v``, not ``x``."""
    asked = scenes.arguments(rooms, image_embeds=empty(), steps=4)
    samples, denoised = WanVideoSampler().process(**asked)
    assert torch.allclose(samples["samples"], denoised["samples"], atol=1e-4)
    early, estimate = WanVideoSampler().process(**asked | {"end_step": 2})
    assert not torch.allclose(early["samples"], estimate["samples"], atol=1e-2)


def test_source_and_target_alike_leave_a_video_as_it_is(rooms: Rooms):
    """FlowEdit moves by the difference of two velocities, here none."""
    edit = {"source_embeds": scenes.text_embeds(), "skip_steps": 1, "source_cfg": 2.0}
    found = alone(rooms, steps=3, cfg=2.0, samples=source(), flowedit_args=edit)
    assert torch.allclose(found, source()["samples"], atol=1e-4)


@pytest.mark.parametrize("context", [None, {"context_frames": 9, "context_overlap": 4}])
def test_the_source_of_an_edit_has_its_own_prompts(rooms: Rooms, context: Args | None):
    """Several prompts for one window: the source is asked with those of source_embeds, not with the target's."""
    prompts = scenes.text_embeds(2)
    other = {**prompts, "prompt_embeds": [scenes.noise(3, scenes.CONFIG.text_dim, seed=i) for i in (60, 61)]}
    same, edited = (
        alone(
            rooms,
            samples=source(),
            text_embeds=prompts,
            context_options=context,
            flowedit_args={"source_embeds": words, "skip_steps": 0, "source_cfg": 1.0},
        )
        for words in (prompts, other)
    )
    assert torch.allclose(same, source()["samples"], atol=1e-4)
    assert (edited - same).abs().max() > 1e-2


def test_zero_init_stands_still(rooms: Rooms):
    """Of two steps the first is left out: the second begins where the noise was."""
    zero = {"cfg_zero_star": True, "use_zero_init": True, "zero_star_steps": 1}
    noise = noise_for(5, 0, (16, 5, *GRID))
    assert torch.allclose(alone(rooms, cfg=2.0, experimental_args=zero)[0], noise, atol=1e-5)


def test_silence_is_what_is_heard_without_speech(rooms: Rooms):
    silent = torch.zeros(17, scenes.CONFIG.audio_blocks, scenes.CONFIG.audio_channels)
    assert torch.allclose(
        alone(rooms, multitalk_embeds=None), alone(rooms, multitalk_embeds=silent), atol=1e-5
    )


def test_speech_of_scale_0_is_not_heard(rooms: Rooms):
    one, other = (
        alone(
            rooms,
            multitalk_embeds={"audio_features": [scenes.noise(17, 2, 4, seed=seed)], "audio_scale": 0.0},
        )
        for seed in (1, 2)
    )
    assert torch.equal(one, other)


def test_windows_of_speech_that_are_cut_already_are_the_same(rooms: Rooms):
    features = scenes.multitalk_embeds()["audio_features"][0]
    at = (torch.arange(17)[:, None] + torch.arange(-2, 3)).clamp(0, 16)
    assert torch.equal(alone(rooms), alone(rooms, multitalk_embeds={"audio_emb_slice": features[at][None]}))
    with pytest.raises(UsageError, match=r"17 frames and the video 13"):
        alone(rooms, image_embeds=empty(4), multitalk_embeds={"audio_emb_slice": features[at][None]})


def test_a_context_as_long_as_the_latent_asks_all_at_once(rooms: Rooms):
    context = {"context_frames": 17, "context_stride": 4, "context_overlap": 4, "freenoise": False}
    assert torch.equal(alone(rooms), alone(rooms, context_options=context))
    with pytest.raises(UsageError, match="context_frames smaller than frame_window_size"):
        scenes.video(rooms, context_options=context)


def test_stretches_of_a_context_have_prompts_of_their_own(rooms: Rooms):
    context = {"context_schedule": "static_standard", "context_frames": 9, "context_overlap": 4}
    one, two = (
        alone(rooms, context_options=context, steps=1, text_embeds=scenes.text_embeds(n)) for n in (1, 2)
    )
    assert torch.equal(one[:, :, 0], two[:, :, 0]) and not torch.equal(one[:, :, -1], two[:, :, -1])


def test_frames_of_several_prompts_can_be_kept_apart(rooms: Rooms):
    asked = {"text_embeds": scenes.text_embeds(2)}
    apart = alone(rooms, experimental_args={"video_attention_split_steps": "0, 1"}, **asked)
    assert not torch.allclose(apart, alone(rooms, **asked), atol=1e-3)
    with pytest.raises(UsageError, match="each window its own"):
        scenes.video(rooms, experimental_args={"video_attention_split_steps": "0"}, **asked)


def test_nag_leads_away_from_its_text(rooms: Rooms):
    texts = scenes.text_embeds()
    away = {**texts, "nag_prompt_embeds": texts["negative_prompt_embeds"], "nag_params": {"nag_scale": 5.0}}
    assert not torch.allclose(alone(rooms, text_embeds=away), alone(rooms), atol=1e-3)
    with pytest.raises(UsageError, match=r"nag_skale.*nag_scale"):
        alone(rooms, text_embeds={**away, "nag_params": {"nag_skale": 5.0}})


def test_the_negative_picture_is_seen_with_the_negative_prompt(rooms: Rooms):
    clip, other = (scenes.noise(1, 5, scenes.CONFIG.clip_dim, seed=seed) for seed in (50, 51))
    one, two, same = (
        alone(
            rooms,
            cfg=2.0,
            steps=1,
            image_embeds={**empty(), "clip_context": clip, "negative_clip_context": no},
        )
        for no in (None, other, clip)
    )
    assert torch.equal(one, same) and not torch.allclose(one, two, atol=1e-3)
    unguided = {**empty(), "clip_context": clip, "negative_clip_context": other}
    assert torch.equal(
        alone(rooms, image_embeds=unguided), alone(rooms, image_embeds={**empty(), "clip_context": clip})
    )


def test_an_original_is_what_a_mask_brings_back_and_travels_on(rooms: Rooms):
    original, mask = scenes.noise(1, 16, 5, *GRID, seed=41), torch.zeros(1, *GRID)
    samples = {**source(), "noise_mask": mask, "original_image": original}
    found, _ = WanVideoSampler().process(**scenes.arguments(rooms, image_embeds=empty(), samples=samples))
    assert torch.allclose(found["samples"], original, atol=1e-5)
    assert torch.equal(found["original_image"], original)


def test_noise_between_steps_goes_on_from_a_generator(rooms: Rooms):
    states = [torch.Generator().manual_seed(seed).get_state() for seed in (1, 1, 2)]
    one, again, other = (
        alone(rooms, scheduler="lcm", samples={**source(), "generator_state": state}) for state in states
    )
    assert torch.equal(one, again) and not torch.allclose(one, other, atol=1e-3)


def test_given_latents_with_a_share_of_noise_are_clean_in_the_end(rooms: Rooms):
    given = scenes.noise(1, 16, 1, *GRID, seed=40)
    embeds = {**empty(), "extra_latents": [{"samples": given, "index": 0}]}
    clean, noisy = (
        alone(rooms, scheduler="flowmatch_pusa", image_embeds={**embeds, "pusa_noise_multipliers": factor})
        for factor in (0.0, 0.5)
    )
    euler = alone(rooms, image_embeds=embeds, sigmas=[1.0, 0.75, 0.0], scheduler="euler")
    assert torch.equal(clean[:, :, :1], given) and torch.equal(noisy[:, :, :1], given)
    assert not torch.equal(clean, noisy) and not torch.equal(clean, euler)


def test_given_latents_are_clean_at_their_place(rooms: Rooms):
    given = scenes.noise(1, 16, 1, *GRID, seed=40)
    embeds = {**empty(), "extra_latents": [{"samples": given, "index": -1}]}
    found = alone(rooms, image_embeds=embeds)
    assert torch.equal(found[:, :, -1:], given) and not torch.equal(found[:, :, :1], given)


def test_a_loop_is_told_to_the_decoder(rooms: Rooms):
    asked = scenes.arguments(rooms, image_embeds=empty())
    assert not WanVideoSampler().process(**asked)[0]["looped"]
    assert WanVideoSampler().process(**asked | {"loop_args": {"shift_skip": 2}})[0]["looped"]


# What is refused, or told


REFUSED: tuple[tuple[Args, str], ...] = (
    ({"steps": 0}, "steps of WanVideoSampler is 0"),
    ({"cfg": 31.0}, "cfg is .31.0.; give a number from 0 to 30"),
    ({"cfg": []}, "cfg is"),
    ({"seed": -1}, "seed of WanVideoSampler is -1"),
    ({"shift": "5"}, "shift of WanVideoSampler"),
    ({"force_offload": 1}, "force_offload.*True or False"),
    ({"scheduler": "eulr"}, "eulr.*euler"),
    ({"rope_function": "exact"}, "exact.*comfy_chunked"),
    ({"start_step": -1}, "start_step is -1"),
    ({"start_step": 1.5}, "sigma, which lies from 0 to 1"),
    ({"start_step": 2}, "No step is left"),
    ({"denoise_strength": 0.5, "start_step": 1}, "sets the first step itself"),
    ({"sigmas": [0.0, 1.0]}, "numbers that fall"),
    ({"feta_args": {"weigth": 1.0}}, "weigth.*weight, start_percent, end_percent"),
    ({"feta_args": {"weight": 101}}, "weight of WanVideoEnhanceAVideo is 101"),
    ({"feta_args": {"start_percent": 0.9, "end_percent": 0.1}}, "lies before"),
    ({"cfg": 2.0, "slg_args": {"blocks": [1]}}, "block 1; the model has the blocks 0 to 0"),
    ({"cfg": 2.0, "slg_args": {"blocks": "a"}}, "whole numbers with commas"),
    ({"slg_args": {"block": "1"}}, "blocks, start_percent"),
    ({"cache_args": {"cache_type": "FooCache"}}, "FooCache.*TeaCache"),
    ({"cache_args": {"threshold": 1}}, "threshold"),
    ({"context_options": {"frames": 1}}, "context_frames"),
    ({"loop_args": {"skip": 1}}, "shift_skip"),
    ({"freeinit_args": {"freeinit_s": 1}}, "freeinit_d_s"),
    ({"freeinit_args": {"freeinit_method": "box"}}, "butterworth"),
    ({"experimental_args": {"use_fresco": True}}, "use_fresca"),
    ({"flowedit_args": {"skip_steps": 1}, "samples": source()}, "source_embeds"),
    ({"flowedit_args": {"source_embeds": scenes.text_embeds()}}, "connect it to samples"),
    ({"rope_function": {"ntk": 2.0}}, "ntk_scale_f"),
    ({"rope_function": {"rope_function": "comfy", "ntk_scale_f": 0.0}}, "above 0"),
    ({"scheduler": {"scheduler": "euler", "stepz": 1}}, "stepz.*steps"),
    ({"text_embeds": {"prompt_embeds": [torch.zeros(3, 9)]}}, r"\(3, 9\)"),
    ({"text_embeds": {"prompt": []}}, "prompt_embeds"),
    ({"text_embeds": {"nag_params": {"nag_scale": 5.0}}}, "no nag_prompt_embeds"),
    ({"multitalk_embeds": {"audio_features": []}}, "no audio_features"),
    ({"multitalk_embeds": {"audio_features": [torch.zeros(5, 12, 768)]}}, r"\(frames, 2, 4\)"),
    ({"multitalk_embeds": {"audio_feature": []}}, "audio_features"),
    ({"multitalk_embeds": scenes.multitalk_embeds(audio_scale=[1.0, 2.0])}, "one number"),
    ({"samples": {"latents": 1}}, "belong under 'samples'"),
    ({"samples": {**source(), "mask": 1}}, "noise_mask"),
    ({"samples": source(), "model": None}, "connect what gives a WANVIDEOMODEL"),
    ({"image_embeds": 5}, "image_embeds is a int"),
    ({"unianimate_poses": {"poses": 1}}, "pose, ref"),
    ({"fantasytalking_embeds": {"audio_proj": torch.zeros(1, 5, 2, 3)}}, "FantasyTalkingModelLoader"),
)


@pytest.mark.parametrize(("changes", "message"), REFUSED, ids=[message for _, message in REFUSED])
@pytest.mark.parametrize("made", [alone, scenes.video], ids=["one latent", "window loop"])
def test_what_has_no_meaning_is_refused_in_words(
    rooms: Rooms, changes: Args, message: str, made: Callable[..., torch.Tensor]
):
    with pytest.raises(UsageError, match=message):
        made(rooms, **changes)


def test_a_loop_over_several_windows_is_refused(rooms: Rooms):
    with pytest.raises(UsageError, match="loop_args joins the end"):
        scenes.video(rooms, loop_args={"shift_skip": 2}, multitalk_embeds=scenes.multitalk_embeds(40))


EDIT = {"source_embeds": scenes.text_embeds(), "skip_steps": 0}


@pytest.mark.parametrize(
    ("changes", "note"),
    [
        ({"slg_args": {"blocks": [0]}}, "slg_args have no effect with cfg 1"),
        ({"scheduler": "multitalk", "steps": 30}, "30"),
        ({"start_step": 1}, "without samples"),
        ({"steps": 4, "end_step": 2}, "decoded with that share of noise"),
        (
            {"experimental_args": {"use_tcfg": True, "raag_alpha": 1.0}},
            "use_tcfg, raag_alpha of experimental_args",
        ),
        ({"cfg": 2.0, "experimental_args": {"use_zero_init": True}}, "without cfg_zero_star"),
        (
            {"scheduler": "lcm", "samples": source(), "flowedit_args": EDIT},
            "of the scheduler lcm only the sigmas",
        ),
        ({"samples": source(), "flowedit_args": EDIT, "add_noise_to_samples": True}, "noise of its own"),
        ({"text_embeds": scenes.text_embeds(3)}, "There are 3 prompts and 1 window"),
        (
            {"samples": {**source(), "noise_mask": torch.zeros(1, *GRID)}, "add_noise_to_samples": True},
            "kept where noise_mask is low",
        ),
        ({"samples": source(), "add_noise_to_samples": True}, "samples have no effect"),
        ({"samples": {**source(), "cache_states": [1]}}, "cache_states of samples have no effect"),
        ({"samples": {**source(), "generator_state": torch.zeros(1)}}, "generator_state of samples"),
        (
            {
                "steps": 10,
                "cache_args": {"cache_type": "EasyCache", "easycache_thresh": 1.0, "start_step": 1},
            },
            "EasyCache left out",
        ),
    ],
)
def test_what_has_no_effect_is_told_once(rooms: Rooms, changes: Args, note: str):
    heard: list[Progress] = []
    with hosted(Host(listen=heard.append)):
        scenes.video(rooms, **changes)
    assert [note in event.note for event in heard if event.note] == [True]


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({}, "there is one"),
        (
            {
                "text_embeds": scenes.text_embeds(2),
                "context_options": {"context_frames": 9, "context_overlap": 4},
            },
            "each stretch has its own",
        ),
    ],
    ids=["one prompt", "stretches"],
)
def test_nothing_to_keep_apart_is_told(rooms: Rooms, changes: Args, why: str):
    notes = told(rooms, alone, experimental_args={"video_attention_split_steps": "0"}, **changes)
    assert [why in note for note in notes if "video_attention_split_steps" in note] == [True]


@pytest.mark.parametrize(
    ("changes", "note"),
    [
        (
            {"image_embeds": empty(1), "feta_args": {"weight": 5.0}, "multitalk_embeds": None},
            "on a single latent frame",
        ),
        ({"context_options": {"context_frames": 81}}, "holds all 5 of the video"),
        (
            {"multitalk_embeds": scenes.multitalk_embeds(20)},
            "20 frames and the video 17: the rest is not heard",
        ),
    ],
)
def test_what_one_latent_has_no_use_for_is_told(rooms: Rooms, changes: Args, note: str):
    assert [note in one for one in told(rooms, alone, **changes)] == [True]


def told(rooms: Rooms, made: Made, **changes: Any) -> list[str]:
    """The notes of a run."""
    heard: list[Progress] = []
    with hosted(Host(listen=heard.append)):
        made(rooms, **changes)
    return [event.note for event in heard if event.note]


def test_of_two_caches_the_old_name_wins_and_a_batch_beside_one_is_told(rooms: Rooms):
    both = {"cache_args": {"cache_type": "EasyCache"}, "teacache_args": {"use_coefficients": False}}
    notes = told(rooms, alone, cfg=2.0, batched_cfg=True, **both)
    assert "cache_args have no effect beside teacache_args, their old name, which wins." in notes
    assert sum("batched_cfg has no effect with a TeaCache" in note for note in notes) == 1
    assert any(note.startswith("TeaCache left out") for note in notes)
    alike = told(rooms, alone, cfg=2.0, batched_cfg=True, cache_args={"cache_type": "EasyCache"})
    assert not any("batched_cfg" in note for note in alike)


@pytest.mark.parametrize(
    "changes",
    [
        {"context_options": {"context_frames": 9, "context_overlap": 4}},
        {"freeinit_args": {"freeinit_num_iters": 2}},
        {"samples": source(), "flowedit_args": EDIT},
    ],
    ids=["stretches", "walked again", "edited"],
)
def test_what_a_cache_leaves_out_is_counted_of_what_was_asked(rooms: Rooms, changes: Args):
    """More than once in a step here; never more left out than asked."""
    cache = {"cache_type": "EasyCache", "easycache_thresh": 1.0, "start_step": 1}
    (note,) = [note for note in told(rooms, alone, steps=6, cache_args=cache, **changes) if "Cache" in note]
    asked = re.search(r"of (\d+) passes", note)
    assert asked is not None and int(asked[1]) >= 12


# The other sampler nodes


def test_settings_collect_the_inputs_and_another_node_runs_them(rooms: Rooms):
    asked = scenes.arguments(rooms, image_embeds=empty(), cfg=2.0)
    (settings,) = WanVideoSamplerSettings().process(**asked)
    assert list(settings) == list(inspect.signature(WanVideoSampler.process).parameters)[1:]
    samples, _ = WanVideoSamplerFromSettings().process(settings)
    assert torch.equal(samples["samples"], alone(rooms, cfg=2.0))
    with pytest.raises(TypeError, match=r"sead.*seed"):
        WanVideoSamplerSettings().process(**asked, sead=1)
    with pytest.raises(TypeError, match=r"sead.*seed"):
        WanVideoSamplerFromSettings().process({**settings, "sead": 1})


def test_the_second_sampler_takes_its_schedule_and_extras_from_nodes(rooms: Rooms):
    asked = scenes.arguments(rooms)
    schedule = {"scheduler": "euler", "steps": 2, "shift": 3.0, "start_step": 0, "end_step": -1}
    (extra,) = WanVideoSamplerExtraArgs().process(
        feta_args={"weight": 4.0}, multitalk_embeds=asked["multitalk_embeds"]
    )
    samples, _ = WanVideoSamplerv2().process(
        asked["model"], empty(), 2.0, 5, schedule, text_embeds=asked["text_embeds"], extra_args=extra
    )
    assert torch.equal(samples["samples"], alone(rooms, cfg=2.0, feta_args={"weight": 4.0}))
    with pytest.raises(UsageError, match="feta"):
        WanVideoSamplerv2().process(asked["model"], empty(), 2.0, 5, schedule, extra_args={"feta": 1})
