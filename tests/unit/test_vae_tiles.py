"""Tiles of the video codec: the numbers of whole frames, in less memory."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from infinite_talk.models.vae import VAEConfig, VideoVAE
from infinite_talk.models.vae.tiles import decoder_reach, encoder_reach, spans
from tests.meter import LiveBytes
from tests.unit.test_vae import TINY, make

WAN = VAEConfig.from_json(
    {
        "dim": 96,
        "z_dim": 16,
        "dim_mult": [1, 2, 4, 4],
        "num_res_blocks": 2,
        "temporal_downsample": [False, True, True],
    }
)
DEEP = VAEConfig.from_json({**{"z_dim": 16, "dim": 4}, "dim_mult": [1, 1, 2, 2], "num_res_blocks": 1,
                            "temporal_downsample": [False, True, True]})  # fmt: skip
EXACT = 5e-5
"""Sums of float32 in another order."""
CONFIGS = {"folded": TINY, "wan_like": DEEP}


@pytest.fixture(scope="module", params=CONFIGS)
def vae(request: pytest.FixtureRequest) -> VideoVAE:
    return make(CONFIGS[request.param])


@given(cells=st.integers(1, 60), tile=st.integers(0, 70), reach=st.integers(0, 15))
def test_spans_cover_everything_once_with_enough_around(cells: int, tile: int, reach: int) -> None:
    found = spans(cells, tile, reach)
    assert found[0].start == 0
    assert found[-1].stop == cells
    assert all(one.stop == next_.start for one, next_ in pairwise(found))
    for span in found:
        assert 0 < span.stop - span.start <= max(1, tile)
        assert span.first == max(0, span.start - reach)
        assert span.last == min(cells, span.stop + reach)
        assert range(span.first, span.last)[span.kept(1)] == range(span.start, span.stop)


@pytest.mark.parametrize("tile", [24, 40])
@torch.inference_mode()
def test_decoding_in_tiles_equals_decoding_at_once(vae: VideoVAE, tile: int) -> None:
    latent = torch.randn(1, vae.config.z_dim, 3, 9, 2, generator=torch.Generator().manual_seed(1))
    whole = vae.decode(latent)
    for at_once in (2, 3):
        torch.testing.assert_close(vae.decode_pieces(latent, at_once, tile), whole, atol=EXACT, rtol=0)
        torch.testing.assert_close(vae.decode_pieces(latent, at_once), whole, atol=EXACT, rtol=0)


@pytest.mark.parametrize("tile", [24, 40])
@torch.inference_mode()
def test_encoding_in_tiles_equals_encoding_at_once(vae: VideoVAE, tile: int) -> None:
    stride = vae.config.spatial_stride
    video = torch.rand(1, 3, 6, 9 * stride, 2 * stride, generator=torch.Generator().manual_seed(2)) * 2 - 1
    whole = vae.encode(video)
    torch.testing.assert_close(vae.encode_pieces(video, tile), whole, atol=EXACT, rtol=0)
    torch.testing.assert_close(vae.encode_pieces(video), whole, atol=EXACT, rtol=0)


@torch.inference_mode()
def test_the_reach_is_as_far_as_pixels_depend_on_features_and_no_further(vae: VideoVAE) -> None:
    """A feature is changed; what changes in the picture ends within the reach, and more than a cell before it
    would be too little.
    """
    reach, cell = decoder_reach(vae.config), vae.config.spatial_stride
    width = 2 * reach + 3
    x = torch.randn(1, vae.config.dim * vae.config.dim_mult[-1], 1, 2, width)
    changed = x.clone()
    changed[..., reach + 1] += 100
    difference = (vae.decoder.rise(changed) - vae.decoder.rise(x)).abs().amax(dim=(0, 1, 2, 3))
    at = difference.nonzero().flatten() * vae.config.patch // cell  # the latent cells that changed
    assert int(at.min()) >= 1
    assert int(at.max()) <= 2 * reach + 1
    assert int(at.max()) - int(at.min()) >= 2 * reach - 2


@torch.inference_mode()
def test_the_encoders_reach(vae: VideoVAE) -> None:
    reach, cell = encoder_reach(vae.config), vae.config.spatial_stride
    width = (2 * reach + 3) * cell
    video = torch.randn(1, 3, 1, cell, width)
    changed = video.clone()
    changed[..., (reach + 1) * cell : (reach + 2) * cell] += 100
    seen = [vae.encoder.fall(vae._folded(one)) for one in (changed, video)]
    at = (seen[0] - seen[1]).abs().amax(dim=(0, 1, 2, 3)).nonzero().flatten()
    assert int(at.min()) >= 1
    assert int(at.max()) <= 2 * reach + 1
    assert int(at.max()) - int(at.min()) >= reach


def test_reaches_of_wan() -> None:
    assert (decoder_reach(WAN), encoder_reach(WAN)) == (13, 10)


@torch.inference_mode()
def test_too_little_reach_would_show(vae: VideoVAE, monkeypatch: pytest.MonkeyPatch) -> None:
    """The test of the test: with half the reach the numbers differ."""
    monkeypatch.setattr(
        "infinite_talk.models.vae.model.decoder_reach", lambda config: decoder_reach(config) // 4
    )
    latent = torch.randn(1, vae.config.z_dim, 2, 20, 3, generator=torch.Generator().manual_seed(1))
    difference = vae.decode_pieces(latent, 1, 2 * vae.config.spatial_stride) - vae.decode(latent)
    assert float(difference.abs().max()) > 1e-4


@torch.no_grad()
def test_a_tile_needs_its_share_of_memory() -> None:
    with torch.device("meta"):
        vae, latent = VideoVAE(DEEP).eval(), torch.empty(1, 16, 2, 16, 104)

    def peak(tile: int | None) -> int:
        with LiveBytes() as meter:
            vae.decode_pieces(latent, 1, tile)
        return meter.peak

    assert peak(416) < 0.8 * peak(None)  # half of the picture and nine of 52 cells around it


def test_pieces_are_whole_groups() -> None:
    """Frames beyond 4n + 1 are dropped, as by ``encode``."""
    vae = make(replace(TINY))
    video = torch.rand(1, 3, 8, 16, 16)
    with torch.no_grad():
        torch.testing.assert_close(vae.encode_pieces(video, 8), vae.encode(video), atol=2e-5, rtol=0)
