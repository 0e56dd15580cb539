"""``infinite-talk plan``: sizes without files, a GPU that is not here, words and numbers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from infinite_talk.forecast import plan_run
from infinite_talk.frontends.cli.main import run
from infinite_talk.memory.speed import GIB
from infinite_talk.request import EasyCache, MagCache, Request, TeaCache
from infinite_talk.settings import Memory, Quantization, Settings
from tests.bundles import save_tiny_bundle


def planned(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = run(["plan", *arguments])
    said = capsys.readouterr()
    return code, said.out, said.err


def test_the_14b_model_without_files_on_a_gpu_that_is_not_here(capsys):
    code, out, _ = planned(
        capsys, "--model", "14b", "--size", "480", "--quantization", "fp8_e4m3fn_scaled_fast", "--vram", "12"
    )
    assert code == 0
    assert "14B (fp8_e4m3fn_scaled_fast), 896x448" in out
    assert "of 40 blocks stay in host memory" in out
    assert all(
        word in out for word in ("text encoder", "denoising", "latents to frames", "host:", "disk:", "time:")
    )
    assert "\x1b" not in out


def test_json_has_every_stage_in_bytes(capsys):
    code, out, _ = planned(capsys, "--model", "14b", "--vram", "24", "--json")
    said = json.loads(out)
    assert code == 0
    assert said["ok"]
    stages = said["plan"]["stages"]
    assert [stage["name"] for stage in stages] == ["text", "speech", "image", "encode", "denoise", "decode"]
    assert max(stage["peak"] for stage in stages) == said["plan"]["peak"]
    assert said["plan"]["peak"] + said["driver"] < 24 * GIB
    assert said["seconds_per_window"] > 0
    assert said["disk_model"] > 45e9


def test_what_cannot_fit_is_refused_with_the_least_that_would(capsys):
    code, out, err = planned(capsys, "--model", "14b", "--size", "720", "--vram", "4")
    assert (code, out) == (2, "")
    assert "takes at least" in err


def test_a_folder_is_planned_from_its_headers(tmp_path, capsys):
    folder = save_tiny_bundle(tmp_path)
    code, out, _ = planned(capsys, "--model", str(folder), "--vram", "1")
    assert code == 0
    assert out.startswith("tiny (")
    assert "64x64" in out


def test_a_preset_that_is_not_here_has_the_sizes_of_its_files():
    small = plan_run(Request(), Settings(model=Path("kijai-fp8-scaled"), vram=24.0))
    large = plan_run(Request(), Settings(model=Path("14b"), vram=24.0))
    assert "not here" in small.notes[0]
    assert small.plan.blocks_to_swap < large.plan.blocks_to_swap


def test_settings_are_kept_and_guidance_counts():
    settings = Settings(
        model=Path("14b"), vram=24.0, quantization=Quantization.INT8, memory=Memory(blocks_to_swap=30)
    )
    assert plan_run(Request(), settings).plan.blocks_to_swap == 30
    one = plan_run(Request(text_guidance=1.0, audio_guidance=1.0, steps=4), settings)
    three = plan_run(Request(steps=4), settings)
    assert one.work.branches == 1
    assert three.work.branches == 3
    assert three.plan.seconds_per_window > 2 * one.plan.seconds_per_window


def test_a_step_cache_that_remembers_tokens_needs_memory_for_them():
    """32,256 tokens of 5120 bfloat16 numbers for each of three branches; EasyCache remembers latents only.

    Without a cache the three branches pass through the blocks together, with it one at a time.
    """
    settings = Settings(model=Path("14b"), vram=80.0)
    needs = [
        next(
            stage.activations
            for stage in plan_run(Request(step_cache=cache), settings).plan.stages
            if stage.name == "denoise"
        )
        for cache in (None, EasyCache(), MagCache(), TeaCache())
    ]
    assert needs[1] == needs[0] and needs[2] == needs[3]
    assert needs[2] - needs[0] == pytest.approx((3 + 1 - 3) * 21 * 28 * 56 * 5120 * 2, rel=1e-6)


def test_the_options_of_sampling_reach_a_plan_without_media(capsys):
    said = [
        json.loads(planned(capsys, "--model", "14b", "--vram", "80", "--json", *more)[1])
        for more in ([], ["--step-cache", "magcache"])
    ]
    assert said[1]["plan"]["peak"] >= said[0]["plan"]["peak"]
    few = planned(capsys, "--model", "14b", "--vram", "80", "--json", "--distilled", "lightx2v-4step")
    assert json.loads(few[1])["steps"] == 4 and json.loads(few[1])["branches"] == 1


@pytest.mark.parametrize(
    "arguments", [["--image", "a.png", "--video", "b.mp4"], ["--model", "no-such-model"]]
)
def test_wrong_options(capsys, arguments):
    code, _, err = planned(capsys, *arguments)
    assert code in (2, 4)
    assert err


def test_a_length_without_media_is_cut_into_windows():
    """81 frames, then 72 more each; the time grows with the windows, and nothing is opened."""
    settings = Settings(model=Path("14b"), vram=24.0)
    short = plan_run(Request(steps=4), settings, seconds=3.0)
    long = plan_run(Request(steps=4), settings, seconds=60.0)
    assert (short.work.windows, long.work.windows) == (1, 21)
    assert (short.seconds, long.seconds) == (3.0, 60.0)
    assert long.run_seconds > 10 * short.run_seconds
    assert long.plan.peak == short.plan.peak  # memory does not grow with the length
    assert plan_run(Request(steps=4, max_frames=50), settings, seconds=60.0).seconds == 2.0
