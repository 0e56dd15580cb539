"""Options of the nodes' way: each changes the video, none is dropped silently, and plain orders do not go there."""

from __future__ import annotations

import json
import wave
from dataclasses import fields, replace
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from bench.sounds import write_wav
from infinite_talk import (
    APG,
    AudioLayout,
    Box,
    Cancelled,
    EasyCache,
    InputError,
    LoRA,
    Phase,
    Precision,
    Request,
    Settings,
    Speaker,
    TakeError,
    UsageError,
)
from infinite_talk.jobs.checking import Checker
from infinite_talk.jobs.node_options import NodeOptions, Resize, pipeline_options
from infinite_talk.jobs.node_run import NodeRunner, _entry
from infinite_talk.media.growing import growth_of
from infinite_talk.media.recipe import Recipe
from infinite_talk.presets import OFFICIAL
from tests.bundles import save_tiny_bundle


@pytest.fixture(scope="module")
def runner(tmp_path_factory) -> NodeRunner:
    model = save_tiny_bundle(tmp_path_factory.mktemp("nodes") / "model")
    return NodeRunner(Settings(model=model, precision=Precision.FP32))


@pytest.fixture(scope="module")
def asked(tmp_path_factory) -> Request:
    folder = tmp_path_factory.mktemp("media")
    rng = np.random.default_rng(1)
    Image.fromarray(rng.integers(0, 255, (80, 112, 3), dtype=np.uint8)).save(folder / "portrait.png")
    with wave.open(str(folder / "speech.wav"), "wb") as file:
        file.setparams((1, 2, 16000, 0, "NONE", ""))
        file.writeframes((np.sin(np.arange(8000) / 9) * 900).astype("<i2").tobytes())
    return Request(
        image=folder / "portrait.png",
        speakers=(Speaker(audio=folder / "speech.wav"),),
        size="64x64!",
        steps=1,
        window_frames=13,
        motion_frames=5,
        text_guidance=1.0,
        audio_guidance=1.0,
    )


def pictures(path: Path) -> np.ndarray:
    with av.open(str(path)) as film:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in film.decode(video=0)])


@pytest.fixture(scope="module")
def plain(runner, asked, tmp_path_factory) -> np.ndarray:
    return pictures(runner.write(asked, NodeOptions(), tmp_path_factory.mktemp("plain") / "video.mp4"))


EFFECTS = [
    NodeOptions(fps=12.5),
    NodeOptions(audio_scale=3.0),
    NodeOptions(audio_frames=7),
    NodeOptions(colour_method="hm-mkl-hm"),
    NodeOptions(resize=Resize(method="pad", interpolation="nearest")),
]


@pytest.mark.parametrize("options", EFFECTS, ids=str)
def test_each_option_changes_the_pictures(runner, asked, plain, tmp_path, options):
    made = pictures(runner.write(asked, options, tmp_path / "video.mp4"))
    assert options.wanted
    with av.open(str(tmp_path / "video.mp4")) as film:
        assert float(film.streams.video[0].average_rate) == options.fps
    assert made.shape != plain.shape or not np.array_equal(made, plain)


def test_loudness_reaches_the_node_that_hears(runner, asked):
    """Not seen in the pictures: the speech encoder brings a recording of any loudness to one level itself."""
    assert runner._keywords(asked, NodeOptions(normalize_loudness=False))["normalize_loudness"] is False


def test_a_condition_that_does_not_hold_leaves_the_picture_as_it_was(runner, asked, plain, tmp_path):
    options = NodeOptions(resize=Resize(condition="upscale if smaller"))
    assert np.array_equal(pictures(runner.write(asked, options, tmp_path / "video.mp4")), plain)


def test_a_file_beside_the_video_tells_what_was_asked(runner, asked, tmp_path):
    options, heard = NodeOptions(audio_scale=2.0), []
    path = runner.write(asked, options, tmp_path / "video.mp4", progress=heard.append)
    told = json.loads(path.with_name("video.mp4.json").read_text())
    assert told["recipe"]["options"]["audio_scale"] == 2.0
    assert told["recipe"]["request"]["steps"] == 1
    assert told["report"]["nodes"]["sigmas"][-1] == 0.0
    assert len(told["report"]["nodes"]["sigmas"]) == 2
    assert [window["seconds"] >= 0 for window in told["windows"]] == [True]
    assert heard[-1].phase is Phase.DONE
    with pytest.raises(InputError, match="options that only the nodes have") as caught:
        Recipe.from_file(path).to_request()
    assert caught.value.code == "recipe_options"
    assert Checker().recipe(path).options == options  # as the page takes them over


