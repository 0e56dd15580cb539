"""The one-node way: a picture and speech of ComfyUI's types become a video of ComfyUI's type."""

from __future__ import annotations

import av
import pytest
import torch

from infinite_talk import UsageError
from infinite_talk.frontends.comfy.pack import for_comfy
from infinite_talk.frontends.comfy.portrait import InfiniteTalkPortrait, write_picture, write_sound
from tests.bundles import save_tiny_bundle


def speech(seconds: float = 0.5, channels: int = 1) -> dict:
    time = torch.arange(int(16000 * seconds)) / 16000
    return {"waveform": (0.3 * torch.sin(1000 * time)).expand(1, channels, -1), "sample_rate": 16000}


def test_a_portrait_talks(comfy, tmp_path):
    bundle = save_tiny_bundle(tmp_path / "model")
    node = for_comfy("InfiniteTalkPortrait", InfiniteTalkPortrait)()
    image = torch.rand(1, 64, 64, 3, generator=torch.Generator().manual_seed(1))
    video, path = node.talk(
        image=image, audio=speech(), prompt="a face", model=str(bundle), seed=2**63 - 1, steps=1
    )
    assert video.file == path
    assert path.startswith(str(comfy.root / "output"))
    with av.open(path) as film:
        assert film.streams.audio
        assert film.streams.video[0].frames == 13
    assert len(comfy.bars) == 1


def test_pictures_and_sounds_are_written_as_they_are(tmp_path):
    image = torch.zeros(2, 4, 6, 3)
    image[0, 1, 2] = torch.tensor([1.0, 0.5, 2.0])
    with av.open(str(write_picture(image, tmp_path / "a.png"))) as file:
        pixels = next(file.decode(video=0)).to_ndarray(format="rgb24")
    assert pixels[1, 2].tolist() == [255, 128, 255]
    sound = speech(channels=2)
    with av.open(str(write_sound(sound, tmp_path / "a.wav"))) as file:
        found = next(file.decode(audio=0)).to_ndarray().reshape(-1, 2).T
    expected = (sound["waveform"][0, :, : found.shape[1]] * 32767).round().numpy()
    assert abs(found - expected).max() <= 1


def test_other_things_are_refused_with_what_came(tmp_path):
    with pytest.raises(UsageError, match=r"shape \(4, 6, 3\); connect an IMAGE"):
        write_picture(torch.zeros(4, 6, 3), tmp_path / "a.png")
    with pytest.raises(UsageError, match=r"\['samples'\]; connect an AUDIO"):
        write_sound({"samples": 1}, tmp_path / "a.wav")
