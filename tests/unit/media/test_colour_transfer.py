"""Colour matching by its usual names: each against the property that defines it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from infinite_talk.errors import UsageError
from infinite_talk.media.colour_transfer import (
    METHODS,
    histograms,
    monge_kantorovich,
    regression,
    transfer_colours,
)


def picture(seed: int, spread: float = 0.2) -> torch.Tensor:
    """Colours whose channels depend on each other, ``(3, 9, 11)``."""
    draw = torch.Generator().manual_seed(seed)
    mix = torch.randn(3, 3, generator=draw)
    return torch.einsum("ij,jhw->ihw", mix, torch.rand(3, 9, 11, generator=draw) - 0.5) * spread + 0.1


def covariance(shown: torch.Tensor) -> torch.Tensor:
    return torch.cov(shown.double().flatten(1))


def test_monge_kantorovich_gives_mean_and_covariance_of_the_reference():
    moved, aim = monge_kantorovich(picture(1), picture(2)), picture(2)
    assert torch.allclose(moved.mean((1, 2)), aim.mean((1, 2)), atol=1e-6)
    assert torch.allclose(covariance(moved), covariance(aim), atol=1e-7)


def test_monge_kantorovich_moves_no_colour_further_than_another_map_to_the_same_covariance():
    """The map through the symmetric roots, ``B^1/2 A^-1/2``, has the same end but a longer way."""
    own, aim = picture(1), picture(2)

    def root(matrix: torch.Tensor, power: float) -> torch.Tensor:
        sizes, directions = torch.linalg.eigh(matrix)
        return directions @ torch.diag(sizes**power) @ directions.T

    centred = own.double().flatten(1) - own.double().flatten(1).mean(1, keepdim=True)
    other = root(covariance(aim), 0.5) @ root(covariance(own), -0.5) @ centred
    shortest = monge_kantorovich(own, aim).double().flatten(1)
    shortest = shortest - shortest.mean(1, keepdim=True)
    assert (shortest - centred).square().sum() < (other - centred).square().sum()


def test_the_regression_finds_a_linear_change_of_the_same_picture_and_undoes_it():
    aim = picture(3)
    matrix = torch.tensor([[0.9, 0.1, 0.0], [0.05, 0.8, -0.1], [0.0, 0.2, 1.1]])
    changed = torch.einsum("ij,jhw->ihw", matrix, aim) + 0.07
    assert torch.allclose(regression(changed, aim), aim, atol=1e-5)


def test_histograms_become_those_of_the_reference():
    """Against numpy's interpolation of both cumulated histograms, and as sets of values."""
    own, aim = picture(4), picture(5)
    matched = histograms(own, aim)
    for channel in range(3):
        values, counts = np.unique(own[channel].numpy(), return_counts=True)
        known, sizes = np.unique(aim[channel].numpy(), return_counts=True)
        table = np.interp(np.cumsum(counts) / counts.sum(), np.cumsum(sizes) / sizes.sum(), known)
        expected = table[np.searchsorted(values, own[channel].numpy())]
        assert np.allclose(matched[channel].numpy(), expected, atol=1e-6)
        assert torch.allclose(
            matched[channel].flatten().sort()[0], aim[channel].flatten().sort()[0], atol=1e-6
        )


@pytest.mark.parametrize("method", METHODS)
def test_a_picture_matched_with_itself_stays(method: str):
    own = picture(6).clamp(-1, 1)
    matched = transfer_colours(own[:, None], own, method)
    assert torch.allclose(matched[:, 0], own, atol=2e-4)


@pytest.mark.parametrize("method", METHODS)
def test_flat_frames_become_numbers_inside_the_range(method: str):
    flat = torch.full((3, 2, 9, 11), 0.3)
    matched = transfer_colours(flat, picture(7), method)
    assert matched.isfinite().all() and matched.abs().max() <= 1


def test_an_unknown_method_is_named_with_those_that_exist():
    with pytest.raises(UsageError, match=r"mlk.*mkl"):
        transfer_colours(torch.zeros(3, 1, 4, 4), torch.zeros(3, 4, 4), "mlk")
