"""Which device and precision a run uses, from the settings and what this machine has."""

from __future__ import annotations

from time import perf_counter

import torch

from infinite_talk.errors import CapabilityError
from infinite_talk.settings import Device, Precision, Settings

_DTYPES = {Precision.FP32: torch.float32, Precision.BF16: torch.bfloat16, Precision.FP16: torch.float16}


def choose_device(settings: Settings) -> torch.device:
    """The device to run on.

    Raises:
        CapabilityError: CUDA was asked for and is not there.
    """
    available = torch.cuda.is_available()
    if settings.device is Device.CUDA and not available:
        raise CapabilityError(
            "CUDA was asked for, but torch finds no NVIDIA GPU. Use device=cpu, or install a torch with CUDA "
            "and the GPU's driver."
        )
    use_gpu = settings.device is Device.CUDA or (settings.device is Device.AUTO and available)
    return torch.device("cuda", 0) if use_gpu else torch.device("cpu")


def precision_of(settings: Settings, device: torch.device) -> Precision:
    """The precision of the transformer, ``AUTO`` resolved.

    Raises:
        CapabilityError: the device cannot compute in the chosen precision.
    """
    if settings.precision is Precision.AUTO:
        return Precision.BF16 if device.type == "cuda" else Precision.FP32
    if settings.precision is Precision.FP16 and device.type == "cpu":
        raise CapabilityError("Precision fp16 needs a GPU; use fp32 or bf16 on the CPU.")
    return settings.precision


def choose_dtype(settings: Settings, device: torch.device) -> torch.dtype:
    """``precision_of`` as torch calls it."""
    return _DTYPES[precision_of(settings, device)]


def codec_dtype(settings: Settings, device: torch.device) -> torch.dtype | None:
    """What was asked for the video codec; ``None``: its own.

    Raises:
        CapabilityError: the device cannot compute in it.
    """
    if settings.vae_precision is Precision.AUTO:
        return None
    if settings.vae_precision is Precision.FP16 and device.type == "cpu":
        raise CapabilityError("vae_precision fp16 needs a GPU; use auto, fp32 or bf16 on the CPU.")
    return _DTYPES[settings.vae_precision]


def measure_speed(device: torch.device, dtype: torch.dtype) -> float:
    """Floating-point operations per second of a large matrix product on this device; takes some milliseconds."""
    side = 4096 if device.type == "cuda" else 512
    matrix = torch.ones(side, side, device=device, dtype=dtype)
    best = float("inf")
    for _ in range(4):  # the first one warms up
        began = perf_counter()
        float((matrix @ matrix)[0, 0])  # reading a value waits for the device
        best = min(best, perf_counter() - began)
    return 2 * side**3 / best
