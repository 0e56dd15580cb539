"""Steps of the codec for GPUs, by their twins on the CPU: padded maps, convolutions of doubled pictures."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from infinite_talk.models.vae import VideoVAE
from infinite_talk.models.vae.layers import ChannelNorm
from infinite_talk.ops import codec
from tests.unit.test_vae import TINY, close, make
from tests.unit.test_vae_tiles import DEEP

sides = st.integers(1, 6)


@given(
    height=sides, width=sides, inputs=st.integers(1, 5), outputs=st.integers(1, 4), frames=st.integers(1, 3)
)
@settings(max_examples=25, deadline=None)
def test_four_small_convolutions_equal_the_one_of_the_doubled_picture(height, width, inputs, outputs, frames):
    generator = torch.Generator().manual_seed(height * 100 + width)
    x = torch.randn(frames, inputs, height, width, generator=generator)
    weight = torch.randn(outputs, inputs, 3, 3, generator=generator)
    bias = torch.randn(outputs, generator=generator)
    found = codec.doubled_by_places(x, weight, bias)
    torch.testing.assert_close(found, codec.doubled_eager(x, weight, bias), atol=1e-5, rtol=1e-5)


def test_sums_of_taps_are_rounded_once() -> None:
    """1 + 3 x 2^-11 is rounded up to 1 + 2^-9; one by one the first of them would be lost: 1 + 2^-10."""
    weight = torch.full((1, 1, 3, 3), 2.0**-11, dtype=torch.float16)
    weight[0, 0, 1, 1] = 1
    assert float(codec.by_places(weight)[3, 0, 0, 0, 0]) == 1 + 2.0**-9


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@torch.inference_mode()
def test_a_padded_map_is_the_norm_in_a_border_of_zeros_behind_its_past(dtype: torch.dtype) -> None:
    torch.manual_seed(5)
    norm = ChannelNorm(6)
    norm.gamma.data.normal_()
    x = torch.randn(2, 6, 3, 4, 5).to(dtype)
    past = torch.randn(2, 6, 2, 6, 7).to(dtype)
    padded = codec.norm_silu_pad_eager(x, norm.gamma, past)
    assert torch.equal(padded[:, :, :2], past)
    inside = padded[:, :, 2:, 1:-1, 1:-1]
    if dtype is torch.float32:
        assert torch.equal(inside, functional.silu(norm(x)))
    else:  # rounded once, not after each step
        exact = functional.silu(norm.float()(x.float()))
        torch.testing.assert_close(inside, exact.half(), atol=0, rtol=0)
    inside.zero_()
    assert not padded[:, :, 2:].any()  # the border
    assert not codec.norm_silu_pad_eager(x, norm.gamma, None)[:, :, :2].any()


@pytest.fixture
def _as_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """The layers take the way of the kernels, whose twins stand in for them."""
    monkeypatch.setattr(codec, "fused", lambda _x: True)
    monkeypatch.setattr(codec, "norm_silu_pad", codec.norm_silu_pad_eager)


@pytest.fixture(scope="module", params=[TINY, DEEP], ids=["folded", "wan_like"])
def vae(request: pytest.FixtureRequest) -> VideoVAE:
    return make(request.param)


@torch.inference_mode()
def test_the_way_of_the_kernels_gives_the_same_numbers(
    vae: VideoVAE, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = torch.Generator().manual_seed(3)
    latent = torch.randn(2, vae.config.z_dim, 4, 3, 2, generator=generator)
    side = 2 * vae.config.spatial_stride
    video = torch.rand(1, 3, 9, side, side, generator=generator) * 2 - 1
    decoded, encoded = vae.decode(latent), vae.encode(video)
    padded: list[int] = []
    monkeypatch.setattr(codec, "fused", lambda _x: True)
    monkeypatch.setattr(
        codec, "norm_silu_pad", lambda *a: (padded.append(1), codec.norm_silu_pad_eager(*a))[1]
    )
    close(vae.decode(latent), decoded, atol=5e-5)
    close(vae.encode(video), encoded, atol=5e-5)
    assert len(padded) > 20  # every norm before a convolution


@pytest.mark.usefixtures("_as_on_a_gpu")
@pytest.mark.parametrize("at_once", [1, 2, 3, 5])
@torch.inference_mode()
def test_pieces_of_any_size_equal_the_whole(vae: VideoVAE, at_once: int) -> None:
    generator = torch.Generator().manual_seed(4)
    latent = torch.randn(1, vae.config.z_dim, 4, 3, 2, generator=generator)
    close(vae.decode_pieces(latent, at_once), vae.decode(latent), atol=5e-5)
    side = 2 * vae.config.spatial_stride
    video = torch.rand(1, 3, 13, side, side, generator=generator) * 2 - 1
    close(vae.encode_pieces(video, latents_at_once=at_once), vae.encode(video), atol=5e-5)
    close(vae.encode_pieces(video, vae.config.spatial_stride, at_once), vae.encode(video), atol=5e-5)


def test_kernels_serve_16_bits_on_a_gpu_only() -> None:
    with torch.no_grad():
        assert not codec.fused(torch.zeros(1, dtype=torch.float16))
        assert not codec.fused(torch.zeros(1))
