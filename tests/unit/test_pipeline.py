"""``InfiniteTalkPipeline``: options reach the nodes, all of the speech is in the file, errors are raised."""

from __future__ import annotations

import wave
from dataclasses import fields
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from PIL import Image

from infinite_talk import Cancelled, CheckpointError, InfiniteTalkPipeline, InputError, UsageError, nodes
from infinite_talk.pipeline import PipelineOptions, talking
from infinite_talk.pipeline.names import attention_named, quantization_named, scheduler_of
from infinite_talk.pipeline.talking import frames_of, mixed, read_picture, wants_resizing
from tests.bundles import save_tiny_bundle

QUICK = {"width": 64, "height": 64, "steps": 1, "frame_window_size": 13, "motion_frame": 5, "seed": 7}


@pytest.fixture(scope="module")
def bundle(tmp_path_factory) -> Path:
    return save_tiny_bundle(tmp_path_factory.mktemp("pipeline") / "model")


def speech(path: Path, seconds: float, rate: int = 16000) -> Path:
    time = np.arange(int(rate * seconds)) / rate
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes((np.sin(900 * time) * 9000).astype("<i2").tobytes())
    return path


@pytest.fixture
def files(tmp_path) -> tuple[Path, Path]:
    rng = np.random.default_rng(1)
    portrait = tmp_path / "portrait.png"
    Image.fromarray(rng.integers(0, 255, (80, 100, 3), dtype=np.uint8)).save(portrait)
    return portrait, speech(tmp_path / "speech.wav", 0.84)


def loaded(bundle: Path, tmp_path: Path, **more) -> InfiniteTalkPipeline:
    pipeline = InfiniteTalkPipeline(output_dir=tmp_path / "out", **more)
    name = str(bundle)
    assert pipeline.load_models(name, name, name, name, name, "disabled", "default", "fp32", "fp32") is True
    return pipeline


def test_a_video_has_all_of_the_speech_and_its_sound(bundle, files, tmp_path):
    path = loaded(bundle, tmp_path).generate(*files, "a face", **QUICK)
    assert path.parent == tmp_path / "out"
    with av.open(str(path)) as film:
        assert film.streams.video[0].frames == 21  # 0.84 s at 25 frames per second, in two windows
        heard = np.concatenate([f.to_ndarray().ravel() for f in film.decode(audio=0)])
        assert "seed 7" in film.metadata["comment"]
    assert np.abs(heard).max() > 0.05
    assert [p.name for p in (tmp_path / "out").iterdir()] == [path.name]  # no frames are left


def test_options_reach_the_sampler(bundle, files, tmp_path, monkeypatch):
    asked = {}

    class Spy(nodes.WanVideoSampler):
        def process(self, **values):
            asked.update(values)
            raise Cancelled("enough")

    monkeypatch.setattr(nodes, "WanVideoSampler", Spy, raising=False)
    options = {
        **QUICK,
        "cfg": 2.0,
        "shift": 3.0,
        "sampler_name": "euler",
        "scheduler": None,
        "audio_scale": 1.5,
    }
    with pytest.raises(Cancelled):
        loaded(bundle, tmp_path).generate(*files, "a face", **options, colormatch="hm", audio_cfg_scale=2.0)
    chosen = (asked["scheduler"], asked["steps"], asked["cfg"], asked["shift"], asked["seed"])
    assert chosen == ("euler", 1, 2.0, 3.0, 7)
    assert asked["multitalk_embeds"]["audio_scale"] == 1.5
    assert asked["multitalk_embeds"]["audio_cfg_scale"] == 2.0
    assert asked["multitalk_embeds"]["num_frames"] == 21
    assert asked["image_embeds"]["colormatch"] == "hm"
    assert asked["image_embeds"]["clip_context"] is not None  # CLIP conditioning arrives
    assert asked["image_embeds"]["frame_window_size"] == 13


def test_options_reach_the_loader(bundle, tmp_path):
    pipeline = InfiniteTalkPipeline(output_dir=tmp_path)
    name = str(bundle)
    pipeline.load_models(name, name, name, name, name, "int8", "eager", "fp32", "bf16", blocks_to_swap=1)
    settings = pipeline._loaded.transformer.settings
    found = (settings.quantization, settings.attention, settings.precision, settings.memory.blocks_to_swap)
    assert found == ("int8", "eager", "bf16", 1)


def test_a_run_can_be_stopped(bundle, files, tmp_path):
    def stop(event):
        if event.step:
            raise Cancelled("stopped")

    with pytest.raises(Cancelled):
        loaded(bundle, tmp_path, progress=stop).generate(*files, **QUICK)
    assert not list((tmp_path / "out").glob("*"))


