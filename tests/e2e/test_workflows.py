"""Workflows from JSON to mp4 on the embedded model: one of our own, and two that people share, where they are there."""

from __future__ import annotations

import json
import os
import wave
from pathlib import Path

import av
import numpy as np
import pytest
import torch

from infinite_talk.frontends.cli.main import run
from infinite_talk.frontends.workflow.declared import declaration
from infinite_talk.frontends.workflow.known import KnownNodes
from infinite_talk.models.dit import WanTransformer
from infinite_talk.nodes.registry import BESIDE
from tests.golden import ROOT

FRAMES = 21
"""Of the speech: 0.86 s at 25 frames per second, whole frames."""
SMALL = ["Width.value=64", "Height.value=64", "WanVideoImageToVideoMultiTalk.frame_window_size=17"]


def published(name: str) -> Path:
    """A shared workflow; skipped without the folder that holds them (``INFINITE_TALK_WORKFLOWS``)."""
    places = [parent / "shared" / "reference" / "workflows" for parent in ROOT.parents]
    chosen = os.environ.get("INFINITE_TALK_WORKFLOWS")
    for folder in [Path(chosen)] if chosen else places:
        if found := sorted(folder.glob(f"*{name}*.json")):
            return found[0]
    pytest.skip("the shared workflows are not there")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, portrait: Path, speech: Path) -> Path:
    """A work folder with a picture and a recording, and no configuration of the user."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "none"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "me.png").write_bytes(portrait.read_bytes())
    with wave.open(str(speech), "rb") as whole, wave.open(str(tmp_path / "speech.wav"), "wb") as part:
        part.setparams(whole.getparams())
        part.writeframes(whole.readframes(round(0.86 * whole.getframerate())))
    return tmp_path


@pytest.fixture
def times(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The timesteps that the transformer is asked for; what is known from an earlier window is not asked again."""
    heard: list[float] = []
    embed = WanTransformer.embed_time

    def listen(self, timestep):
        heard.extend(timestep.flatten().tolist())
        return embed(self, timestep)

    monkeypatch.setattr(WanTransformer, "embed_time", listen)
    return heard


def command(file: Path, *options: str, sets: list[str]) -> list[str]:
    return [
        "workflow",
        "run",
        str(file),
        *options,
        "--models",
        "embedded",
        *(w for one in sets for w in ("--set", one)),
    ]


def opened(path: Path) -> tuple[int, float, float, np.ndarray, tuple[int, int], str]:
    """Frames, seconds of picture and of sound, samples, height and width, the comment."""
    with av.open(str(path)) as container:
        video, sound = container.streams.video[0], container.streams.audio[0]
        seconds = [float(one.duration * one.time_base) for one in (video, sound)]
        size, comment = (video.height, video.width), container.metadata["comment"]
        samples = np.concatenate([frame.to_ndarray() for frame in container.decode(sound)], axis=1)
    with av.open(str(path)) as container:
        frames = sum(1 for _ in container.decode(container.streams.video[0]))
    return frames, *seconds, samples, size, comment


def check_video(path: Path, size: tuple[int, int]) -> str:
    """As long as the speech, with its sound; the comment."""
    frames, seen, heard, samples, found, comment = opened(path)
    assert (frames, found) == (FRAMES, size)
    assert seen == pytest.approx(FRAMES / 25) and heard == pytest.approx(seen, abs=0.001)
    assert np.abs(samples).max() > 0.1
    return comment


