"""``Settings``: how this machine runs a request. What a person wants is in ``request.py``."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path


class Device(StrEnum):
    """Where the models run. ``AUTO`` takes the first CUDA device, else the CPU."""

    AUTO = "auto"
    CPU = "cpu"
    CUDA = "cuda"


class Precision(StrEnum):
    """Base precision of weights and activations. ``AUTO`` is bf16 on CUDA, fp32 on the CPU."""

    AUTO = "auto"
    FP32 = "fp32"
    BF16 = "bf16"
    FP16 = "fp16"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Everything about the machine, checked when the engine is built."""

    model: Path | None = None
    """Folder with ``model.json``; ``None`` is the embedded model."""
    device: Device = Device.AUTO
    precision: Precision = Precision.AUTO
    threads: int | None = None
    """CPU threads for torch; ``None`` leaves torch's choice. Part of the recipe: sums depend on it."""
    max_audio_seconds: float = 6 * 3600.0
    max_pixels: int = 40_000_000
    """Largest image accepted, in pixels (a decompression-bomb guard)."""
    crf: int = 18
    """H.264 quality of the output, 0 (lossless) to 51."""
