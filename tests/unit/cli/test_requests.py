"""What was typed becomes a request, or a sentence about what is missing."""

from __future__ import annotations

from pathlib import Path

import pytest

from infinite_talk import (
    APG,
    AudioLayout,
    Box,
    Compat,
    Device,
    Distilled,
    EasyCache,
    InputError,
    LoRA,
    MagCache,
    Memory,
    ModelFiles,
    Request,
    Settings,
    Speaker,
    TeaCache,
    UsageError,
)
from infinite_talk.frontends.cli.config import Options
from infinite_talk.frontends.cli.requests import Files, build_request, build_settings, parse_box, parse_lora


@pytest.fixture
def files(tmp_path, monkeypatch) -> Files:
    monkeypatch.chdir(tmp_path)
    for name in ("me.png", "a.wav", "b.wav", "take.mp4", "left.png"):
        Path(name).write_bytes(b"x")
    return Files(image=Path("me.png"), audios=("a.wav",))


def test_every_option_arrives(files):
    options = Options(
        prompt="x | y", negative_prompt="n", size="720", seed=7, steps=8, shift=2, text_guidance=1, audio_guidance=2,
        apg=True, apg_momentum=-0.5, apg_norm=27, teacache=0.3, distilled="lightx2v-4step",
        window_frames=49, motion_frames=5, max_frames=100,
        colour_strength=0.5, fps=25, layout=AudioLayout.IN_TURN, audio_start=1, audio_end=2, compat=Compat.OFFICIAL,
    )  # fmt: skip
    assert build_request(files, options) == Request(
        image=Path("me.png"), speakers=(Speaker(audio=Path("a.wav")),), audio_layout=AudioLayout.IN_TURN,
        audio_start=1, audio_end=2, prompt="x | y", negative_prompt="n", size="720", seed=7, steps=8, shift=2,
        text_guidance=1, audio_guidance=2, apg=APG(momentum=-0.5, norm_threshold=27),
        step_cache=TeaCache(threshold=0.3), distilled=Distilled.LIGHTX2V_4STEP,
        window_frames=49, motion_frames=5, max_frames=100, colour_strength=0.5,
        compat=Compat.OFFICIAL,
    )  # fmt: skip
    machine = Options(
        model=Path("m"), device="cpu", precision="fp32", threads=2, max_audio_seconds=9, max_pixels=8, crf=20
    )
    assert build_settings(machine) == Settings(
        model=Path("m"),
        device=Device.CPU,
        precision="fp32",
        threads=2,
        max_audio_seconds=9,
        max_pixels=8,
        crf=20,
    )


def test_every_field_of_the_nouns_can_be_set():
    """A new field of ``Request`` or ``Settings`` must get an option."""
    composed = {"image", "video", "speakers", "apg", "step_cache", "audio_layout"}
    composed |= {"files", "loras", "memory", "models_dirs"}
    fields = {*Request.__dataclass_fields__, *Settings.__dataclass_fields__} - composed
    assert fields <= set(Options.model_fields)


def test_flags_win_over_the_base_and_leave_the_rest(files):
    base = Request(
        video=Path("take.mp4"),
        speakers=(Speaker(audio=Path("b.wav"), box=Box(0, 0, 1, 1)),),
        steps=4,
        apg=APG(),
    )
    request = build_request(Files(image=Path("me.png")), Options(seed=9, apg=False, teacache=0), base)
    assert (request.image, request.video, request.seed, request.steps) == (Path("me.png"), None, 9, 4)
    assert request.speakers == base.speakers
    assert request.apg is None
    assert request.step_cache is None


@pytest.mark.parametrize(
    ("options", "cache"),
    [
        ({"step_cache": "teacache"}, TeaCache()),
        ({"step_cache": "magcache"}, MagCache()),
        ({"step_cache": "easycache", "cache_threshold": 0.1}, EasyCache(threshold=0.1)),
        (
            {"step_cache": "magcache", "cache_threshold": 0.2, "cache_longest": 4, "cache_retention": 0.1},
            MagCache(threshold=0.2, longest=4, retention=0.1),
        ),
        ({"step_cache": "none"}, None),
        ({"step_cache": "none", "cache_threshold": 0.1}, None),
        ({}, None),
    ],
)
def test_step_caches(files, options, cache):
    assert build_request(files, Options(**options)).step_cache == cache


