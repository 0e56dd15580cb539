"""Colour matching by its usual names: ``mkl``, ``hm``, ``reinhard``, ``mvgd`` and the two sandwiches with ``hm``.

Names as in the package ``color-matcher``, which node packs use; the formulas are the published ones. A frame is RGB
``(3, H, W)`` in [-1, 1]. Every method but ``reinhard`` is the same in [0, 1], as it commutes with affine maps of all
channels.

* ``mkl``: the linear Monge-Kantorovich map, the least movement that turns one Gaussian into another (Pitie and
  Kokaram, "The linear Monge-Kantorovitch linear colour mapping for example-based colour transfer", 2007).
* ``mvgd``: the linear map that brings the pixels of the frame nearest to the reference's at the same place (the
  closed form of Hahne and Aggoun, "PlenoptiCam v1.0", 2021, which comes down to a regression).
* ``hm``: each channel gets the reference's histogram.
* ``reinhard``: means and deviations in CIE Lab (``media/colour.py``).
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from infinite_talk.errors import UsageError
from infinite_talk.media.colour import ColourReference, match_colour

Transfer = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""``(frame, reference) -> frame``, all ``(3, H, W)`` float32 of one size."""

_TINY = 1e-10
"""Variance below which a colour direction is flat, and is moved but not stretched."""


def transfer_colours(frames: torch.Tensor, reference: torch.Tensor, method: str) -> torch.Tensor:
    """Give each frame the colours of one picture.

    Args:
        frames: RGB ``(3, F, H, W)`` in [-1, 1].
        reference: RGB ``(3, H, W)`` in [-1, 1].
        method: one of ``METHODS``; ``disabled`` returns ``frames`` untouched.

    Returns:
        float32 ``(3, F, H, W)`` in [-1, 1].

    Raises:
        UsageError: the method is not known.
    """
    if method == "disabled":
        return frames
    if method == "reinhard":
        return match_colour(frames, ColourReference.of(reference), 1.0)
    if method not in _CHAINS:
        raise UsageError(f"Colour match {method!r} is not known; there are {', '.join(METHODS)}.")
    reference = reference.to(frames.device).float()
    matched = torch.empty(frames.shape, dtype=torch.float32, device=frames.device)
    for index in range(frames.shape[1]):  # frame by frame: float64 copies of a window would be large
        frame = frames[:, index].float()
        for step in _CHAINS[method]:
            frame = step(frame, reference)
        matched[:, index] = frame.clamp(-1.0, 1.0)
    return matched


def monge_kantorovich(frame: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
    """``A^-1/2 (A^1/2 B A^1/2)^1/2 A^-1/2`` applied to the centred colours; A, B the covariances of both."""
    own, aim = _Colours(frame), _Colours(reference)
    root, inverse = _powers(own.covariance)
    middle, _ = _powers(root @ aim.covariance @ root)
    return own.moved(inverse @ middle @ inverse, aim.mean).to(frame)


def regression(frame: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
    """``C A^-1`` applied to the centred colours; C their covariance with the reference's at the same pixels."""
    own, aim = _Colours(frame), _Colours(reference)
    across = aim.centred @ own.centred.T / (own.centred.shape[1] - 1)
    _, inverse = _powers(own.covariance)
    return own.moved(across @ inverse @ inverse, aim.mean).to(frame)


def histograms(frame: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
    """Each channel's values moved so that the share of pixels below them is the reference's."""
    matched = torch.empty_like(frame)
    for channel in range(frame.shape[0]):
        _, place, counts = frame[channel].flatten().unique(return_inverse=True, return_counts=True)  # type: ignore[no-untyped-call]
        values, aim = reference[channel].flatten().unique(return_counts=True)  # type: ignore[no-untyped-call]
        shares, known = counts.double().cumsum(0) / place.numel(), aim.double().cumsum(0) / aim.sum()
        matched[channel] = (
            _interpolated(shares, known, values.double()).to(frame)[place].view_as(frame[channel])
        )
    return matched


_CHAINS: dict[str, tuple[Transfer, ...]] = {
    "mkl": (monge_kantorovich,),
    "hm": (histograms,),
    "mvgd": (regression,),
    "hm-mvgd-hm": (histograms, regression, histograms),
    "hm-mkl-hm": (histograms, monge_kantorovich, histograms),
}
METHODS = ("disabled", "mkl", "hm", "reinhard", "mvgd", "hm-mvgd-hm", "hm-mkl-hm")
"""In the order of the node packs' list."""


class _Colours:
    """The colours of a picture as points, float64."""

    def __init__(self, picture: torch.Tensor) -> None:
        self.shape = picture.shape
        points = picture.double().flatten(1)  # (3, pixels)
        self.mean = points.mean(1, keepdim=True)
        self.centred = points - self.mean
        self.covariance = self.centred @ self.centred.T / max(1, points.shape[1] - 1)

    def moved(self, matrix: torch.Tensor, mean: torch.Tensor) -> torch.Tensor:
        return (matrix @ self.centred + mean).view(self.shape)


def _powers(matrix: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Square root of a covariance and the root's inverse; directions without extent have 0 in both."""
    sizes, directions = torch.linalg.eigh(matrix)
    roots = sizes.clamp(min=0.0).sqrt()
    inverse = torch.where(sizes > _TINY, 1.0 / roots.clamp(min=_TINY), 0.0)
    root = directions @ torch.diag(roots) @ directions.T
    return root, directions @ torch.diag(inverse) @ directions.T


def _interpolated(at: torch.Tensor, known: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    """Linear interpolation of ``values`` at rising ``known``; beyond the ends the end value."""
    after = torch.searchsorted(known, at).clamp(max=len(known) - 1)
    before = (after - 1).clamp(min=0)
    width = known[after] - known[before]
    share = torch.where(width > 0, (at - known[before]) / width.clamp(min=1e-30), 1.0).clamp(0.0, 1.0)
    return values[before] + share * (values[after] - values[before])