def test_what_goes_wrong_is_raised(bundle, files, tmp_path):
    pipeline = InfiniteTalkPipeline(output_dir=tmp_path)
    with pytest.raises(UsageError, match="Models are not loaded; call load_models first"):
        pipeline.generate(*files)
    with pytest.raises(CheckpointError, match="no_such"):
        pipeline.load_models("no_such.safetensors", "a", "b", "c", "d", "disabled")
    with pytest.raises(UsageError, match="model_quantization is 'fp3'"):
        pipeline.load_models("a", "a", "b", "c", "d", "fp3")
    ready = loaded(bundle, tmp_path)
    with pytest.raises(InputError):
        ready.generate(tmp_path / "none.png", files[1])
    with pytest.raises(TypeError, match=r"no argument 'widht'. Did you mean 'width'\?"):
        ready.generate(*files, widht=64)
    with pytest.raises(CheckpointError, match=r"Vocal separation needs MelBandRoformer_fp16.safetensors"):
        ready.generate(*files, separate_vocals=True, **QUICK)


@pytest.mark.parametrize(
    ("sampler", "scheduler", "runs"),
    [
        ("dpm++_sde", "unipc", "dpm++_sde"),
        ("dpmpp_2m", "unipc/beta", "dpm++/beta"),
        ("euler", "multitalk", "multitalk"),
        ("euler", "flowmatch_distill", "flowmatch_distill"),
        ("lcm", "euler", "lcm"),
        ("dpmpp_sde", None, "dpm++_sde"),
        (None, "res_multistep", "res_multistep"),
        (None, None, "multitalk"),
    ],
)
def test_sampler_and_scheduler_become_one_name(sampler, scheduler, runs):
    assert scheduler_of(sampler, scheduler) == runs


@pytest.mark.parametrize(
    ("sampler", "scheduler", "says"),
    [
        ("euler", "unipc", "different times"),
        ("heun", "unipc", "has no schedule of Wan2.1"),
        ("best", "unipc", "There is no sampler 'best'"),
        (None, "best", "There is no scheduler 'best'"),
    ],
)
def test_others_are_refused(sampler, scheduler, says):
    with pytest.raises(UsageError, match=says):
        scheduler_of(sampler, scheduler)


def test_names_of_the_application():
    assert quantization_named("fp4_scaled") == "fp4_scaled"
    assert quantization_named("fp8") == "fp8_e4m3fn"
    assert attention_named("default") == "auto"
    assert attention_named("sageattn_3_fp4") == "sageattn_3_fp4"
    with pytest.raises(UsageError, match="model_attention is 'flash'"):
        attention_named("flash")


def test_frames_follow_the_longest_recording():
    sounds = [{"waveform": torch.zeros(1, 1, 16000 * s), "sample_rate": 16000} for s in (2, 3)]
    assert frames_of(sounds, PipelineOptions()) == 75
    assert frames_of(sounds, PipelineOptions(max_frames=40)) == 40
    assert frames_of(sounds, PipelineOptions(auto_frame_count=False, video_length=50)) == 50
    assert frames_of(sounds, PipelineOptions(auto_frame_count=False, video_length=200)) == 75
    with pytest.raises(UsageError, match=r"at most 10000.*infinite_talk\.Engine"):
        frames_of([{"waveform": torch.zeros(1, 1, 401), "sample_rate": 1}], PipelineOptions())


def test_a_crop_without_a_duration_goes_to_the_end(tmp_path):
    pipeline, path = InfiniteTalkPipeline(output_dir=tmp_path), speech(tmp_path / "a.wav", 2.0)

    def samples(**options):
        return pipeline._sound(path, PipelineOptions(**options))["waveform"].shape[-1]

    assert samples() == 32000
    assert samples(crop_audio=True, audio_start_time=0.5) == 24000
    assert samples(crop_audio=True, audio_start_time=0.5, audio_duration=1.0) == 16000


@pytest.mark.parametrize(
    ("method", "size"),
    [("stretch", (64, 96)), ("fill / crop", (64, 96)), ("pad", (64, 96)), ("keep proportion", (64, 80))],
)
def test_pictures_come_to_the_size_of_the_video(files, method, size):
    options = PipelineOptions(width=96, height=64, resize_method=method)
    assert tuple(read_picture(files[0], options, 10**6).shape) == (1, *size, 3)


def test_conditions_of_resizing():
    assert wants_resizing("always", (10, 10), (10, 10))
    assert wants_resizing("downscale if bigger", (20, 5), (10, 10))
    assert not wants_resizing("upscale if smaller", (20, 20), (10, 10))
    assert wants_resizing("if bigger area", (20, 6), (10, 10))
    assert wants_resizing("if smaller area", (20, 4), (10, 10))
    with pytest.raises(UsageError, match="resize_condition is 'never'"):
        wants_resizing("never", (1, 1), (1, 1))


def test_recordings_are_heard_together():
    one = {"waveform": torch.full((1, 2, 4), 0.25), "sample_rate": 8}
    two = {"waveform": torch.full((1, 1, 6), 0.5), "sample_rate": 8}
    track = mixed([one, two])
    assert (track.rate, track.channels, track.samples) == (8, 2, 6)
    torch.testing.assert_close(track.waveform[0], torch.tensor([0.75, 0.75, 0.75, 0.75, 0.5, 0.5]))


def test_every_option_has_a_use():
    """None is only for show: each is read somewhere in the pipeline."""
    source = Path(talking.__file__).read_text("utf-8")
    assert [field.name for field in fields(PipelineOptions) if f"asked.{field.name}" not in source] == []
