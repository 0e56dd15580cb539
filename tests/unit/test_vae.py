"""The video autoencoder: shapes, its two ways of running, folding of pixels, gradients."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from infinite_talk.models.vae import VAEConfig, VideoVAE
from infinite_talk.models.vae.layers import PAST, CausalConv3d, by_frames, from_frames, to_frames
from infinite_talk.ops.causal_conv import sum_of_frames

TINY = VAEConfig(
    dim=4,
    z_dim=4,
    dim_mult=(1, 2, 2),
    num_res_blocks=1,
    temporal_downsample=(True, True),
    mean=(0.5, -0.25, 0.0, 1.0),
    std=(2.0, 1.0, 0.5, 1.5),
    patch=2,
)


def make(config: VAEConfig = TINY, seed: int = 0) -> VideoVAE:
    torch.manual_seed(seed)
    vae = VideoVAE(config)
    for parameter in vae.parameters():  # fresh gammas of 1 and a projection of 0 would hide mistakes
        parameter.data += 0.1 * torch.randn_like(parameter)
    return vae.eval()


@pytest.fixture(scope="module")
def vae() -> VideoVAE:
    return make()


def close(actual: torch.Tensor, expected: torch.Tensor, atol: float = 2e-5) -> None:
    torch.testing.assert_close(actual, expected, atol=atol, rtol=0)


@given(frames=st.integers(1, 15), height=st.integers(1, 3), width=st.integers(1, 3), batch=st.integers(1, 2))
@settings(max_examples=12, deadline=None)
@torch.inference_mode()
def test_chunks_equal_the_whole(vae: VideoVAE, frames: int, height: int, width: int, batch: int) -> None:
    video = torch.rand(batch, 3, frames, 8 * height, 8 * width) * 2 - 1
    latent = vae.encode(video)
    assert latent.shape == (batch, 4, 1 + (frames - 1) // 4, height, width)
    chunks = list(vae.encode_chunks(video))
    assert all(chunk.shape[2] == 1 for chunk in chunks)
    close(torch.cat(chunks, dim=2), latent)

    whole = vae.decode(latent)
    assert whole.shape == (batch, 3, 1 + (frames - 1) // 4 * 4, 8 * height, 8 * width)
    pieces = list(vae.decode_chunks(latent))
    assert [piece.shape[2] for piece in pieces] == [1] + [4] * (latent.shape[2] - 1)
    close(torch.cat(pieces, dim=2), whole)
    close(torch.cat(list(vae.decode_chunks(latent, latents_per_chunk=3)), dim=2), whole)


@torch.inference_mode()
def test_chunks_equal_the_whole_on_contiguous_and_strided_input(vae: VideoVAE) -> None:
    latent = torch.randn(1, 4, 4, 2, 3)
    strided = latent.permute(0, 3, 4, 2, 1).contiguous().permute(0, 4, 3, 1, 2)
    close(vae.decode(strided), vae.decode(latent))


@torch.inference_mode()
def test_batch_equals_one_by_one(vae: VideoVAE) -> None:
    video = torch.rand(3, 3, 9, 16, 24) * 2 - 1
    close(vae.encode(video), torch.cat([vae.encode(one[None]) for one in video]))
    latent = torch.randn(3, 4, 3, 2, 3)
    close(vae.decode_raw(latent), torch.cat([vae.decode_raw(one[None]) for one in latent]))


@torch.inference_mode()
def test_causal(vae: VideoVAE) -> None:
    latent = torch.randn(1, 4, 4, 2, 2)
    changed = latent.clone()
    changed[:, :, 2:] += 1
    before, after = vae.decode_raw(latent), vae.decode_raw(changed)
    close(after[:, :, :5], before[:, :, :5])
    assert (after[:, :, 5:] - before[:, :, 5:]).abs().amax(dim=(0, 1, 3, 4)).min() > 1e-4


@pytest.mark.parametrize(("patch", "levels"), [(1, 4), (2, 3), (4, 2), (1, 3)])
def test_folding_keeps_the_stride_and_moves_pixels_only(patch: int, levels: int) -> None:
    config = replace(TINY, patch=patch, dim_mult=(1,) * levels, temporal_downsample=(True,) * (levels - 1))
    small = make(config)
    assert config.spatial_stride == patch * 2 ** (levels - 1)
    assert config.temporal_stride == 2 ** (levels - 1)
    frames, side = 1 + config.temporal_stride, 2 * config.spatial_stride
    latent = small.encode(torch.zeros(1, 3, frames, side, side))
    assert latent.shape == (1, 4, 2, 2, 2)
    assert small.decode(latent).shape == (1, 3, frames, side, side)
    assert small.encoder.conv1.in_channels == 3 * patch**2


def test_moments_and_normalisation(vae: VideoVAE) -> None:
    video = torch.rand(1, 3, 5, 8, 8) * 2 - 1
    mu, logvar = vae.encode_moments(video)
    assert mu.shape == logvar.shape == (1, 4, 2, 1, 1)
    assert not torch.equal(mu, logvar)
    latent = vae.encode(video)
    mean, std = torch.tensor(TINY.mean), torch.tensor(TINY.std)
    close(latent, (mu - mean.view(1, -1, 1, 1, 1)) / std.view(1, -1, 1, 1, 1))
    close(vae.denormalise(latent), mu)


def test_gradients_reach_every_weight_and_ignore_the_clamp() -> None:
    vae = make().train()
    video = torch.rand(2, 3, 5, 16, 16) * 2 - 1
    mu, logvar = vae.encode_moments(video)
    latent = vae.normalise(mu + torch.randn_like(mu) * (logvar / 2).exp())
    (vae.decode_raw(latent) * 3 - video).square().mean().backward()
    for name, parameter in vae.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().max() > 0, name


def test_gradient_equals_the_difference_quotient() -> None:
    decoder = make(replace(TINY, dim=2)).double().decoder
    latent = torch.randn(1, 4, 2, 1, 1, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda z: decoder(z).square().mean(), (latent,))


def test_decode_with_and_without_gradient_agree(vae: VideoVAE) -> None:
    latent = torch.randn(1, 4, 3, 2, 2)
    with torch.no_grad():
        quick = vae.decode_raw(latent)
    close(quick, vae.decode_raw(latent.requires_grad_()).detach())


def test_zeros_give_finite_gradients() -> None:
    vae = make()
    latent = torch.zeros(1, 4, 2, 1, 1, requires_grad=True)
    vae.decode_raw(latent).sum().backward()
    assert latent.grad is not None and latent.grad.isfinite().all()


def test_bfloat16_autocast_stays_close(vae: VideoVAE) -> None:
    latent = torch.randn(1, 4, 3, 2, 2)
    with torch.no_grad():
        exact = vae.decode_raw(latent)
        with torch.autocast("cpu", torch.bfloat16):
            half = vae.decode_raw(latent)
    assert half.dtype == torch.float32
    assert (half - exact).abs().mean() < 0.06 * exact.abs().mean()


@given(
    frames=st.integers(1, 5), height=st.integers(1, 5), width=st.integers(1, 5), channels=st.integers(1, 5)
)
@settings(max_examples=20, deadline=None)
def test_flat_convolutions_equal_the_one_in_three_dimensions(
    frames: int, height: int, width: int, channels: int
) -> None:
    conv = CausalConv3d(channels, 3, 3)
    seen = torch.randn(1, channels, PAST + frames, height, width)
    slow = torch.nn.functional.conv3d(seen, conv.weight, conv.bias, padding=(0, 1, 1))
    close(from_frames(sum_of_frames(to_frames(seen), conv.weight, conv.bias), 1), slow)


def test_flat_convolutions_serve_only_what_torch_would_run_slowly() -> None:
    assert by_frames(torch.empty(1, 4, 4, 4, 4))
    assert not by_frames(torch.empty(2, 4, 4, 4, 4))
    assert not by_frames(torch.empty(1, 256, 9, 9, 1))


@pytest.mark.parametrize(
    "change",
    [{"temporal_downsample": (True,)}, {"mean": (0.0,)}, {"std": (1.0, 1.0, 0.0, 1.0)}, {"patch": 0}],
)
def test_contradictions_are_refused(change: dict[str, object]) -> None:
    with pytest.raises(ValueError):
        replace(TINY, **change)


def test_attention_between_levels_is_refused() -> None:
    with pytest.raises(ValueError, match="attention"):
        VAEConfig.from_json({"attn_scales": [0.5]})
