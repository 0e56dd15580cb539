"""``effective``: the codec's precision and the compiler are followed, or a line says why not."""

from __future__ import annotations

import wave

import numpy as np
import pytest
import torch
from PIL import Image

from infinite_talk import CapabilityError, Compile, Engine, Precision, Request, Settings, Speaker
from infinite_talk.effective import effective
from infinite_talk.weights.checkpoint import Part
from tests.bundles import save_tiny_bundle


def chosen(**settings):
    return effective(Settings(**settings), gguf=False, head_dim=64)


def test_nothing_asked_is_nothing_said():
    how = chosen()
    assert (how.codec, how.compiled, how.extras) == (None, None, "")


@pytest.mark.parametrize(("asked", "dtype"), [("fp32", torch.float32), ("bf16", torch.bfloat16)])
def test_the_codec_runs_in_what_was_asked(asked, dtype, tmp_path):
    settings = Settings(model=save_tiny_bundle(tmp_path / "model"), vae_precision=Precision(asked))
    runtime = Engine(settings).runtime()
    assert runtime.how.codec is dtype
    assert f"codec {asked}" in str(runtime.how)
    from infinite_talk.weights.sizes import dtype_of

    opened = runtime.model.parts[Part.VAE]
    assert dtype_of(Part.VAE, opened, runtime.how.device, torch.float32, runtime.how.codec) is dtype
    text = runtime.model.parts[Part.TEXT]
    assert dtype_of(Part.TEXT, text, runtime.how.device, torch.float32, torch.bfloat16) is torch.float32


def test_a_cpu_refuses_half_precision_for_the_codec():
    if torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    with pytest.raises(CapabilityError, match="vae_precision fp16 needs a GPU"):
        chosen(vae_precision=Precision.FP16)


def test_a_cpu_says_that_it_does_not_compile():
    if torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    how = chosen(compile=Compile())
    assert how.compiled is None
    assert any("torch.compile" in note and "as they are" in note for note in how.notes)
    with pytest.raises(CapabilityError, match="Leave compile out"):
        chosen(compile=Compile(), strict=True)


def test_the_codec_asked_for_makes_the_frames(tmp_path):
    """bf16 frames differ from fp32 ones, and not by much."""
    image, audio = tmp_path / "portrait.png", tmp_path / "speech.wav"
    Image.fromarray(np.random.default_rng(1).integers(0, 255, (80, 80, 3), dtype=np.uint8)).save(image)
    with wave.open(str(audio), "wb") as file:
        file.setparams((1, 2, 16000, 0, "NONE", ""))
        file.writeframes((np.sin(np.arange(16000) / 9) * 9000).astype("<i2").tobytes())
    folder = save_tiny_bundle(tmp_path / "model")
    request = Request(
        image=image,
        speakers=(Speaker(audio=audio),),
        size="64x64!",
        steps=1,
        max_frames=5,
        window_frames=5,
        motion_frames=1,
        colour_strength=0.0,
    )
    made = [
        next(iter(Engine(Settings(model=folder, vae_precision=p)).generate(request))).frames.float()
        for p in (Precision.FP32, Precision.BF16)
    ]
    assert not torch.equal(*made)
    assert (made[0] - made[1]).abs().mean() < 8
