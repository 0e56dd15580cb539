"""Motion: the last frames of one window are where the next one continues."""

from __future__ import annotations

import torch

from infinite_talk.rooms import Rooms


@torch.inference_mode()
def encode_motion(frames: torch.Tensor, rooms: Rooms) -> torch.Tensor:
    """Finished frames ``(3, 4n + 1, H, W)`` in [-1, 1] as latents ``(16, n + 1, h, w)``."""
    with rooms.using(rooms.vae) as vae:
        latents: torch.Tensor = vae.encode(frames[None].to(rooms.device, torch.float32))[0]
    return latents
