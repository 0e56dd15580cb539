"""Every precision by name, from the settings to a finished film."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bench.sounds import write_wav
from infinite_talk import Engine, Progress, Request, Settings, Speaker, UsageError
from infinite_talk.settings import Device, Precision, Quantization
from infinite_talk.weights.precision import POLICIES
from tests.bundles import QUICK_VAE, save_tiny_bundle

CHOICES = [name for name in Quantization if name is not Quantization.GGUF]


@pytest.fixture(scope="module")
def quick_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_bundle(tmp_path_factory.mktemp("quick"), vae=QUICK_VAE)


@pytest.fixture(scope="module")
def request_(portrait: Path, tmp_path_factory: pytest.TempPathFactory) -> Request:
    """Half a second: one window."""
    noise = np.random.default_rng(8).normal(0, 3000, 8000)
    recording = write_wav(tmp_path_factory.mktemp("half") / "half.wav", noise, 16_000)
    return Request(
        image=portrait, speakers=(Speaker(audio=recording),), steps=1, text_guidance=1.0, audio_guidance=1.0
    )


@pytest.mark.parametrize("name", CHOICES)
def test_a_film_in_every_precision(
    name: Quantization, quick_bundle: Path, request_: Request, tmp_path: Path
) -> None:
    told: list[Progress] = []
    engine = Engine(Settings(device=Device.CPU, model=quick_bundle, quantization=name), progress=told.append)
    result = engine.write(request_, tmp_path / "me.mp4")
    assert result.frames == 13
    needs = POLICIES[name].needs
    runs = name if needs is None or needs.includes(None) else needs.instead
    assert result.recipe["machine"]["quantization"] == runs
    lines = [event.note for event in told if event.note and event.note.startswith(f"{name} needs")]
    assert len(set(lines)) == (0 if runs is name else 1)


@pytest.mark.parametrize("name", [Quantization.INT8, Quantization.FP8_E4M3FN_SCALED, Quantization.NF4])
def test_a_film_in_bfloat16(
    name: Quantization, quick_bundle: Path, request_: Request, tmp_path: Path
) -> None:
    settings = Settings(device=Device.CPU, model=quick_bundle, quantization=name, precision=Precision.BF16)
    assert Engine(settings).write(request_, tmp_path / "me.mp4").frames == 13


def test_gguf_needs_such_a_file(quick_bundle: Path, request_: Request, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"\.gguf file"):
        Engine(Settings(device=Device.CPU, model=quick_bundle, quantization=Quantization.GGUF)).write(
            request_, tmp_path / "me.mp4"
        )
