"""The reference picture of a window: what CLIP sees in it, and the latents that the model copies it from."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from infinite_talk.inputs.resize import resize_picture, to_tensor
from infinite_talk.plan.windows import given_frames_mask
from infinite_talk.rooms import Rooms
from infinite_talk.types import Source

MID_GREY = 0.0
"""What stands where the video is not known yet, in [-1, 1]."""


@dataclass(frozen=True, slots=True, eq=False)
class Reference:
    """One source picture at the generated size, encoded."""

    features: torch.Tensor  # (257, D image)
    latents: torch.Tensor  # (20, T, h, w): 4 mask channels, 16 latent channels

    @property
    def start(self) -> torch.Tensor:
        """``(16, 1, h, w)``: the latent of the picture alone, from which a shot starts.

        The video codec is causal, so the frames behind the picture have left no trace in its first latent.
        """
        return self.latents[4:, :1]


class References:
    """The source pictures of a run, encoded for windows that start there.

    Only the last one is kept: so a still picture is encoded once, and a video takes no memory with its
    length.
    """

    def __init__(self, source: Source, frames: int, rooms: Rooms) -> None:
        """``frames``: of one window."""
        self._source, self._frames, self._rooms = source, frames, rooms
        self._last: tuple[int, Reference] | None = None

    def picture(self, frame: int) -> torch.Tensor:
        """The source picture shown at ``frame``, ``(3, H, W)`` in [-1, 1], on the device."""
        pixels = resize_picture(self._source.pictures[frame], self._source.size)
        return to_tensor(pixels).to(self._rooms.device)

    def at(self, frame: int) -> Reference:
        """The reference of a window that starts at ``frame``."""
        key = 0 if self._source.pictures.still else frame
        if self._last is None or self._last[0] != key:
            self._last = key, encode_reference(self.picture(key), self._frames, self._rooms)
        return self._last[1]


@torch.inference_mode()
def encode_reference(picture: torch.Tensor, frames: int, rooms: Rooms) -> Reference:
    """Encode a picture ``(3, H, W)`` as the reference of windows of ``frames`` frames."""
    with rooms.using(rooms.vision) as vision:
        features = vision(picture[None])[0]
    latents = rooms.encode_still(picture, frames, MID_GREY)
    mask = torch.from_numpy(given_frames_mask(frames)).to(latents)[:, :, None, None]
    return Reference(features, torch.cat([mask.expand(-1, -1, *latents.shape[2:]), latents]))
