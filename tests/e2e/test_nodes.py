"""From loaders to pictures as scripts do it, with a model folder of a few thousand random parameters."""

from __future__ import annotations

import wave
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from infinite_talk import Engine, Request, Settings, Speaker
from infinite_talk.nodes import (
    CLIPVisionLoader,
    LoadWanVideoT5TextEncoder,
    MultiTalkWav2VecEmbeds,
    WanVideoClipVisionEncode,
    WanVideoDecode,
    WanVideoEncode,
    WanVideoImageToVideoEncode,
    WanVideoImageToVideoMultiTalk,
    WanVideoModelLoader,
    WanVideoPassImagesFromSamples,
    WanVideoSampler,
    WanVideoTextEncode,
    WanVideoVAELoader,
    Wav2VecModelLoader,
)

SIDE, FRAMES, MOTION = 64, 17, 5


@pytest.fixture(scope="module")
def picture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of the size of the video, so that nothing is resized."""
    path = tmp_path_factory.mktemp("picture") / "picture.png"
    pixels = np.random.default_rng(1).integers(0, 256, (SIDE // 8, SIDE // 8, 3), np.uint8)
    Image.fromarray(pixels).resize((SIDE, SIDE), Image.Resampling.BICUBIC).save(path)
    return path


@pytest.fixture(scope="module")
def image(picture: Path) -> torch.Tensor:
    return torch.from_numpy(np.asarray(Image.open(picture)).copy())[None].float() / 255


@pytest.fixture(scope="module")
def audio(speech: Path) -> dict[str, Any]:
    with wave.open(str(speech)) as file:
        samples = np.frombuffer(file.readframes(file.getnframes()), "<i2").reshape(-1, 2).T / 32768
        return {
            "waveform": torch.from_numpy(samples.astype(np.float32))[None],
            "sample_rate": file.getframerate(),
        }


@pytest.fixture(scope="module")
def told(tiny_bundle: Path, image: torch.Tensor, audio: dict[str, Any]) -> dict[str, Any]:
    """What the nodes before the sampler give."""
    name = str(tiny_bundle)
    (text,) = WanVideoTextEncode().process(
        "a|b", "blurred", t5=LoadWanVideoT5TextEncoder().loadmodel(name, "fp32")[0]
    )
    (vision,) = WanVideoClipVisionEncode().process(CLIPVisionLoader().load_clip(name)[0], image)
    speech, _, frames = MultiTalkWav2VecEmbeds().process(
        Wav2VecModelLoader().loadmodel(name, "fp32")[0], num_frames=1000, audio_1=audio
    )
    return {
        "model": WanVideoModelLoader().loadmodel(name, "fp32")[0],
        "vae": WanVideoVAELoader().loadmodel(name, "fp32")[0],
        "text": text,
        "clip": vision,
        "speech": speech,
        "frames": frames,
    }


def sampled(told: dict[str, Any], embeds: dict[str, Any], **changes: Any) -> tuple[Any, ...]:
    asked = {
        "shift": 3.0,
        "steps": 4,
        "cfg": 1.0,
        "seed": 7,
        "scheduler": "multitalk",
        "riflex_freq_index": 0,
    }
    return WanVideoSampler().process(
        told["model"],
        embeds,
        **{
            **asked,
            "text_embeds": told["text"],
            "multitalk_embeds": told["speech"],
            "force_offload": False,
            **changes,
        },
    )


def long_embeds(told: dict[str, Any], image: torch.Tensor, **changes: Any) -> dict[str, Any]:
    embeds, _ = WanVideoImageToVideoMultiTalk().process(
        told["vae"],
        SIDE,
        SIDE,
        FRAMES,
        MOTION,
        start_image=image,
        clip_embeds=told["clip"],
        **{"mode": "infinitetalk", **changes},
    )
    return embeds


def test_a_talking_video_is_the_engines(
    told: dict[str, Any], tiny_bundle: Path, image: torch.Tensor, picture: Path, speech: Path
) -> None:
    (result,) = sampled(told, long_embeds(told, image))
    (pictures,) = WanVideoDecode().decode(told["vae"], result)
    (again,) = WanVideoDecode().decode(told["vae"], result)
    assert torch.equal(pictures, again) and pictures.min() >= 0 and pictures.max() <= 1

    request = Request(
        image=picture,
        speakers=(Speaker(audio=speech),),
        size=f"{SIDE}x{SIDE}!",
        prompt="a|b",
        negative_prompt="blurred",
        seed=7,
        steps=4,
        shift=3.0,
        text_guidance=1.0,
        audio_guidance=1.0,
        window_frames=FRAMES,
        motion_frames=MOTION,
        colour_strength=0.0,
    )
    engine = Engine(Settings(model=tiny_bundle))
    expected = torch.cat([clip.frames for clip in engine.generate(request)])
    # The last broken frame of the recording counts in a film that keeps all of its sound.
    assert told["frames"] <= len(expected) <= told["frames"] + 1
    assert len(pictures) == told["frames"]
    apart = (pictures * 255).round() - expected[: len(pictures)]
    # Silence of another length behind the speech, which the speech encoder's norms hear.
    assert apart.abs().mean() < 1


def test_frames_on_the_disk_are_passed_on(told: dict[str, Any], image: torch.Tensor, tmp_path: Path) -> None:
    (kept,) = sampled(told, long_embeds(told, image))
    (result,) = sampled(told, long_embeds(told, image, output_path=str(tmp_path)))
    pictures, path = WanVideoPassImagesFromSamples().decode(result)
    assert Path(path).parent == tmp_path and path == result["output_path"]
    assert torch.allclose(pictures, (kept["video"] + 1) / 2, atol=0.5 / 255 + 1e-6)


def test_the_ordinary_path_gives_latents_that_decode(told: dict[str, Any], image: torch.Tensor) -> None:
    (embeds,) = WanVideoImageToVideoEncode().process(
        SIDE, SIDE, FRAMES, vae=told["vae"], clip_embeds=told["clip"], start_image=image
    )
    samples, denoised = sampled(told, embeds, scheduler="euler", steps=2)
    assert samples["samples"].shape == denoised["samples"].shape == (1, 16, 5, SIDE // 8, SIDE // 8)
    (pictures,) = WanVideoDecode().decode(told["vae"], samples)
    assert pictures.shape == (FRAMES, SIDE, SIDE, 3)


def test_a_video_is_dubbed_from_its_latents(told: dict[str, Any], image: torch.Tensor) -> None:
    """The second recorded workflow: dpm++_sde with shift 11, the last two of four steps."""
    film = (
        image.expand(told["frames"], -1, -1, -1) * torch.linspace(0.5, 1, told["frames"])[:, None, None, None]
    )
    (source,) = WanVideoEncode().encode(told["vae"], film)
    asked = {"scheduler": "dpm++_sde", "shift": 11.0, "start_step": 2}
    plain, dubbed = (
        sampled(told, long_embeds(told, image), **asked, **more)[0]["video"]
        for more in ({}, {"samples": source, "add_noise_to_samples": True})
    )
    assert len(dubbed) == told["frames"] and not torch.equal(plain, dubbed)
