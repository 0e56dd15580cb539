"""A picture with one colour behind it is encoded for the work of a few frames, to the same bits."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from infinite_talk.models.vae import VAEConfig, VideoVAE
from infinite_talk.models.vae.layers import Downsample
from infinite_talk.models.vae.still import constant_from, encode_still, layers_of
from tests.unit.memory.test_costs import WAN_VAE
from tests.unit.test_vae import TINY, make

DEEP = replace(TINY, dim=2, dim_mult=(1, 1, 1, 1), num_res_blocks=2, temporal_downsample=(False, True, True))


def behind(picture: torch.Tensor, frames: int, colour: float) -> torch.Tensor:
    """The whole video."""
    video = torch.full((1, 3, frames, *picture.shape[2:]), colour)
    video[:, :, 0] = picture
    return video


@pytest.mark.parametrize("config", [TINY, DEEP, replace(DEEP, num_res_blocks=1)], ids=["tiny", "wan", "wan1"])
@given(frames=st.integers(1, 140), colour=st.sampled_from([0.0, -0.5]))
@settings(max_examples=4, deadline=None)
@torch.inference_mode()
def test_it_is_the_whole_encode(config: VAEConfig, frames: int, colour: float) -> None:
    vae, picture = make(config), torch.rand(1, 3, 16, 32) * 2 - 1
    video = behind(picture, frames, colour)
    found = encode_still(vae, picture, frames, colour)
    assert torch.equal(found, torch.cat(list(vae.encode_chunks(video)), dim=2))
    torch.testing.assert_close(found, vae.encode(video), atol=2e-5, rtol=0)


@torch.inference_mode()
def test_no_layer_gives_the_same_earlier_than_is_said() -> None:
    """So that nothing is worked on for longer than needed: the group before still differs, for each layer."""
    vae = make(DEEP)
    layers = layers_of(vae)
    constant = constant_from(layers, vae.config.temporal_stride)
    picture = torch.rand(1, 3, 16, 16) * 2 - 1
    told: list[list[torch.Tensor]] = [[] for _ in layers]
    for layer, outputs in zip(layers, told, strict=True):
        layer.register_forward_hook(
            lambda _layer, _inputs, output, outputs=outputs: outputs.append(output.clone())
        )
    list(vae.encode_chunks(behind(picture, 1 + 4 * (max(constant) + 2), 0.0)))
    for group, outputs in zip(constant, told, strict=True):
        assert torch.equal(outputs[group], outputs[-1])
    # Of the deeper layers rounding may hide the last trace of the picture.
    for group, outputs in list(zip(constant, told, strict=True))[:6]:
        assert not torch.equal(outputs[group - 1], outputs[-1])


def test_the_figures_of_the_docstring() -> None:
    with torch.device("meta"):
        layers = layers_of(VideoVAE(WAN_VAE))
    groups = constant_from(layers, 4)
    halvings = [number for number, layer in enumerate(layers) if isinstance(layer, Downsample)]
    assert [1 + 4 * groups[number - 1] for number in halvings] == [17, 25, 45]
    assert groups[halvings[-1] + 2] >= 20
