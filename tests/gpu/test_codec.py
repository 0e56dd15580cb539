"""The codec's kernels on a GPU against their twins, and the whole codec in float16 against float32."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from bench.vae import full_vae
from infinite_talk.ops import codec
from infinite_talk.ops.codec import HOPPER, HOPPER_DOUBLED, Tiling

DEVICE = torch.device("cuda")
pytestmark = pytest.mark.gpu
hopper = pytest.mark.skipif(
    not torch.cuda.is_available() or torch.cuda.get_device_capability() != (9, 0),
    reason="tilings are for an H100 or H200",
)
HALVES = [torch.float16, torch.bfloat16]


@pytest.fixture(autouse=True)
def without_tensorfloat32() -> Iterator[None]:
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    with torch.inference_mode():
        yield
    torch.backends.cudnn.allow_tf32 = before


def noise(*shape: int, dtype: torch.dtype = torch.float16, seed: int = 1) -> Tensor:
    made = torch.randn(*shape, generator=torch.Generator().manual_seed(seed))
    last = torch.channels_last_3d if len(shape) == 5 else torch.preserve_format
    return made.to(DEVICE, dtype).contiguous(memory_format=last)


def near(found: Tensor, expected: Tensor, dtype: torch.dtype) -> None:
    """Within two roundings of numbers of the size of the largest."""
    apart = float((found.float() - expected.float()).abs().max())
    assert apart <= 2 * torch.finfo(dtype).eps * float(expected.abs().max())


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("channels", [24, 96, 192, 384])
@pytest.mark.parametrize("with_past", [True, False])
def test_the_norm_writes_padded_maps(dtype: torch.dtype, channels: int, with_past: bool) -> None:
    x, gamma = noise(2, channels, 3, 7, 9, dtype=dtype), noise(channels, dtype=dtype)
    x[0, :, 0, 0, 0] = 0  # a place without length
    past = noise(2, channels, 2, 9, 11, dtype=dtype, seed=2) if with_past else None
    found = codec.norm_silu_pad(x, gamma, past)
    near(found, codec.norm_silu_pad_eager(x, gamma, past), dtype)
    assert found.is_contiguous(memory_format=torch.channels_last_3d)
    border = found.clone()
    border[..., 1:-1, 1:-1] = 0
    assert not border[:, :, 2:].any()


@hopper
@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("size", [(2, 5, 7, 9), (1, 3, 16, 48), (1, 1, 4, 130)])
@pytest.mark.parametrize(("channels", "tiling"), HOPPER.items(), ids=str)
def test_causal_convolutions(
    channels: tuple[int, int], tiling: Tiling, size: tuple[int, int, int, int], dtype: torch.dtype
) -> None:
    """Batches, tails of frames and of pixels, with a shortcut and without."""
    (inputs, outputs), (batch, frames, height, width) = channels, size
    padded = noise(batch, inputs, frames + 2, height + 2, width + 2, dtype=dtype)
    weight = noise(outputs, inputs, 3, 3, 3, dtype=dtype, seed=2) / (27 * inputs) ** 0.5
    bias = noise(outputs, dtype=dtype, seed=3)
    shortcut = noise(batch, outputs, frames, height, width, dtype=dtype, seed=4)
    expected = functional.conv3d(padded.float(), weight.float(), bias.float())
    near(codec.tiled(padded, weight, bias, None, tiling), expected, dtype)
    near(codec.tiled(padded, weight, bias, shortcut, tiling), expected + shortcut.float(), dtype)


@hopper
@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("size", [(3, 7, 9), (1, 16, 32), (2, 1, 130)])
@pytest.mark.parametrize(("channels", "tiling"), HOPPER_DOUBLED.items(), ids=str)
def test_convolutions_of_doubled_pictures(
    channels: tuple[int, int], tiling: Tiling, size: tuple[int, int, int], dtype: torch.dtype
) -> None:
    (inputs, outputs), (frames, height, width) = channels, size
    x = noise(frames, inputs, height, width, dtype=dtype)
    weight = noise(outputs, inputs, 3, 3, dtype=dtype, seed=2) / (9 * inputs) ** 0.5
    bias = noise(outputs, dtype=dtype, seed=3)
    expected = codec.doubled_eager(x.float(), weight.float(), bias.float())
    near(codec.doubled_tiled(x, weight, bias, tiling), expected, dtype)


def test_float16_is_close_to_float32() -> None:
    """Full size, random weights that keep the stream's size, frames of 160x192."""
    latent = torch.randn(1, 16, 6, 20, 24, generator=torch.Generator().manual_seed(1)).to(DEVICE)
    video = torch.rand(1, 3, 9, 160, 192, generator=torch.Generator().manual_seed(2)).to(DEVICE) * 2 - 1
    exact, half = full_vae(DEVICE, torch.float32, 1), full_vae(DEVICE, torch.float16, 1)
    decoded, encoded = exact.decode(latent), exact.encode(video)
    assert (half.decode(latent) - decoded).abs().max() < 1e-2
    assert (half.encode(video) - encoded).norm() < 5e-3 * encoded.norm()
    for at_once in (1, 4):
        assert (half.decode_pieces(latent, at_once) - decoded).abs().max() < 1e-2
        assert (half.decode_pieces(latent, at_once, 128) - decoded).abs().max() < 1e-2


def test_pieces_repeat_to_the_bit() -> None:
    """No sum depends on who comes first."""
    half = full_vae(DEVICE, torch.float16, 1)
    latent = torch.randn(1, 16, 5, 8, 12, generator=torch.Generator().manual_seed(1)).to(DEVICE)
    assert torch.equal(half.decode_pieces(latent, 2), half.decode_pieces(latent, 2))
