"""FreeInit (Wu et al., arXiv 2312.07537): sample again from noise that has the layout of the result before.

The noise of a schedule's start still shows the layout of the training videos; plain noise does not. So the result is
given back the noise that it came from, its low frequencies are kept, and the high ones are drawn anew.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from infinite_talk.denoise.keeping import noised
from infinite_talk.sampling import FreeInit

NOISY = 0.999
"""Share of noise that a result is given back."""
AXES = (-3, -2, -1)
"""Time, height and width."""


def again(
    walk: Callable[[torch.Tensor, int], torch.Tensor],
    start: torch.Tensor,
    noise: torch.Tensor,
    fresh: Callable[[int], torch.Tensor],
    choice: FreeInit,
    *,
    sigma: float = 1.0,
) -> None:
    """Walk ``choice.iterations`` times; the last result is that of the last call of ``walk``.

    Args:
        walk: from a start ``(16, T, h, w)`` and the number of the iteration to the clean picture it comes to.
        start: of the first iteration.
        noise: what every result is given back.
        fresh: noise for an iteration, from which the high frequencies are taken.
        sigma: share of noise that the schedule starts with. Below 1, where a video is the start, both parts are the
            result with that much noise in it: with more, the first step would meet a latent that it does not expect.
    """
    _, frames, height, width = noise.shape
    passing = low_pass((frames, height, width), choice).to(noise.device)
    for iteration in range(choice.iterations):
        result = walk(start, iteration).to(noise)
        if iteration + 1 < choice.iterations:
            low, high = noised(result, noise, min(NOISY, sigma)), fresh(iteration + 1).to(noise)
            start = mixed(low, high if sigma >= NOISY else noised(result, high, sigma), passing)


def mixed(low: torch.Tensor, high: torch.Tensor, passing: torch.Tensor) -> torch.Tensor:
    """The frequencies of ``low`` as far as ``passing`` ``(T, h, w)`` lets them, and the rest of ``high``."""
    spectra = (torch.fft.fftshift(torch.fft.fftn(one, dim=AXES), dim=AXES) for one in (low, high))
    kept, other = spectra
    spectrum = kept * passing + other * (1 - passing)
    found: torch.Tensor = torch.fft.ifftn(torch.fft.ifftshift(spectrum, dim=AXES), dim=AXES).real
    return found


def low_pass(shape: tuple[int, int, int], choice: FreeInit) -> torch.Tensor:
    """How much of each frequency ``(T, h, w)``, zero in the middle, comes from the result before.

    With ``D^2 = (d_s / d_t (2t / T - 1))^2 + (2h / H - 1)^2 + (2w / W - 1)^2``: gaussian ``exp(-D^2 / (2 d_s^2))``,
    butterworth ``1 / (1 + (D^2 / d_s^2)^n)``, ideal ``D^2 <= 2 d_s``. ``none`` does not filter: all comes from the
    result. A cut-off of 0 lets nothing through.
    """
    if choice.method == "none":
        return torch.ones(shape)
    if choice.d_s == 0 or choice.d_t == 0:
        return torch.zeros(shape)
    t, h, w = (2 * torch.arange(side) / side - 1 for side in shape)
    stretched = choice.d_s / choice.d_t * t
    square = stretched[:, None, None] ** 2 + h[None, :, None] ** 2 + w[None, None, :] ** 2
    match choice.method:
        case "gaussian":
            return torch.exp(-square / (2 * choice.d_s**2))
        case "butterworth":
            return 1 / (1 + (square / choice.d_s**2) ** choice.n)
        case _:
            return (square <= 2 * choice.d_s).float()
