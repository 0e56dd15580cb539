"""What pictures tell of a clip: the latents of its known frames, the mask of them, sizes, and what CLIP has seen."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch.nn import functional

from infinite_talk.conditioning.image import MID_GREY
from infinite_talk.errors import UsageError
from infinite_talk.nodes.pictures import checked_pictures, stretched
from infinite_talk.rooms import Codec
from infinite_talk.types import SPATIAL_STRIDE, TEMPORAL_STRIDE, latent_frames

LATENT_CHANNELS = 16


class Clip:
    """A clip of which the first and the last frames may be known: ``(3, n, H, W)`` in [-1, 1]."""

    def __init__(
        self,
        frames: int,
        height: int,
        width: int,
        start: torch.Tensor | None,
        end: torch.Tensor | None,
        filler: torch.Tensor | None,
    ) -> None:
        self._frames, self._size = frames, (height, width)
        self._start, self._end, self._filler = start, end, filler
        self._first = 0 if start is None else start.shape[1]
        self._last = 0 if end is None else end.shape[1]
        if self._first + self._last > frames:
            raise UsageError(
                f"{self._first} start and {self._last} end pictures do not fit into {frames} frames; raise "
                "num_frames, or give fewer pictures."
            )

    def latents(self, codec: Codec) -> torch.Tensor:
        """``(16, t, h, w)``, on the CPU."""
        if self._start is not None and self._filler is None and (self._first, self._last) == (1, 0):
            return codec.encode_still(self._start[:, 0], self._frames, MID_GREY).cpu().clone()
        video = torch.full((3, self._frames, *self._size), MID_GREY)
        if self._filler is not None:
            video[:] = self._filler[:, :1]
        if self._start is not None:
            video[:, : self._first] = self._start
        if self._end is not None:
            video[:, self._frames - self._last :] = self._end
        return codec.encode_video(video).cpu().clone()

    def mask(self, given: torch.Tensor | None) -> torch.Tensor:
        """``(4, t, h, w)``: 1 where a frame is known. Channels are the frames of a latent; the first is repeated."""
        height, width = (side // SPATIAL_STRIDE for side in self._size)
        known = torch.zeros(self._frames, height, width)
        known[: self._first] = 1
        known[self._frames - self._last :] = 1
        if given is not None:
            resized = functional.interpolate(given[:, None].float().cpu(), size=(height, width))[:, 0]
            known = functional.pad(
                resized[: self._frames], (0, 0, 0, 0, 0, max(0, self._frames - len(given)))
            )
        repeated = torch.cat([known[:1].expand(TEMPORAL_STRIDE, -1, -1), known[1:]])
        return repeated.reshape(-1, TEMPORAL_STRIDE, height, width).transpose(0, 1).contiguous()


def augmented(latents: torch.Tensor, strength: float) -> torch.Tensor:
    """With normal noise, always the same."""
    drawn = torch.randn(latents.shape, generator=torch.Generator().manual_seed(0))
    return latents + strength * drawn.to(latents)


def sized(what: str, pictures: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """The pictures of an IMAGE at the size of the video."""
    return stretched(checked_pictures(what, pictures), height, width)


def target_shape(frames: int, height: int, width: int) -> tuple[int, int, int, int]:
    """``(16, t, h, w)`` of a clip."""
    return LATENT_CHANNELS, latent_frames(frames), height // SPATIAL_STRIDE, width // SPATIAL_STRIDE


def clip_context(clip_embeds: Mapping[str, Any] | None) -> dict[str, Any]:
    """What CLIP has seen, by the sampler's names.

    Raises:
        UsageError: the dictionary has no features.
    """
    if clip_embeds is None:
        return {"clip_context": None, "negative_clip_context": None}
    if "clip_embeds" not in clip_embeds:
        raise UsageError(
            f"clip_embeds has the keys {', '.join(map(str, clip_embeds))}, and 'clip_embeds' is not among them; "
            "connect WanVideoClipVisionEncode."
        )
    return {
        "clip_context": clip_embeds["clip_embeds"],
        "negative_clip_context": clip_embeds.get("negative_clip_embeds"),
    }
