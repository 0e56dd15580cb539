"""Degradations of pictures that a reader of mouths must survive: blur, compression, colour shift, noise."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional


def gaussian_blur(pictures: Tensor, sigma: Tensor | float) -> Tensor:
    """Blur (B, 3, H, W) with one sigma in pixels, or one per picture (B,); 0 leaves a picture as it is."""
    sigmas = torch.as_tensor(sigma, device=pictures.device, dtype=pictures.dtype).expand(pictures.shape[0])
    reach = max(1, math.ceil(3 * float(sigmas.max())))
    offsets = torch.arange(-reach, reach + 1, device=pictures.device)
    kernel = torch.exp(-0.5 * (offsets / sigmas[:, None].clamp_min(1e-3)) ** 2)
    kernel = (kernel / kernel.sum(1, keepdim=True)).repeat_interleave(3, 0)[:, None]  # (3 B, 1, K)
    flat = pictures.flatten(0, 1)[None]
    flat = functional.pad(flat, (reach, reach, reach, reach), mode="replicate")
    flat = functional.conv2d(flat, kernel[:, :, None, :], groups=flat.shape[1])
    flat = functional.conv2d(flat, kernel[:, :, :, None], groups=flat.shape[1])
    return flat[0].unflatten(0, (pictures.shape[0], 3))


def _cosines(device: torch.device) -> Tensor:
    """The orthonormal 8-point cosine transform (8, 8)."""
    k = torch.arange(8, device=device, dtype=torch.float32)
    rows = torch.cos(math.pi / 8 * (k[None, :] + 0.5) * k[:, None]) * 0.5
    rows[0] /= math.sqrt(2)
    return rows


def block_compress(pictures: Tensor, step: Tensor | float) -> Tensor:
    """Round the cosine coefficients of 8 x 8 blocks, coarser for higher ones, like a video codec does.

    ``step`` (B,) or one number: coefficient step as a share of full scale; 0.02 is mild, 0.10 is ugly.
    """
    steps = torch.as_tensor(step, device=pictures.device).expand(pictures.shape[0])
    steps = steps.view(-1, 1, 1, 1, 1, 1)
    height, width = pictures.shape[-2:]
    padded = functional.pad(pictures, (0, -width % 8, 0, -height % 8), mode="replicate")
    blocks = padded.unflatten(-2, (-1, 8)).unflatten(-1, (-1, 8)).transpose(-3, -2)  # (B, 3, h, w, 8, 8)
    basis = _cosines(pictures.device)
    rise = torch.arange(8, device=pictures.device)
    table = (1 + 0.35 * (rise[:, None] + rise[None, :])) * steps.clamp_min(1e-5)
    coded = (basis @ blocks @ basis.T / table).round() * table
    restored = (basis.T @ coded @ basis).transpose(-3, -2).flatten(-4, -3).flatten(-2, -1)
    return restored[..., :height, :width].clamp(0, 1)


def soften(pictures: Tensor, factor: float) -> Tensor:
    """Shrink by ``factor`` and enlarge again."""
    height, width = pictures.shape[-2:]
    small = functional.interpolate(pictures, (round(height / factor), round(width / factor)), mode="area")
    return functional.interpolate(small, (height, width), mode="bilinear", align_corners=False)


def spoil(pictures: Tensor, draw: torch.Generator) -> Tensor:
    """A random mixture for training, (B, 3, H, W) in [0, 1]: each picture gets its own strengths."""
    count, device = pictures.shape[0], pictures.device

    def random(*shape: int) -> Tensor:
        return torch.rand(shape, generator=draw, device=device)

    scale = pictures.shape[-1] / 108  # the reader's region is 108 pixels wide in a picture of 192
    spoilt = gaussian_blur(pictures, (random(count) * 3 - 1).clamp_min(0) * scale)
    softer = soften(pictures, 1.2 + 1.2 * float(random(1)))
    spoilt = torch.where(random(count, 1, 1, 1) < 0.2, softer, spoilt)
    gain = 1 + 0.16 * (random(count, 3, 1, 1) - 0.5) + 0.3 * (random(count, 1, 1, 1) - 0.5)
    spoilt = (spoilt * gain + 0.10 * (random(count, 3, 1, 1) - 0.5)).clamp(0, 1)
    spoilt = spoilt ** (0.8 + 0.45 * random(count, 1, 1, 1))
    grain = 0.03 * (2 * random(count, 1, 1, 1) - 1).clamp_min(0)
    noisy = spoilt + grain * torch.randn(spoilt.shape, generator=draw, device=device)
    compressed = block_compress(noisy, 0.005 + 0.075 * random(count) ** 2)
    return torch.where(random(count, 1, 1, 1) < 0.5, compressed, noisy).clamp(0, 1)


__all__ = ["block_compress", "gaussian_blur", "soften", "spoil"]