def test_f1_a_stopped_run_goes_on_after_the_last_window_and_ends_in_the_same_bytes(runner, asked, tmp_path):
    """Stopped in the second window of three; the first is not made again. Its twin is a run that nobody stopped."""
    speech = tmp_path / "speech.wav"
    write_wav(speech, np.sin(np.arange(29 * 640) / 9) * 900, 16_000)
    long, options = replace(asked, speakers=(Speaker(audio=speech),)), NodeOptions(fps=12.5)
    long = replace(long, window_frames=9, motion_frames=5)

    def stop(event):
        if event.window == 1 and event.step:
            raise Cancelled("stopped")

    whole = runner.write(long, options, tmp_path / "whole.mp4")
    with pytest.raises(Cancelled):
        runner.write(long, options, tmp_path / "video.mp4", progress=stop)
    take = tmp_path / "video.mp4.take"
    first = (take / "window-00000.json").stat().st_mtime_ns
    assert [note.name for note in take.glob("window-*.json")] == ["window-00000.json"]
    assert not growth_of(tmp_path / "video.mp4").pieces, "a preview has 25 pictures a second"
    heard = []

    def listen(event):
        heard.append(event)
        if take.exists():
            assert (take / "window-00000.json").stat().st_mtime_ns == first

    made = runner.write(long, options, tmp_path / "video.mp4", progress=listen)
    assert made.read_bytes() == whole.read_bytes()
    assert min(event.window for event in heard if event.phase is Phase.SAMPLING) == 1
    assert any("continuing after 1 of 3 windows" in event.note for event in heard)
    other = NodeOptions(fps=12.5, audio_scale=2.0)
    with pytest.raises(Cancelled):
        runner.write(long, options, tmp_path / "next.mp4", progress=stop)
    with pytest.raises(TakeError, match=r"options\.audio_scale: 2\.0 here, 1\.0 there"):
        runner.write(long, other, tmp_path / "next.mp4")


def test_the_official_steps_are_those_of_the_engine(runner, asked):
    """Without a scheduler the noise levels are the official ones, for any number of steps."""
    from infinite_talk.denoise.sampler import Sampler
    from infinite_talk.presets import resolve
    from infinite_talk.weights.manifest import defaults_of

    keywords = runner._keywords(asked, NodeOptions())
    sampler = Sampler.of(resolve(asked, defaults_of(runner.settings)))
    assert keywords["sigmas"] == pytest.approx(sampler.sigmas)


def test_a_run_is_stopped_between_steps(runner, asked, tmp_path):
    def stop(event):
        if event.step:
            raise Cancelled("stopped")

    with pytest.raises(Cancelled):
        runner.write(asked, NodeOptions(audio_scale=2.0), tmp_path / "video.mp4", progress=stop)
    assert [path.name for path in tmp_path.iterdir()] == ["video.mp4.take"]


def test_models_stay_for_the_next_video(runner, asked, tmp_path):
    loaded = runner._loaded
    runner.write(asked, NodeOptions(audio_scale=2.0), tmp_path / "video.mp4")
    assert loaded is None or runner._loaded is loaded


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"video": Path("a.mp4"), "image": None}, "video"),
        ({"apg": APG()}, "apg"),
        ({"step_cache": EasyCache()}, "step_cache"),
        ({"colour_strength": 0.5}, "colour_strength"),
        ({"speakers": (Speaker(audio=Path("a"), box=Box(0, 0, 1, 1)),)}, "boxes or masks"),
        ({"speakers": (Speaker(audio=Path("a")), Speaker(audio=None))}, "a silent person"),
        (
            {"speakers": (Speaker(audio=Path("a")),) * 2, "audio_layout": AudioLayout.IN_TURN},
            "audio_layout",
        ),
    ],
)
def test_what_only_the_engine_does_is_refused_by_name(asked, changes, named):
    request = replace(asked, **changes)
    NodeOptions().check(request)  # nothing was asked of the nodes
    with pytest.raises(UsageError, match=f"audio_scale cannot be combined with {named}"):
        NodeOptions(audio_scale=2.0).check(request)


@pytest.mark.parametrize(
    "options", [NodeOptions(fps=0.1), NodeOptions(audio_scale=-1), NodeOptions(audio_frames=0)]
)
def test_numbers_have_ranges(asked, options):
    with pytest.raises(UsageError, match="is out of range"):
        options.check(asked)


def test_a_request_is_the_same_in_the_words_of_the_nodes(asked):
    request = replace(
        asked,
        steps=2,
        audio_start=0.5,
        audio_end=2.0,
        max_frames=30,
        seed=7,
        shift=3.0,
        scheduler="unipc",
        size="480",
    )
    found = pipeline_options(request, NodeOptions(), OFFICIAL, source=(640, 640), tiled_vae=True)
    assert (found["width"], found["height"]) == (640, 640)
    assert (found["audio_start_time"], found["audio_duration"], found["crop_audio"]) == (0.5, 1.5, True)
    assert (found["max_frames"], found["seed"], found["shift"], found["scheduler"]) == (30, 7, 3.0, "unipc")
    assert (found["tiled_vae"], found["colormatch"]) == (True, "reinhard")
    from infinite_talk.pipeline import PipelineOptions

    assert set(found) <= {field.name for field in fields(PipelineOptions)}


def test_a_lora_is_the_same_in_the_words_of_the_nodes(tmp_path):
    from infinite_talk.nodes.loras import _lora

    file = tmp_path / "a.safetensors"
    file.write_bytes(b"")
    for lora in (
        LoRA(path=file, strength=0.5, blocks=(0, 3), without=("ffn",)),
        LoRA(path=file, strength=(1.0, 0.5), merge=False),
    ):
        assert _lora(_entry(lora)) == lora


def test_an_order_keeps_its_options_and_they_are_part_of_it(asked):
    from infinite_talk.jobs import Order

    plain = Order(request=asked)
    order = replace(plain, options=NodeOptions(fps=30.0, resize=Resize(method="pad")))
    assert Order.from_json(order.to_json()) == order
    assert order.digest != plain.digest
    older = json.loads(plain.to_json())
    del older["options"]  # as stored before there were any
    assert Order.from_json(json.dumps(older)) == plain