def test_a_picture_speaks(here, times, capsys):
    file = published("I2V_InfiniteTalk")
    sets = [*SMALL, "128.steps=2"]
    assert (
        run(
            [
                *command(file, "--image", "me.png", "--audio", "speech.wav", sets=sets),
                "-o",
                "out.mp4",
                "--json",
            ]
        )
        == 0
    )
    out, err = capsys.readouterr()
    comment = check_video(here / "out.mp4", (64, 64))
    # Two steps of the grid that starts at S(0.999, 11); the solver's times are whole.
    assert list(dict.fromkeys(times)) == pytest.approx([999.99, 916.7], abs=1)
    result = json.loads(out)
    assert result["texts"] == {"293": str(FRAMES)} and result["files"][0]["frames"] == FRAMES
    for words in (
        "LoRAs were made for another model",
        "no vocal separator",
        "21 frames of 64x64 in 2 windows of 17",
    ):
        assert err.count(words) == 1
    told = json.loads(comment)
    assert told["workflow"]["nodes"] and json.loads(told["prompt"])["128"]["inputs"]["steps"] == 2
    assert str(here) not in comment  # where files were is nobody's business


def test_a_film_is_dubbed(here, times):
    file = published("V2V_InfiniteTalk")
    film = here / "film.mp4"
    with av.open(str(film), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 48, 40, "yuv420p"
        for number in range(17):
            picture = np.full((40, 48, 3), 40 + 4 * number, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))
    assert (
        run([*command(file, "--video", str(film), "--audio", "speech.wav", sets=SMALL), "-o", "out.mp4"]) == 0
    )
    check_video(here / "out.mp4", (64, 128))  # the film and the result side by side
    assert list(dict.fromkeys(times)) == pytest.approx([916.7, 785.7], abs=1)


OWN = {
    "model": (
        "WanVideoModelLoader",
        {
            "model": "embedded",
            "base_precision": "fp32",
            "quantization": "disabled",
            "load_device": "main_device",
            "multitalk_model": ["talk", 0],
        },
    ),
    "talk": ("MultiTalkModelLoader", {"model": "embedded"}),
    "vae": ("WanVideoVAELoader", {"model_name": "embedded", "precision": "fp32"}),
    "text": (
        "WanVideoTextEncodeCached",
        {
            "model_name": "embedded",
            "precision": "fp32",
            "positive_prompt": "a woman speaks",
            "negative_prompt": "",
            "quantization": "disabled",
            "use_disk_cache": False,
            "device": "cpu",
        },
    ),
    "ear": (
        "Wav2VecModelLoader",
        {"model": "embedded", "base_precision": "fp32", "load_device": "main_device"},
    ),
    "sound": ("LoadAudio", {"audio": "speech.wav"}),
    "heard": (
        "MultiTalkWav2VecEmbeds",
        {
            "wav2vec_model": ["ear", 0],
            "audio_1": ["sound", 0],
            "normalize_loudness": True,
            "num_frames": ["most", 0],
            "fps": 25.0,
            "audio_scale": 1.0,
            "audio_cfg_scale": 1.0,
            "multi_audio_type": "para",
        },
    ),
    "most": ("SimpleMath+", {"value": "a * 25", "a": 40}),
    "picture": ("LoadImage", {"image": "me.png"}),
    "resized": (
        "ImageResizeKJv2",
        {
            "image": ["picture", 0],
            "width": 70,
            "height": 64,
            "upscale_method": "lanczos",
            "keep_proportion": "crop",
            "pad_color": "0, 0, 0",
            "crop_position": "center",
            "divisible_by": 16,
        },
    ),
    "embeds": (
        "WanVideoImageToVideoMultiTalk",
        {
            "vae": ["vae", 0],
            "width": ["resized", 1],
            "height": ["resized", 2],
            "frame_window_size": 25,
            "motion_frame": 9,
            "force_offload": False,
            "colormatch": "disabled",
            "start_image": ["resized", 0],
            "mode": "infinitetalk",
        },
    ),
    "sampler": (
        "WanVideoSampler",
        {
            "model": ["model", 0],
            "image_embeds": ["embeds", 0],
            "steps": 9,
            "cfg": 1.0,
            "shift": 7.0,
            "seed": 3,
            "force_offload": True,
            "scheduler": "multitalk",
            "riflex_freq_index": 0,
            "text_embeds": ["text", 0],
            "multitalk_embeds": ["heard", 0],
        },
    ),
    "decoded": (
        "WanVideoDecode",
        {
            "vae": ["vae", 0],
            "samples": ["sampler", 0],
            "enable_vae_tiling": False,
            "tile_x": 272,
            "tile_y": 272,
            "tile_stride_x": 144,
            "tile_stride_y": 128,
        },
    ),
    "film": ("CreateVideo", {"images": ["decoded", 0], "fps": 25.0, "audio": ["sound", 0]}),
    "saved": ("SaveVideo", {"video": ["film", 0], "filename_prefix": "x", "format": "auto", "codec": "auto"}),
}
"""A workflow in the API form."""


