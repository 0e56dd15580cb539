"""The tiny decoder: pieces equal the whole, and both equal frames computed one at a time as TAEHV describes them."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from infinite_talk.models.tiny_vae import TinyVAE, TinyVAEConfig, keys
from infinite_talk.models.tiny_vae.config import by_name
from infinite_talk.models.vae.config import WAN_MEAN, WAN_STD
from infinite_talk.weights.builder import build
from tests.parts import PARTS, random_weights

PART = PARTS["tiny_vae"]
WEIGHTS = random_weights(PART)


def decoder(config: TinyVAEConfig = PART.tiny, weights: dict[str, Tensor] = WEIGHTS) -> TinyVAE:
    """In float64: what could be added in another order by a faster convolution then shows in no digit."""
    return build(lambda: TinyVAE(config), weights, dtype=torch.float64)


def noise(frames: int, batch: int = 1, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return 2 * torch.randn(batch, 16, frames, 3, 2, generator=generator)


def close(actual: Tensor, expected: Tensor, atol: float = 3e-7) -> None:
    torch.testing.assert_close(actual, expected, atol=atol, rtol=0)


class Slow:
    """One latent after another through the layers by their numbers, each frame for itself; no batch.

    0 soft clamp, 1 convolution, 2 ReLU; then three times: three blocks that see the frame before, doubling of the
    picture, growth in time, a convolution; ReLU and a last convolution.
    """

    def __init__(self, weights: dict[str, Tensor]) -> None:
        self.weights = weights
        self.past: dict[int, Tensor] = {}

    def frames(self, latent: Tensor) -> list[Tensor]:
        """``(16, h, w)`` to four frames ``(3, 8 h, 8 w)`` in [0, 1]."""
        work = [self.conv(1, torch.tanh(latent / 3) * 3).relu()]
        for stage, growth in enumerate((1, 2, 2)):
            first = 3 + 6 * stage
            for layer in (first, first + 1, first + 2):
                work = [self.block(layer, frame) for frame in work]
            work = [frame.repeat_interleave(2, 1).repeat_interleave(2, 2) for frame in work]
            work = [part for frame in work for part in self.conv(f"{first + 4}.conv", frame).chunk(growth)]
            work = [self.conv(first + 5, frame) for frame in work]
        return [self.conv(22, frame.relu()).clamp(0, 1) for frame in work]

    def block(self, layer: int, frame: Tensor) -> Tensor:
        past = self.past.get(layer, torch.zeros_like(frame))
        self.past[layer] = frame
        x = torch.cat([frame, past])
        for number in (0, 2, 4):
            x = self.conv(f"{layer}.conv.{number}", x)
            x = x.relu() if number < 4 else x
        return (x + frame).relu()

    def conv(self, name: int | str, x: Tensor) -> Tensor:
        weight = self.weights[f"decoder.{name}.weight"]
        bias = self.weights.get(f"decoder.{name}.bias")
        return functional.conv2d(x[None], weight, bias, padding=weight.shape[-1] // 2)[0]


@torch.inference_mode()
def test_frames_are_those_of_the_slow_way() -> None:
    latent, slow = noise(3), Slow({name: tensor.double() for name, tensor in WEIGHTS.items()})
    frames = [frame for one in latent[0].double().unbind(1) for frame in slow.frames(one)]
    video = decoder().decode(latent)
    assert video.shape == (1, 3, 9, 24, 16) and video.dtype == torch.float32
    close(video[0], torch.stack(frames[3:], dim=1).float() * 2 - 1)
    assert video.std() > 0.1


@given(frames=st.integers(1, 6), piece=st.integers(1, 6), batch=st.integers(1, 2))
@settings(max_examples=15, deadline=None)
@torch.inference_mode()
def test_pieces_equal_the_whole(frames: int, piece: int, batch: int) -> None:
    tiny, latent = decoder(), noise(frames, batch)
    whole = tiny.decode(latent)
    assert whole.shape == (batch, 3, 4 * (frames - 1) + 1, 24, 16)
    pieces = list(tiny.decode_chunks(latent, piece))
    assert pieces[0].shape[2] == 4 * (min(piece, frames) - 1) + 1
    close(torch.cat(pieces, dim=2), whole)


@torch.inference_mode()
def test_batches_do_not_see_each_other() -> None:
    tiny, latent = decoder(), noise(3, batch=2)
    close(tiny.decode(latent), torch.cat([tiny.decode(one[None]) for one in latent]))


@torch.inference_mode()
def test_nothing_looks_ahead() -> None:
    tiny, latent = decoder(), noise(4)
    other = torch.cat([latent[:, :, :2], noise(2, seed=1)], dim=2)
    close(tiny.decode(other)[:, :, :5], tiny.decode(latent)[:, :, :5])
    assert not torch.allclose(tiny.decode(other)[:, :, 5:], tiny.decode(latent)[:, :, 5:])


@torch.inference_mode()
def test_the_light_kind_takes_latents_before_normalisation() -> None:
    latent = noise(2)
    mean, std = (torch.tensor(numbers).view(1, 16, 1, 1, 1) for numbers in (WAN_MEAN, WAN_STD))
    light = decoder(replace(PART.tiny, denormalise=True))
    close(light.decode(latent), decoder().decode(latent * std + mean))


@pytest.mark.parametrize(
    ("name", "light"),
    [
        ("taew2_1.pth", False),
        ("taew2_1.safetensors", False),
        ("lighttaew2_1.pth", True),
        ("models/vae_approx/LightTAEW2_1.safetensors", True),
        ("lighttae/taew2_1.pth", False),
    ],
)
def test_the_light_kind_by_its_name(name: str, light: bool) -> None:
    assert by_name(name) is light


@torch.inference_mode()
def test_a_file_that_grows_by_more_gives_its_last_frames() -> None:
    """Decoders trained for another rhythm hold weights for more frames; TAEHV takes the last of them."""
    other = random_weights(PART, seed=1)["decoder.7.conv.weight"]
    stored = WEIGHTS | {"decoder.7.conv.weight": torch.cat([other, WEIGHTS["decoder.7.conv.weight"]])}
    config = keys.config_of({name: tuple(tensor.shape) for name, tensor in stored.items()})
    assert config.stored_growth == (2, 2, 2) and config.temporal_stride == 4
    read = keys.dialects(config)[0].read(stored)
    close(decoder(config, dict(read)).decode(noise(2)), decoder().decode(noise(2)))


@torch.inference_mode()
def test_pixels_folded_into_channels() -> None:
    """A decoder of 2 x 2 pixels in each output cell."""
    config = replace(PART.tiny, patch=2)
    generator = torch.Generator().manual_seed(5)
    last = torch.randn(12, 4, 3, 3, generator=generator)
    weights = WEIGHTS | {"decoder.22.weight": last, "decoder.22.bias": torch.zeros(12)}
    assert keys.config_of({name: tuple(tensor.shape) for name, tensor in weights.items()}) == config
    video = decoder(config, weights).decode(noise(2))
    assert video.shape == (1, 3, 5, 48, 32) and config.spatial_stride == 16
    corners = WEIGHTS | {"decoder.22.weight": last[::4], "decoder.22.bias": torch.zeros(3)}
    close(video[..., ::2, ::2], decoder(weights=corners).decode(noise(2)))


@torch.inference_mode()
def test_in_half_precision() -> None:
    half = build(lambda: TinyVAE(PART.tiny), WEIGHTS, dtype=torch.bfloat16)
    video = half.decode(noise(2))
    assert half.dtype == torch.bfloat16 and video.dtype == torch.float32
    assert (video - decoder().decode(noise(2))).abs().mean() < 0.05
