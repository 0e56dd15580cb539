"""The same video on the GPU as on the CPU, up to rounding."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from infinite_talk.generate import generate
from infinite_talk.rooms import Rooms
from tests.unit import tiny
from tests.unit.test_generate import request

pytestmark = pytest.mark.gpu


def _on_gpu(dtype: torch.dtype) -> Rooms:
    rooms, device = tiny.tiny_rooms(), torch.device("cuda")
    return replace(
        rooms,
        transformer=rooms.transformer.to(device, dtype),
        vae=rooms.vae.to(device),
        device=device,
        dtype=dtype,
    )


def test_both_devices_make_the_same_latents(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    latents: dict[str, torch.Tensor] = {}
    decode = Rooms.decode_video

    def noted(rooms: Rooms, latent: torch.Tensor) -> torch.Tensor:
        latents.setdefault(latent.device.type, latent.cpu())
        return decode(rooms, latent)

    monkeypatch.setattr(Rooms, "decode_video", noted)
    for rooms in (tiny.tiny_rooms(), _on_gpu(torch.float32)):
        next(generate(request(), tiny.source(20), rooms))
    torch.testing.assert_close(latents["cuda"], latents["cpu"], atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_whole_video_is_made(dtype: torch.dtype) -> None:
    clips = list(generate(request(), tiny.source(40, 2), _on_gpu(dtype)))
    assert sum(len(clip.frames) for clip in clips) == 40
    assert all(clip.frames.device.type == "cpu" for clip in clips)
