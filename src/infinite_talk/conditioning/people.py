"""People: which cells of the latent grid belong to whom."""

from __future__ import annotations

import numpy as np
import torch

from infinite_talk.inputs.resize import latent_masks
from infinite_talk.rooms import Rooms
from infinite_talk.types import Source


def encode_people(source: Source, rooms: Rooms) -> torch.Tensor:
    """Masks of each person and of the background on the latent grid: ``(P + 1, h, w)`` in {0, 1}, float32."""
    grid = latent_masks(source.masks, source.size)
    return torch.from_numpy(grid.astype(np.float32)).to(rooms.device)