def write_own(folder: Path) -> Path:
    file = folder / "own.json"
    file.write_text(
        json.dumps({key: {"class_type": kind, "inputs": inputs} for key, (kind, inputs) in OWN.items()})
    )
    return file


def test_the_api_form_runs_with_its_files_beside_it(here, times):
    assert run(["workflow", "run", str(write_own(here)), "-q"]) == 0
    check_video(here / "own.mp4", (64, 64))
    assert times == pytest.approx([1000, 933.4, 778.3, 7.0], abs=0.06)
    assert run(["workflow", "run", str(here / "own.json"), "-q"]) == 6  # not over a file that is there


def test_a_check_loads_nothing_and_says_everything(here, capsys, monkeypatch):
    def fail(*_: object, **__: object) -> None:
        raise AssertionError("something was loaded")

    monkeypatch.setattr(torch.nn.Module, "__call__", fail)
    data = {key: {"class_type": kind, "inputs": dict(inputs)} for key, (kind, inputs) in OWN.items()}
    data["sampler"]["inputs"] |= {"steps": 0, "scheduler": "magic"}
    data["model"]["inputs"]["model"] = "Wan\\wan.gguf"
    data["picture"]["inputs"]["image"] = "gone.png"
    data["odd"] = {"class_type": "MagicNode", "inputs": {}, "_meta": {"title": "My magic"}}
    (here / "bad.json").write_text(json.dumps(data))
    assert run(["workflow", "check", "bad.json", "--json"]) == 3
    said = json.loads(capsys.readouterr().out)
    assert not said["ok"]
    assert sorted((one["kind"], one["node"]) for one in said["problems"]) == [
        ("missing_file", "picture"),
        ("missing_model", "model"),
        ("unknown_node", "odd"),
        ("value", "sampler"),
        ("value", "sampler"),
    ]
    assert any('Node odd "My magic" (MagicNode)' in one["message"] for one in said["problems"])
    assert run(["workflow", "run", "bad.json"]) == 3
    assert "My magic" in capsys.readouterr().err


def test_every_helper_node_has_a_readable_declaration():
    for name in BESIDE:
        declared = declaration(KnownNodes()[name])
        assert hasattr(KnownNodes()[name], declared.method), name


@pytest.mark.parametrize("name", ["I2V_InfiniteTalk", "V2V_InfiniteTalk"])
def test_the_shared_workflows_fit_our_declarations(here, capsys, name):
    media = ["--audio", "speech.wav", *(["--video", "me.png"] if name[0] == "V" else ["--image", "me.png"])]
    assert run(["workflow", "check", str(published(name)), "--models", "embedded", "--json", *media]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["problems"] == []
    assert [
        one for one in said["notes"] if "says nothing" in one["message"] or "left out" in one["message"]
    ] == []
    assert run(["workflow", "check", str(published(name)), "--json", *media]) == 3
    missing = {
        one["type"]
        for one in json.loads(capsys.readouterr().out)["problems"]
        if one["kind"] == "missing_model"
    }
    assert {
        "WanVideoModelLoader",
        "WanVideoVAELoader",
        "MultiTalkModelLoader",
        "WanVideoLoraSelect",
    } <= missing
