"""A request's numbers, words and places, official job files, and the whole ``read_source``."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from infinite_talk.errors import InfiniteTalkError, InputError, UsageError
from infinite_talk.inputs import prompts_of, read_job_file, read_source, validate
from infinite_talk.request import (
    APG,
    AudioLayout,
    Box,
    Compat,
    EasyCache,
    MagCache,
    Request,
    Speaker,
    TeaCache,
)
from infinite_talk.settings import Settings
from infinite_talk.types import Size
from tests.unit.inputs.media import encode, number_of, numbered, tone, write_wav

ONE = (Speaker(audio=Path("a.wav")),)
GOOD = Request(image=Path("a.png"), speakers=ONE)

# T1


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x" * 32_000,
        "مرحبا \u202e abc",
        "\U0001f600\u200d\U0001f525",
        "z\u0335\u0321" * 500,
        "<script>{{7*7}} %s \x1b[31m",
        "line\nline | second | third",
    ],
)
def test_t1_odd_texts_are_accepted_unchanged(text):
    request = replace(GOOD, prompt=text, negative_prompt=text)
    validate(request)
    assert request.prompt == text


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("x" * 32_001, "prompt_too_long"),
        ("x" * 10_000_000, "prompt_too_long"),
        ("half \ud83d pair", "prompt_invalid"),
        (b"\xff\xfe".decode("utf-8", "surrogateescape"), "prompt_invalid"),
        ("a\0b", "prompt_invalid"),
    ],
)
@pytest.mark.parametrize("field", ["prompt", "negative_prompt"])
def test_t1_texts_that_nothing_can_hold(text, code, field):
    with pytest.raises(InputError) as error:
        validate(replace(GOOD, **{field: text}))
    assert error.value.code == code
    assert len(error.value.message) < 300


def test_t1_prompts_of_successive_windows():
    assert prompts_of("a | b c |d") == ("a", "b c", "d")
    assert prompts_of("one") == ("one",)
    assert prompts_of("") == ("",)


# T4


@pytest.mark.parametrize(
    ("field", "value", "hint"),
    [
        ("size", "1x1", "64x64"),
        ("size", "99999x99999", "1728x1728"),
        ("size", "-1x-1", "64x64"),
        ("size", "833x481!", "832x480"),
        ("steps", 0, "1 to 1000"),
        ("steps", 10**6, "1 to 1000"),
        ("steps", 2.5, "whole number"),
        ("steps", "8", "whole number"),
        ("steps", True, "whole number"),
        ("seed", 2**64, "0 to"),
        ("seed", -1, "0 to"),
        pytest.param("seed", 10**5000, "0 to", id="seed-huge"),
        ("fps", 0, "1 to 1000"),
        ("fps", 1001, "1 to 1000"),
        ("fps", 30, "25 frames"),
        ("shift", 0.0, "0.01 to"),
        ("shift", float("nan"), "0.01 to"),
        ("shift", float("inf"), "0.01 to"),
        ("text_guidance", -1.0, "0.0 to"),
        ("audio_guidance", 1e9, "to 30"),
        ("colour_strength", 1.5, "to 1.0"),
        ("audio_start", -1.0, "0.0 to"),
        ("audio_end", 1e9, "to 1000000"),
        ("audio_end", 0.0, "must lie after"),
        ("window_frames", 80, "nearest is 81"),
        ("window_frames", 1, "5 to"),
        ("motion_frames", 10, "nearest is 9"),
        ("max_frames", 0, "1 to"),
        ("apg", APG(momentum=-2.0), "-1.0 to"),
        ("apg", APG(norm_threshold=float("nan")), "0.0 to"),
        ("step_cache", TeaCache(threshold=-0.1), "0.0 to"),
        ("step_cache", TeaCache(coefficients=()), "1 to 20"),
        ("step_cache", TeaCache(coefficients=(1.0, float("nan"))), "number 2"),
        ("step_cache", MagCache(longest=-1), "step_cache.longest"),
        ("step_cache", MagCache(longest=1.5), "whole number"),
        ("step_cache", MagCache(retention=1.5), "step_cache.retention"),
        ("step_cache", MagCache(ratios=(1.0, 0.0)), "number 2"),
        ("step_cache", MagCache(shift=0.0), "step_cache.shift"),
        ("step_cache", EasyCache(threshold=float("nan")), "0.0 to"),
        ("step_cache", EasyCache(retention=-0.1), "step_cache.retention"),
        ("step_cache", 0.2, "must be a TeaCache"),
        ("distilled", "3-steps", "lightx2v-4step"),
        ("scene_cuts", True, "for videos"),
        ("image", None, "neither"),
        ("video", Path("b.mp4"), "both"),
        ("speakers", (), "Nobody"),
        ("speakers", (Speaker(audio=None),), "Nobody"),
        ("speakers", ONE * 9, "at most 8"),
        ("speakers", (Speaker(audio=Path("a"), box=Box(0, 0, 1, 1), mask=Path("m")),), "box and a mask"),
        ("speakers", (Speaker(audio=Path("a"), box=Box(5, 0, 5, 9)),), "left=5"),
        ("speakers", (Speaker(audio=Path("a"), box=Box(0, float("nan"), 5, 9)),), "box.top"),
    ],
)
def test_t4_numbers_out_of_range_name_the_range(field, value, hint):
    with pytest.raises(UsageError, match=hint) as error:
        validate(replace(GOOD, **{field: value}))
    assert error.value.exit_code == 2
    assert len(error.value.message) < 300


def test_t4_windows_and_motion_fit_each_other():
    with pytest.raises(UsageError, match="leave nothing new"):
        validate(replace(GOOD, window_frames=9, motion_frames=9))
    validate(replace(GOOD, window_frames=9, motion_frames=5))


@given(
    st.sampled_from(
        ["steps", "seed", "shift", "text_guidance", "max_frames", "motion_frames", "audio_end", "fps"]
    ),
    st.integers() | st.floats() | st.text(max_size=5) | st.booleans(),
)
def test_t4_any_value_is_accepted_or_refused_by_us(field, value):
    try:
        validate(replace(GOOD, **{field: value}))
    except InfiniteTalkError:
        return
    assert not isinstance(value, str | bool)


# Job files


def write_job(path: Path, job: object) -> Path:
    path.write_text(job if isinstance(job, str) else json.dumps(job))
    return path


def test_official_job_of_two_people(tmp_path):
    job = {
        "prompt": "Two people talk.",
        "cond_video": "two.png",
        "audio_type": "add",
        "cond_audio": {"person2": "None", "person1": "one.wav"},
        "bbox": {"person1": [160, 120, 1280, 1080], "person2": [160, 1320, 1280, 2280]},
        "video_audio": "sum.wav",
    }
    (tmp_path / "two.png").touch()
    request = read_job_file(write_job(tmp_path / "job.json", job))
    assert request == Request(
        image=tmp_path / "two.png",
        speakers=(
            Speaker(audio=Path("one.wav"), box=Box(left=120, top=160, right=1080, bottom=1280)),
            Speaker(audio=None, box=Box(left=1320, top=160, right=2280, bottom=1280)),
        ),
        audio_layout=AudioLayout.IN_TURN,
        prompt="Two people talk.",
    )


def test_official_job_of_one_person_and_a_video(tmp_path):
    job = {"prompt": "A", "cond_video": "a/film.MP4", "cond_audio": {"person1": "b.wav"}}
    request = read_job_file(write_job(tmp_path / "job.json", job))
    assert request == Request(video=Path("a/film.MP4"), speakers=(Speaker(audio=Path("b.wav")),), prompt="A")


@pytest.mark.parametrize(
    ("job", "hint"),
    [
        ("", "empty"),
        ("no json", "no JSON"),
        ("[" * 100_000, "no JSON"),
        ('{"prompt": "a", "prompt": "b"}', "given twice"),
        ('{"prompt": NaN}', "NaN"),
        ("[]", "one object"),
        ({"cond_video": "a.png"}, "cond_audio"),
        ({"cond_video": 5, "cond_audio": {"person1": "a"}}, "cond_video"),
        ({"cond_video": "a", "cond_audio": {"person1": 7}}, "person1"),
        ({"cond_video": "a", "cond_audio": {"person2": "b"}}, "person1"),
        ({"cond_video": "a", "cond_audio": "b.wav"}, "cond_audio"),
        ({"cond_video": "a", "cond_audio": {"person1": "b"}, "prompt": 3}, "prompt"),
        ({"cond_video": "a", "cond_audio": {"person1": "b"}, "audio_type": "both"}, "audio_type"),
        ({"cond_video": "a", "cond_audio": {"person1": "b"}, "bbox": {"person2": [1, 2, 3, 4]}}, "bbox"),
        ({"cond_video": "a", "cond_audio": {"person1": "b"}, "bbox": {"person1": [1, 2, 3]}}, "four numbers"),
        (
            {"cond_video": "a", "cond_audio": {"person1": "b"}, "bbox": {"person1": [1, 2, "3", 4]}},
            "four numbers",
        ),
        (
            '{"cond_video": "a", "cond_audio": {"person1": "b"}, "bbox": {"person1": [1, 2, 1e999, 4]}}',
            "four",
        ),
        ({"cond_video": "a", "cond_audio": {"person1": "b"}, "tts_audio": {}}, "tts_audio"),
        ({"prompt": "x" * 1_100_000}, "larger than"),
    ],
)
def test_unusable_jobs(tmp_path, job, hint):
    with pytest.raises(InfiniteTalkError, match=hint) as error:
        read_job_file(write_job(tmp_path / "job.json", job))
    assert error.value.exit_code in {2, 3}
    assert len(error.value.message) < 400


def test_job_that_is_no_text(tmp_path):
    path = tmp_path / "job.json"
    path.write_bytes(b"\xff\xfe\x00{")
    with pytest.raises(InputError) as error:
        read_job_file(path)
    assert error.value.code == "job_invalid"


# The whole


@pytest.fixture
def files(tmp_path) -> Path:
    Image.new("RGB", (160, 120), (90, 120, 60)).save(tmp_path / "portrait.png")
    mask = np.zeros((120, 160), np.uint8)
    mask[:, :40] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    write_wav(tmp_path / "one.wav", tone(2, 44_100), 44_100)
    write_wav(tmp_path / "two.wav", tone(1, 16_000, 500))
    encode(tmp_path / "film.mp4", pictures=numbered(30), rate=50, sounds=[tone(1, 48_000)[:, None]])
    return tmp_path


def source_of(request: Request, **options):
    return read_source(request, Settings(), default_size="192x192", **options)


def test_source_of_a_portrait(files):
    source = source_of(Request(image=files / "portrait.png", speakers=(Speaker(audio=files / "one.wav"),)))
    assert source.pictures.still
    assert source.source_size == (120, 160)
    assert source.size == Size(160, 224)
    assert source.frames == 50
    assert source.masks.shape == (2, 120, 160)
    assert source.masks.all()
    assert (source.soundtrack.rate, source.soundtrack.channels, source.soundtrack.samples) == (
        44_100,
        1,
        88_200,
    )
    assert source.speech[0].shape == (32_000,)
    assert (source.cuts, source.notes) == ((), ())


def test_source_of_a_film(files):
    request = Request(
        video=files / "film.mp4", speakers=(Speaker(audio=files / "one.wav"),), size="480", scene_cuts=True
    )
    source = source_of(request)
    assert not source.pictures.still
    assert source.size == Size(512, 768)
    assert [number_of(source.pictures[frame]) for frame in (0, 5, 40)] == [0, 10, 4]
    official = source_of(request, compat=Compat.OFFICIAL)
    assert [number_of(official.pictures[frame]) for frame in (0, 5, 40)] == [0, 5, 4]


def test_source_of_several_people(files):
    box = Box(left=80, top=0, right=120, bottom=120)
    speakers = (
        Speaker(audio=files / "one.wav", mask=files / "mask.png"),
        Speaker(audio=files / "two.wav", box=box),
        Speaker(audio=None, box=Box(left=130, top=0, right=160, bottom=60)),
    )
    source = source_of(
        Request(image=files / "portrait.png", speakers=speakers, audio_layout=AudioLayout.IN_TURN)
    )
    assert source.frames == 75
    assert [speech.shape for speech in source.speech] == [(48_000,)] * 3
    assert not source.speech[2].any()
    assert [int(mask.sum()) for mask in source.masks] == [4800, 4800, 1800, 7800]
    with pytest.raises(UsageError, match="where each of them is"):
        source_of(Request(image=files / "portrait.png", speakers=(Speaker(audio=files / "one.wav"),) * 3))


def test_source_sum_of_recordings_is_capped(files):
    request = Request(
        image=files / "portrait.png",
        speakers=(Speaker(audio=files / "one.wav"), Speaker(audio=files / "two.wav")),
        audio_layout=AudioLayout.IN_TURN,
    )
    with pytest.raises(InputError) as error:
        read_source(request, Settings(max_audio_seconds=2.5), default_size="192x192")
    assert error.value.code == "audio_too_long"


def test_a_film_as_image_and_an_image_as_film(files):
    speakers = (Speaker(audio=files / "one.wav"),)
    with pytest.raises(InputError) as error:
        source_of(Request(image=files / "film.mp4", speakers=speakers))
    assert error.value.code == "image_unsupported"
    with pytest.raises(InputError) as error:
        source_of(Request(video=files / "portrait.png", speakers=speakers))
    assert error.value.code == "video_unsupported"
