"""The video codec: decoding a window, and the work for the conditioning of the next one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, replace
from typing import Any

import torch

from infinite_talk.benchmarks.clock import peak_memory, times_of
from infinite_talk.benchmarks.stand import Prepared, Stand
from infinite_talk.benchmarks.watch import Watch
from infinite_talk.conditioning.image import encode_reference
from infinite_talk.errors import NumericalError
from infinite_talk.memory.flops import decode_flops, encode_flops
from infinite_talk.weights.checkpoint import Part


def measure_codec(prepared: Prepared, stand: Stand) -> dict[str, Any]:
    """Times, memory and operations of each job of the codec."""
    rooms, work, device = prepared.rooms, prepared.work, prepared.device
    config = prepared.runtime.model.parts[Part.VAE].config
    height, width = work.size.latent
    latent = torch.randn(config.z_dim, work.latents, height, width, device=device)
    motion = min(work.motion, work.frames - 4)
    frames = torch.rand(3, motion, work.size.height, work.size.width, device=device) * 2 - 1
    jobs: dict[str, tuple[Callable[[], torch.Tensor], float]] = {
        "decode": (lambda: rooms.decode_video(latent), decode_flops(config, work)),
        "encode_motion": (
            lambda: rooms.encode_video(frames),
            encode_flops(config, replace(work, frames=motion)),
        ),
        "encode_reference": (
            lambda: encode_reference(frames[:, 0], work.frames, rooms).latents,
            encode_flops(config, work),
        ),
    }
    with rooms.using(rooms.vae) as vae:
        dtype = vae.dtype
    found = {name: _job(name, *job, prepared, stand) for name, job in jobs.items()}
    return {"dtype": str(dtype).removeprefix("torch."), "frames": work.frames, "jobs": found}


def _job(
    name: str, call: Callable[[], torch.Tensor], flops: float, prepared: Prepared, stand: Stand
) -> dict[str, Any]:
    device = prepared.device
    stand.say(f"codec: {name}")
    answer = call()
    if not bool(torch.isfinite(answer).all()):
        raise NumericalError(
            f"The codec with random weights gave NaN or infinity in {name}; choose another --seed."
        )
    deviation = float(answer.std())
    del answer
    with Watch(device) as watch, peak_memory(device) as peak:
        spread = times_of(call, device, repeats=prepared.case.repeats, warm_up=prepared.warm_up / 2)
    return {
        "seconds": spread.as_dict(),
        "flops": flops,
        "tflops": flops / spread.median / 1e12,
        "output_std": deviation,
        "memory": asdict(peak[0]),
        "power": watch.summary(),
    }
