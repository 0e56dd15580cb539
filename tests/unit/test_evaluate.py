"""The evaluation that decides whether a trained model ships: good frames pass, bad ones show."""

from __future__ import annotations

import math

import pytest
import torch

from tests.drawn import SIZE, Drawn, draw_clips
from training.degrade import gaussian_blur
from training.evaluate import Truth, box_mask, psnr, show, talk_report, vae_report
from training.portraits import identities, poses

SEEDS = [1_000_061, 1_000_062]
FRAMES = 24


@pytest.fixture(scope="module")
def drawn() -> Drawn:
    return draw_clips(SEEDS, FRAMES)


@pytest.fixture(scope="module")
def truth(drawn: Drawn) -> Truth:
    seeds = torch.tensor(SEEDS)
    return Truth.of(identities(seeds), poses(seeds, FRAMES, start_frame=30), drawn.mouth, SIZE)


@pytest.fixture(scope="module")
def frames(drawn: Drawn) -> torch.Tensor:
    return drawn.frames.permute(0, 1, 4, 2, 3).float() / 255


def test_psnr_is_the_decibel_of_the_squared_error():
    assert float(psnr(torch.tensor(0.01))) == pytest.approx(20.0)
    assert float(psnr(torch.tensor(0.0))) == pytest.approx(60.0)


def test_a_box_mask_holds_the_box_alone():
    mask = box_mask(torch.tensor([[[2, 4, 1, 5]]]), 6, 8)
    assert mask.shape == (1, 1, 1, 6, 8)
    assert int(mask.sum()) == 8
    assert float(mask[0, 0, 0, 2:4, 1:5].min()) == 1


def test_a_perfect_autoencoder_is_perfect(frames, truth):
    report = vae_report(frames, frames, truth)
    assert report["psnr"]["least"] == pytest.approx(60.0)
    assert report["r opening"] == report["r opening of the true frames"]
    assert report["r opening"]["mean"] > 0.95


def test_blur_and_noise_lower_what_they_should(frames, truth):
    blurred = gaussian_blur(frames.flatten(0, 1), 2.5).view_as(frames)
    report = vae_report(frames, blurred, truth)
    assert report["psnr mouth"]["mean"] < report["psnr"]["mean"] < 40
    noisy = frames + 0.1 * torch.randn(frames.shape, generator=torch.Generator().manual_seed(0))
    assert vae_report(frames, noisy, truth)["psnr"]["mean"] == pytest.approx(-20 * math.log10(0.1), abs=1.0)


def test_true_frames_talk(frames, truth):
    report = talk_report(frames, frames, truth, seams=[12])
    assert report["r opening"]["mean"] > 0.95
    assert report["lag"]["least"] == report["lag"]["most"] == 0.0
    assert 0.85 < report["amplitude"]["mean"] < 1.15
    assert abs(report["r with another clip"]["mean"]) < 0.6
    assert report["psnr outside, window 2"]["least"] == pytest.approx(60.0)
    assert report["colour drift, window 1"]["most"] == 0.0
    assert "r opening" in show(report)


def test_late_frozen_and_foreign_mouths_show(frames, truth):
    late = talk_report(frames, frames.roll(3, dims=1), truth)
    assert late["lag"]["mean"] == pytest.approx(3.0, abs=0.6)
    frozen = talk_report(frames, frames[:, :1].expand_as(frames), truth)
    assert frozen["amplitude"]["most"] < 0.05
    assert abs(frozen["r opening"]["mean"]) < 0.5
    foreign = talk_report(frames, frames.flip(0), truth)
    assert foreign["r opening"]["mean"] < 0.6


def test_colour_drift_is_measured_window_by_window(frames, truth):
    drifting = frames.clone()
    drifting[:, 12:, 0] += 0.04
    report = talk_report(frames, drifting.clamp(0, 1), truth, seams=[12])
    assert report["colour drift, window 1"]["most"] == 0.0
    assert report["colour drift, window 2"]["mean"] == pytest.approx(255 * 0.04, rel=0.1)
    assert report["psnr outside, window 2"]["mean"] < report["psnr outside, window 1"]["mean"]


def test_an_open_mouth_in_silence_shows(frames, truth):
    silent = torch.zeros(2, FRAMES, dtype=torch.bool)
    assert "closed in silence" not in talk_report(frames, frames, truth, silent=silent)
    silent[:] = truth.opening > 0.05
    assert talk_report(frames, frames, truth, silent=silent)["closed in silence"]["mean"] < 0.2
