"""Shared fixtures: media and a model folder, small enough for every test.

Nothing depends on time: hypothesis deadlines are off, machines differ.
"""

from __future__ import annotations

import gc
import logging
import os
import wave
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import settings
from PIL import Image

# On CI the same examples are tried every time.
settings.register_profile("project", deadline=None, derandomize="CI" in os.environ)
settings.load_profile("project")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Here, since pytest reads options before it looks into ``tests/browser``."""
    parser.addoption("--screenshots", metavar="FOLDER", help="keep the pictures that tests/browser takes")


def pytest_collection_finish() -> None:
    """Thousands of tests are a large heap: Python need not search it for garbage again and again."""
    gc.freeze()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("gpu") and not torch.cuda.is_available():
        pytest.skip("needs an NVIDIA GPU")


@pytest.fixture(autouse=True)
def log_level() -> None:
    """The command line sets how much is logged, for the whole process: also in fixtures that outlive a test."""
    logging.getLogger("infinite_talk").setLevel(logging.NOTSET)


@pytest.fixture(scope="session")
def portrait(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A PNG of 120 x 100 pixels."""
    path = tmp_path_factory.mktemp("portrait") / "portrait.png"
    rows, columns = np.mgrid[0:100, 0:120]
    picture = np.stack([2 * rows, 2 * columns, 255 - rows - columns], -1).astype(np.uint8)
    Image.fromarray(picture).save(path)
    return path


@pytest.fixture(scope="session")
def speech(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A WAV of 1.62 seconds, 22050 Hz, stereo: a voice-like buzz that comes and goes."""
    path = tmp_path_factory.mktemp("speech") / "speech.wav"
    time = np.arange(round(1.62 * 22050)) / 22050
    buzz = sum(np.sin(2 * np.pi * 120 * harmonic * time) / harmonic for harmonic in range(1, 12))
    loud = 0.2 * buzz * (0.5 + 0.5 * np.sin(2 * np.pi * 3 * time))
    samples = np.repeat((loud * 20000).astype("<i2")[:, None], 2, axis=1)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(2)
        file.setsampwidth(2)
        file.setframerate(22050)
        file.writeframes(samples.tobytes())
    return path


@pytest.fixture(scope="session")
def tiny_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder with random weights: 64 x 64 pixels, windows of 17 frames, 5 of them carried over."""
    from tests.bundles import save_tiny_bundle

    return save_tiny_bundle(tmp_path_factory.mktemp("model"))
