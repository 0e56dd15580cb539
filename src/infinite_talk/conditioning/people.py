"""People: which cells of the latent grid belong to whom."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from infinite_talk.errors import InputError
from infinite_talk.inputs.resize import TOKEN_STRIDE, latent_masks, resize_masks, token_masks
from infinite_talk.request import Compat
from infinite_talk.rooms import Rooms
from infinite_talk.types import SPATIAL_STRIDE, Size, Source


def encode_people(source: Source, compat: Compat, rooms: Rooms) -> torch.Tensor:
    """Masks of each person and of the background on the latent grid: ``(P + 1, h, w)`` in {0, 1}, float32.

    Raises:
        InputError: a person is not in the picture once it is cropped to the generated shape.
    """
    masks, size = source.masks, source.size
    grid = places(masks, size) if compat is Compat.FIXED else latent_masks(masks, size)
    return torch.from_numpy(grid.astype(np.float32)).to(rooms.device)


def places(masks: NDArray[np.bool_], size: Size) -> NDArray[np.bool_]:
    """Masks of each person and of the background ``(P + 1, H, W)`` on the latent grid of the generated picture.

    A face smaller than a token can fall between the points at which the official program looks, and then nobody
    hears its voice. Here it keeps every token that it touches.

    Raises:
        InputError: a person is not in the picture once it is cropped to the generated shape.
    """
    grid = latent_masks(masks, size)
    tokens = token_masks(grid)
    touched = _touched(resize_masks(masks, size))
    for person in range(len(grid) - 1):
        if not tokens[person].any():
            grid[person] = touched[person]
        if grid[person].any():
            continue
        raise InputError(
            f"Person {person + 1} is outside the picture after it is cropped to {size.width}x{size.height}; choose "
            "another size, or correct the box or mask.",
            code="person_outside",
        )
    return grid


def _touched(masks: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Masks ``(N, H, W)`` on the latent grid, true in all cells of every token that has a true pixel."""
    side = SPATIAL_STRIDE * TOKEN_STRIDE
    count, height, width = masks.shape
    tokens = masks.reshape(count, height // side, side, width // side, side).any(axis=(2, 4))
    return tokens.repeat(TOKEN_STRIDE, axis=1).repeat(TOKEN_STRIDE, axis=2)
