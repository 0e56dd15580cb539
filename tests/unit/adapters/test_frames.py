"""Features are dealt out to latent frames."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from infinite_talk.models.adapters.frames import deal, for_latents, ranges


def test_ranges_are_those_of_the_published_example():
    """173 features of 81 frames begin with [-7, 1], [1, 9] in FantasyTalking's own documentation."""
    found = ranges(173, 81)
    assert found[:2] == [(-7, 1), (1, 9)]
    centre = int((173 / 81 * 77 + 173 / 81 * 81) / 2) - 1
    assert found[-1] == (centre - 4, centre + 4)
    assert len(found) == 21


@given(st.integers(1, 12), st.integers(1, 30), st.integers(0, 5))
def test_each_latent_frame_gets_its_neighbourhood(latents: int, per: int, more: int):
    """Slow twin: index by index; the whole width is the same everywhere, and what is missing is at the end."""
    frames = 4 * (latents - 1) + 1
    features = torch.arange(1.0, frames * per + 1)[None, :, None]
    dealt = deal(features, frames, more)
    assert dealt.features.shape[1] == latents
    for i, (begin, end) in enumerate(ranges(features.shape[1], frames)):
        wanted = [j + 1.0 for j in range(begin - more, end + more + 1) if 0 <= j < features.shape[1]]
        found = dealt.features[0, i, :, 0].tolist()
        assert found == wanted + [0.0] * (end - begin + 1 + 2 * more - len(wanted))
        assert dealt.lengths[i] == len(wanted)


@given(st.integers(1, 6), st.integers(0, 8), st.integers(1, 6))
def test_windows_reach_beyond_the_end_into_nothing(there: int, first: int, latents: int):
    dealt = torch.arange(1.0, there + 1)[None, :, None]
    found = for_latents(dealt, first, latents)[0, :, 0].tolist()
    assert found == [i + 1.0 if i < there else 0.0 for i in range(first, first + latents)]
