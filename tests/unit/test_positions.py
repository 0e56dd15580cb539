"""Changes of the rotary positions: RIFLEx and NTK by their formulas, and through a transformer's condition."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from infinite_talk.denoise.denoiser import Plain
from infinite_talk.denoise.guidance import Branch
from infinite_talk.errors import UsageError
from infinite_talk.models.dit import ConditionCache
from infinite_talk.ops.rope import grid_rotation
from infinite_talk.sampling import Positions
from tests.unit.denoise.test_loop import some_guide, tiny_transformer
from tests.unit.tiny_dit import CONFIG, inputs, model

TIME, ACROSS = 44, 42  # of a head of 128: numbers for time, for rows and for columns


def slow_angles(grid, width, riflex, ntk) -> torch.Tensor:
    """Token by token, pair by pair."""
    across = 2 * (width // 6)
    sizes = (width - 2 * across, across, across)
    rows = []
    for place in [(t, y, x) for t in range(grid[0]) for y in range(grid[1]) for x in range(grid[2])]:
        angles = []
        for axis in range(3):
            for pair in range(sizes[axis] // 2):
                omega = (10000 * ntk[axis]) ** (-2 * pair / sizes[axis])
                if axis == 0 and pair == riflex - 1:
                    omega = 0.9 * 2 * math.pi / grid[0]
                angles.append(place[axis] * omega)
        rows.append(angles)
    return torch.tensor(rows, dtype=torch.float64)


@settings(max_examples=25, deadline=None)
@given(
    grid=st.tuples(*[st.integers(1, 5)] * 3),
    riflex=st.integers(0, TIME // 2),
    ntk=st.tuples(*[st.floats(0.1, 100)] * 3),
)
def test_angles_are_those_of_the_formulas(grid, riflex, ntk) -> None:
    found, expected = grid_rotation(grid, 128, None, riflex, ntk), slow_angles(grid, 128, riflex, ntk)
    torch.testing.assert_close(found.cos.double(), expected.cos(), atol=1e-6, rtol=0)
    torch.testing.assert_close(found.sin.double(), expected.sin(), atol=1e-6, rtol=0)


def test_riflex_turns_less_than_once_over_the_window() -> None:
    """At k = 6 and 61 latents, what repeated after 21 or so does not any more."""
    rotation = grid_rotation((61, 1, 1), 128, None, 6)
    angles = torch.atan2(rotation.sin[:, 5], rotation.cos[:, 5]) % (2 * math.pi)
    assert (angles.diff() > 0).all()
    assert math.isclose(float(angles[-1]), 0.9 * 2 * math.pi * 60 / 61, rel_tol=1e-5)


@pytest.mark.parametrize(
    ("riflex", "ntk"), [(23, (1, 1, 1)), (-1, (1, 1, 1)), (0, (1, 0, 1)), (0, (-1, 1, 1))]
)
def test_what_the_model_has_not_is_refused(riflex, ntk) -> None:
    with pytest.raises(UsageError, match="time frequencies 1 to 22"):
        grid_rotation((2, 2, 2), 128, None, riflex, ntk)


@torch.no_grad()
def test_unchanged_positions_are_the_same_to_the_last_bit() -> None:
    old = model().condition(**inputs())
    assert torch.equal(
        grid_rotation(old.grid, CONFIG.head_dim, None, 0, (1.0, 1.0, 1.0)).cos, old.rotation.cos
    )


@torch.no_grad()
def test_a_cache_tells_positions_apart() -> None:
    net, shared, given_ = model(), ConditionCache(), inputs()
    plain = net.condition(**given_, shared=shared)
    turned = net.condition(**given_, shared=shared, positions=Positions(riflex=2))
    again = net.condition(**given_, shared=shared)
    assert not torch.equal(plain.rotation.cos, turned.rotation.cos)
    assert again.rotation is plain.rotation


@torch.no_grad()
def test_a_denoiser_hands_positions_on() -> None:
    transformer, guide = tiny_transformer(), some_guide()
    asked = Positions(riflex=1, ntk=(1.0, 2.0, 3.0))
    found = Plain(transformer, positions=asked).condition(guide, Branch.COND)
    expected = grid_rotation(found.grid, transformer.config.head_dim, None, 1, (1.0, 2.0, 3.0))
    assert torch.equal(found.rotation.cos, expected.cos)
    assert torch.equal(found.rotation.sin, expected.sin)
