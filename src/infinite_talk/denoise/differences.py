"""What is done to the answers of two branches, and to their difference, before guidance adds them up.

Plain formulas over tensors ``(16, T, h, w)``, float32; numbers stay on the device.
"""

from __future__ import annotations

import torch

from infinite_talk.sampling import FreSca, ScoreRescaling


def zero_star_scale(cond: torch.Tensor, uncond: torch.Tensor) -> torch.Tensor:
    """CFG-Zero* (Fan et al., arXiv 2503.18886): ``<cond, uncond> / (|uncond|^2 + 1e-8)`` over the whole tensor.

    The factor that brings the unconditional answer nearest to the conditional one.
    """
    return (cond * uncond).sum() / (uncond.square().sum() + 1e-8)


def tangential(cond: torch.Tensor, uncond: torch.Tensor) -> torch.Tensor:
    """TCFG (Kwon et al., arXiv 2503.18137): ``uncond`` without what the two answers do not share.

    For each channel the two answers are the rows of a 2 x N matrix, of which only the greater singular direction is
    kept. The directions of the rows' space follow from the 2 x 2 matrix of their products, which is symmetric: the
    greater one is ``(cos a, sin a)`` with ``tan 2a = 2 <c, u> / (|c|^2 - |u|^2)``. In float64, as they nearly agree.
    """
    c, u = cond.double().flatten(1), uncond.double().flatten(1)  # (C, N)
    angle = torch.atan2(2 * (c * u).sum(1), c.square().sum(1) - u.square().sum(1)) / 2
    cosine, sine = angle.cos()[:, None], angle.sin()[:, None]
    return (sine * (cosine * c + sine * u)).reshape(uncond.shape).to(uncond.dtype)


def adaptive_scale(cond: torch.Tensor, uncond: torch.Tensor, scale: float, alpha: float) -> torch.Tensor:
    """RAAG (Zhu et al., arXiv 2508.03442): ``1 + (scale - 1) exp(-alpha r)``, a scalar.

    ``r`` is the size of the difference over that of ``uncond``, mean over channels: where the answers differ much, as
    at the first steps, the guidance is weak.
    """
    apart = torch.linalg.vector_norm((cond - uncond).flatten(1), dim=1)
    size = torch.linalg.vector_norm(uncond.flatten(1), dim=1)
    weakened: torch.Tensor = torch.exp(-alpha * (apart / size.clamp(min=1e-12)).mean())
    found: torch.Tensor = 1 + (scale - 1) * weakened
    return found


def rescaled_frequencies(difference: torch.Tensor, choice: FreSca) -> torch.Tensor:
    """FreSca (Huang et al., arXiv 2504.02154): low and high frequencies of each frame by factors of their own.

    Low are those at most ``cutoff`` from the centre of the shifted spectrum, on either axis (on the low side; one
    less on the high side, as slices end). A cutoff beyond the frame means that all are low.
    """
    height, width = difference.shape[-2:]
    spectrum = torch.fft.fftshift(torch.fft.fft2(difference.float()), dim=(-2, -1))
    factors = torch.full((height, width), float(choice.high), device=difference.device)
    rows, columns = (
        slice(max(0, side // 2 - choice.cutoff), side // 2 + choice.cutoff) for side in (height, width)
    )
    factors[rows, columns] = choice.low
    back = torch.fft.ifft2(torch.fft.ifftshift(spectrum * factors, dim=(-2, -1)))
    filtered: torch.Tensor = back.real.to(difference.dtype)
    return filtered


def rescaled_score(
    velocity: torch.Tensor, latent: torch.Tensor, sigma: float, choice: ScoreRescaling
) -> torch.Tensor:
    """Temporal score rescaling (Xu et al., 2025): sharper or softer without another question.

    With ``snr = (1 - t)^2 / t^2`` and ``rho = (snr s^2 + 1) / (snr s^2 / k + 1)`` the velocity becomes
    ``(rho ((1 - t) v + x) - x) / (1 - t)``; ``rho`` is ``k`` at ``t = 0``. At ``t = 1`` nothing changes.
    """
    left = 1 - sigma
    if left <= 0:
        return velocity
    if sigma <= 0:
        rho = choice.k
    else:
        power = (left / sigma) ** 2 * choice.sigma**2
        rho = (power + 1) / (power / choice.k + 1)
    return (rho * (left * velocity + latent) - latent) / left
