"""The codec's convolutions on a CPU against their definitions. ``pytest tests/unit/test_causal_conv.py``"""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from infinite_talk.models.vae import VideoVAE
from infinite_talk.models.vae.layers import to_frames
from infinite_talk.ops import causal_conv, codec
from tests.unit.test_vae import TINY, make

SIZE = st.integers(1, 5)


def close(actual: Tensor, expected: Tensor, bound: float = 1e-5) -> None:
    """Within ``bound`` of the largest value."""
    error = (actual.double() - expected).abs().max() / expected.abs().max().clamp_min(1)
    assert error < bound, f"{error:.1e}"


def kernel(outputs: int, inputs: int, *size: int) -> Tensor:
    weight = torch.randn(outputs, inputs, *size)
    return weight / weight[0].numel() ** 0.5


@given(frames=st.integers(1, 15), height=SIZE, width=SIZE, channels=SIZE, biased=st.booleans())
@settings(max_examples=25, deadline=None)
@torch.inference_mode()
def test_minimal_filtering_equals_the_definition(
    frames: int, height: int, width: int, channels: int, biased: bool
) -> None:
    channels += causal_conv.NARROW - 2  # both ways
    x, weight = torch.randn(1, channels, 2 + frames, height, width), kernel(3, channels, 3, 3, 3)
    bias = torch.randn(3) if biased else None
    wide = None if bias is None else bias.double()
    exact = to_frames(functional.conv3d(x.double(), weight.double(), wide, padding=(0, 1, 1)))
    close(causal_conv.sum_of_frames(to_frames(x), weight, bias), exact)
    close(causal_conv.filtered_in_time(to_frames(x), weight, bias), exact)


@torch.inference_mode()
def test_it_holds_in_many_blocks_and_at_the_width_of_the_model(monkeypatch: pytest.MonkeyPatch) -> None:
    x, weight, bias = torch.randn(1, 144, 13, 6, 6), kernel(144, 144, 3, 3, 3), torch.randn(144)
    exact = to_frames(functional.conv3d(x.double(), weight.double(), bias.double(), padding=(0, 1, 1)))
    frames = to_frames(x.contiguous(memory_format=torch.channels_last_3d))
    before = frames.clone()
    close(causal_conv.filtered_in_time(frames, weight, bias), exact)
    monkeypatch.setattr(causal_conv, "BLOCK_BYTES", 1)
    close(causal_conv.filtered_in_time(frames, weight, bias), exact)
    assert torch.equal(frames, before)


@given(frames=st.integers(1, 3), height=SIZE, width=SIZE, channels=SIZE, biased=st.booleans())
@settings(max_examples=15, deadline=None)
@torch.inference_mode()
def test_a_doubled_picture_needs_no_doubling(
    frames: int, height: int, width: int, channels: int, biased: bool
) -> None:
    x, weight = torch.randn(frames, channels, height, width), kernel(2, channels, 3, 3)
    bias = torch.randn(2) if biased else None
    doubled = functional.interpolate(x.double(), scale_factor=2.0, mode="nearest")
    exact = functional.conv2d(doubled, weight.double(), None if bias is None else bias.double(), padding=1)
    close(codec.doubled_by_places(x, weight, bias), exact)


@given(frames=st.integers(3, 9), height=SIZE, width=SIZE, batch=st.integers(1, 2), stride=st.integers(1, 2))
@settings(max_examples=20, deadline=None)
@torch.inference_mode()
def test_kernels_of_one_pixel_are_matrix_products(
    frames: int, height: int, width: int, batch: int, stride: int
) -> None:
    x, weight, bias = torch.randn(batch, 4, frames, height, width), kernel(6, 4, 3, 1, 1), torch.randn(6)
    exact = functional.conv3d(x.double(), weight.double(), bias.double(), stride=(stride, 1, 1))
    close(causal_conv.along_time(x, weight, bias, stride), exact)
    weight = kernel(6, 4, 1, 1, 1)
    exact = functional.conv3d(x.double(), weight.double(), bias.double())
    close(causal_conv.along_channels(x, weight, bias), exact)


def test_the_codec_takes_this_way_without_gradients_only(monkeypatch: pytest.MonkeyPatch) -> None:
    vae: VideoVAE = make(replace(TINY, dim=16))
    latent, video = torch.randn(1, 4, 4, 2, 3), torch.rand(1, 3, 9, 16, 24) * 2 - 1
    asked: list[bool] = []
    filtered = causal_conv._by_four
    monkeypatch.setattr(causal_conv, "_by_four", lambda *a: (asked.append(True), filtered(*a))[1])
    slow_video, slow_latent = vae.decode_raw(latent), vae.encode(video)
    assert not asked
    with torch.inference_mode():
        close(vae.decode_raw(latent), slow_video.detach().double(), 2e-5)
        assert asked
        close(vae.encode(video), slow_latent.detach().double(), 2e-5)


@torch.inference_mode()
def test_half_precision_is_left_to_torch() -> None:
    assert causal_conv.suits(torch.empty(1))
    assert not causal_conv.suits(torch.empty(1, dtype=torch.bfloat16))
    assert not causal_conv.suits(torch.empty(1, device="meta"))
