"""What a walk starts from: noise, a video with noise in it, or a latent that another walk has left."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F

from infinite_talk.denoise.keeping import All, Keep, Unmasked, noised
from infinite_talk.denoise.sampler import Sampler
from infinite_talk.errors import UsageError


@dataclass(frozen=True, slots=True, eq=False)
class Start:
    """The beginning of one window."""

    noise: torch.Tensor  # (16, T, h, w)
    video: torch.Tensor | None = None  # (16, T, h, w): a latent to start from
    add_noise: bool = False
    """``video`` is clean, and gets the noise of the first step; else it is taken as it is."""
    mask: torch.Tensor | None = None  # (1, T or 1, h, w) in 0..1: how much of the video may change
    original: torch.Tensor | None = None  # (16, T, h, w): what the mask leaves alone; ``None``: the video

    def latent(self, sampler: Sampler) -> torch.Tensor:
        """``(16, T, h, w)``; with noise added ``sigma noise + (1 - sigma) video``, sigma being the first step's.

        Raises:
            UsageError: the video has another shape than the window.
        """
        if self.video is None:
            return self.noise * sampler.noise_scale
        if self.video.shape != self.noise.shape:
            raise UsageError(
                f"The samples are a latent of {tuple(self.video.shape)}, the window is one of "
                f"{tuple(self.noise.shape)}; encode a video of the same size and length."
            )
        video = self.video.to(self.noise)
        return noised(video, self.noise, sampler.sigmas[0]) if self.add_noise else video

    def keeping(self, keep: Keep, sampler: Sampler, device: torch.device) -> Keep:
        """``keep``, and before it what a mask leaves alone."""
        if self.mask is None or self.video is None:
            return keep
        original = self.video if self.original is None else self.original
        video, noise, mask = (part.to(device) for part in (original, self.noise, self.mask))
        own = Unmasked(video, noise, mask, sampler.steps)
        return All((own, keep))


def mask_on_latent(mask: torch.Tensor, latent: tuple[int, ...]) -> torch.Tensor:
    """A mask of pictures ``(n, H, W)`` or ``(H, W)`` on the grid of a latent ``(16, T, h, w)``: ``(1, T or 1, h, w)``.

    One picture is for all frames; several are spread over the time.
    """
    frames = mask if mask.ndim == 3 else mask[None]
    wanted = (1 if len(frames) == 1 else latent[1], *latent[2:])
    return F.interpolate(frames[None, None].float(), size=wanted, mode="trilinear")[0].clamp(0, 1)
