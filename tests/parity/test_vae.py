"""The video autoencoder against recorded cases of the reference."""

from __future__ import annotations

import pytest
import torch

from infinite_talk.models.vae import VAEConfig, VideoVAE
from tests.golden import GoldenFile, cases

TOLERANCE = 2e-5


def load(case: GoldenFile) -> VideoVAE:
    vae = VideoVAE(VAEConfig.from_json(case.config))
    vae.load_state_dict(case.tensors("w/"), strict=True)
    return vae.eval()


def check(actual: torch.Tensor, expected: torch.Tensor) -> None:
    torch.testing.assert_close(actual, expected, atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize("case", cases("vae"), ids=lambda case: case.name)
@torch.inference_mode()
def test_encode_whole_and_in_chunks(case: GoldenFile) -> None:
    vae = load(case)
    videos = case.tensors("in/video_")
    assert videos
    for name, video in videos.items():
        expected = case[f"out/latent_{name}"]
        check(vae.encode(video[None])[0], expected)
        check(torch.cat(list(vae.encode_chunks(video[None])), dim=2)[0], expected)


@pytest.mark.parametrize("case", cases("vae"), ids=lambda case: case.name)
@torch.inference_mode()
def test_decode_whole_and_in_chunks(case: GoldenFile) -> None:
    vae = load(case)
    latents = case.tensors("in/latent_")
    assert latents
    for name, latent in latents.items():
        check(vae.decode_raw(latent[None])[0], case[f"out/raw_{name}"])
        expected = case[f"out/decoded_{name}"]
        check(vae.decode(latent[None])[0], expected)
        check(torch.cat(list(vae.decode_chunks(latent[None])), dim=2)[0], expected)
