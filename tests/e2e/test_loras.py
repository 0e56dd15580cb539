"""LoRAs from files to the frames of a film: merged, beside, by step, and refused before anything is loaded."""

from __future__ import annotations

import json
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from infinite_talk import CheckpointError, Engine, Request, Settings, Speaker
from infinite_talk.settings import Device, LoRA


@pytest.fixture(scope="module")
def lora(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An update of every linear layer of the tiny model, in the spelling of kohya."""
    tensors, generator = {}, torch.Generator().manual_seed(0)
    with safe_open(tiny_bundle / "transformer.safetensors", framework="pt") as file:
        for name in file.keys():  # noqa: SIM118 - no mapping
            shape = file.get_slice(name).get_shape()
            if name.endswith(".weight") and len(shape) == 2:
                layer = "lora_unet__" + name.removesuffix(".weight").replace(".", "_")
                tensors[f"{layer}.lora_down.weight"] = torch.randn(2, shape[1], generator=generator) / 3
                tensors[f"{layer}.lora_up.weight"] = torch.randn(shape[0], 2, generator=generator) / 3
    path = tmp_path_factory.mktemp("lora") / "some.safetensors"
    save_file(tensors, path)
    return path


def frames(bundle: Path, request: Request, folder: Path, *loras: LoRA) -> np.ndarray:
    folder.mkdir()
    result = Engine(Settings(device=Device.CPU, model=bundle, loras=loras, crf=0)).write(
        request, folder / "me.mp4"
    )
    with av.open(str(result.path)) as film:
        return np.stack([f.to_ndarray(format="rgb24") for f in film.decode(video=0)]).astype(np.float32)


def test_a_film_with_a_lora(
    tiny_bundle: Path, portrait: Path, speech: Path, lora: Path, tmp_path: Path
) -> None:
    request = Request(
        image=portrait,
        speakers=(Speaker(audio=speech),),
        steps=2,
        max_frames=17,
        text_guidance=1.0,
        audio_guidance=1.0,
    )
    settings = {
        "merged": (LoRA(path=lora, strength=0.5),),
        "twice": (LoRA(path=lora, strength=0.25), LoRA(path=lora, strength=0.25, merge=False)),
        "by step": (LoRA(path=lora, strength=(0.0, 0.5)),),
    }
    made = {name: frames(tiny_bundle, request, tmp_path / name, *loras) for name, loras in settings.items()}

    def apart(one: str, other: str) -> float:
        return float(np.abs(made[one] - made[other]).mean())

    assert apart("merged", "twice") < 0.1
    assert apart("merged", "by step") > 1


def test_the_recipe_names_it_and_one_that_does_not_fit_is_refused(
    tiny_bundle: Path, portrait: Path, speech: Path, lora: Path, tmp_path: Path
) -> None:
    request = Request(
        image=portrait, speakers=(Speaker(audio=speech),), steps=1, max_frames=17, text_guidance=1.0
    )
    other = tmp_path / "other.safetensors"
    save_file({"lora_unet__blocks_9_ffn_0.diff_b": torch.ones(4)}, other)
    with pytest.raises(CheckpointError, match=r"other\.safetensors.*blocks_9_ffn_0"):
        Engine(Settings(model=tiny_bundle, loras=(LoRA(path=lora), LoRA(path=other)))).write(
            request, tmp_path / "a.mp4"
        )
    assert not (tmp_path / "a.mp4").exists()
    result = Engine(Settings(model=tiny_bundle, loras=(LoRA(path=lora),))).write(request, tmp_path / "b.mp4")
    assert "some.safetensors" in json.dumps(result.recipe)