def test_a_step_cache_of_an_earlier_video_keeps_what_is_not_said(files):
    base = Request(step_cache=MagCache(threshold=0.3, longest=5, ratios=(1.0, 0.9), shift=2.0))
    changed = build_request(files, Options(cache_threshold=0.1), base).step_cache
    assert changed == MagCache(threshold=0.1, longest=5, ratios=(1.0, 0.9), shift=2.0)
    assert build_request(files, Options(step_cache="magcache"), base).step_cache == base.step_cache
    assert build_request(files, Options(step_cache="easycache"), base).step_cache == EasyCache()
    assert build_request(files, Options(), base).step_cache == base.step_cache


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"cache_threshold": 0.1}, "--cache-threshold is for a step cache"),
        ({"step_cache": "teacache", "cache_longest": 3}, "--cache-longest has no meaning for teacache"),
        ({"step_cache": "teacache", "cache_retention": 0.1}, "--cache-retention has no meaning for teacache"),
        ({"step_cache": "easycache", "cache_longest": 3}, "--cache-longest has no meaning for easycache"),
        ({"teacache": 0.1, "step_cache": "magcache"}, "not both"),
    ],
)
def test_numbers_of_another_step_cache_are_refused(files, options, said):
    with pytest.raises(UsageError, match=said):
        build_request(files, Options(**options))


def test_two_speakers_with_boxes_and_a_silent_one(files):
    two = Files(Path("me.png"), None, ("a.wav", "none"), ("1,2,30,40", "50,2,90,40"), ("none", "left.png"))
    first, second = build_request(two, Options()).speakers
    assert first == Speaker(audio=Path("a.wav"), box=Box(1, 2, 30, 40))
    assert second == Speaker(audio=None, box=Box(50, 2, 90, 40), mask=Path("left.png"))


@pytest.mark.parametrize(
    ("change", "options", "kind", "said"),
    [
        ({"image": None}, {}, UsageError, "--image portrait.png"),
        ({"audios": ()}, {}, UsageError, "--audio speech.wav"),
        ({"video": Path("take.mp4")}, {}, UsageError, "not both"),
        ({"boxes": ("1,2,3,4", "1,2,3,4")}, {}, UsageError, "2 --box for 1 --audio"),
        ({"masks": ("left.png", "left.png")}, {}, UsageError, "2 --mask for 1 --audio"),
        ({"image": Path("you.png")}, {}, InputError, "--image you.png: there is no such file"),
        ({"audios": ("c.wav",)}, {}, InputError, r"--audio c.wav: there is no such file"),
        ({"audios": (".",)}, {}, InputError, "not a regular file"),
    ],
)
def test_what_is_missing_is_said(files, change, options, kind, said):
    values = {name: getattr(files, name) for name in Files.__dataclass_fields__} | change
    with pytest.raises(kind, match=said):
        build_request(Files(**values), Options(**options))


@pytest.mark.parametrize("text", ["", "1,2,3", "1,2,3,4,5", "a,b,c,d", "1;2;3;4"])
def test_a_box_is_four_numbers(text):
    with pytest.raises(UsageError, match="--box"):
        parse_box(text)


@pytest.mark.parametrize(
    ("text", "path", "strength", "merge"),
    [
        ("a.safetensors", "a.safetensors", 1.0, True),
        ("a.safetensors:0.8", "a.safetensors", 0.8, True),
        ("dir/a:b.safetensors:-1", "dir/a:b.safetensors", -1.0, True),
        ("a.safetensors:1,1,.5", "a.safetensors", (1.0, 1.0, 0.5), False),
        ("a:b.safetensors", "a:b.safetensors", 1.0, True),
    ],
)
def test_lora_with_its_strength(text, path, strength, merge):
    assert parse_lora(text) == LoRA(path=Path(path), strength=strength, merge=merge)


def test_settings_are_composed_of_files_memory_and_loras():
    options = Options(
        vae=Path("v.pth"), text_encoder=Path("t.gguf"), blocks_to_swap=7, lora=("x.safetensors:2",), vram=12
    )
    settings = build_settings(options)
    assert settings.files == ModelFiles(vae=Path("v.pth"), text=Path("t.gguf"))
    assert settings.memory == Memory(blocks_to_swap=7)
    assert settings.loras == (LoRA(path=Path("x.safetensors"), strength=2.0),)
    assert settings.vram == 12
