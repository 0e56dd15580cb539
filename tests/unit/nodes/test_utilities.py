"""Small tools beside the sampler."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from infinite_talk.errors import InputError, UsageError
from infinite_talk.models.vae.config import WAN_MEAN, WAN_STD
from infinite_talk.nodes import (
    DummyComfyWanModelObject,
    FaceMaskFromPoseKeypoints,
    NormalizeAudioLoudness,
    WanVideoAddExtraLatent,
    WanVideoAddPusaNoise,
    WanVideoImageResizeToClosest,
    WanVideoLatentReScale,
)
from infinite_talk.nodes.utilities import closest_size


@given(st.integers(64 * 64, 2000 * 2000), st.floats(0.2, 5.0))
def test_the_closest_size_fits_tokens_and_area(area: int, shape: float):
    height, width = closest_size(area, shape)
    assert height % 16 == width % 16 == 0
    assert height * width <= area
    assert (height + 16) ** 2 > area * shape, "one token more would be too high"
    assert (width + 16) ** 2 > area / shape


def test_pictures_keep_their_shape_or_take_the_new_one():
    images = torch.rand(2, 90, 160, 3)
    node = WanVideoImageResizeToClosest()
    kept, width, height = node.process(images, 128, 128, "keep_input")
    assert (height, width) == (96, 160)
    assert kept.shape == (2, 96, 160, 3)
    for how in ("stretch_to_new", "crop_to_new"):
        new, width, height = node.process(images, 160, 64, how)
        assert (height, width) == (64, 160) == tuple(new.shape[1:3])
    halves = torch.zeros(1, 64, 64, 3)
    halves[:, :, 32:] = 1
    cut, *_ = node.process(halves, 64, 64, "crop_to_new")
    assert torch.equal(cut, halves)


def test_sound_comes_to_the_asked_loudness_with_one_factor():
    import pyloudnorm

    seconds = torch.arange(48000) / 24000
    stereo = torch.stack([torch.sin(2700 * seconds) * 0.02, torch.sin(1500 * seconds) * 0.05])
    batch = torch.stack([stereo, stereo * 3])
    (found,) = NormalizeAudioLoudness().normalize({"waveform": batch, "sample_rate": 24000}, -18.0)
    for item in found["waveform"]:
        loudness = pyloudnorm.Meter(24000).integrated_loudness(item.numpy().T)
        assert loudness == pytest.approx(-18.0, abs=0.05)
        factor = item.abs().max(dim=1).values / stereo.abs().max(dim=1).values
        assert factor[0] == pytest.approx(float(factor[1]), rel=1e-4)


@pytest.mark.parametrize("samples", [100, 24000])
def test_silence_stays_and_short_sounds_are_measured(samples: int):
    silence = {"waveform": torch.zeros(1, 1, samples), "sample_rate": 24000}
    assert torch.equal(NormalizeAudioLoudness().normalize(silence)[0]["waveform"], silence["waveform"])
    tone = torch.sin(torch.arange(samples) / 4)[None, None] * 0.01
    (found,) = NormalizeAudioLoudness().normalize({"waveform": tone, "sample_rate": 24000})
    assert found["waveform"].abs().max() > 3 * tone.abs().max()


def test_latents_go_to_the_models_scale_and_back():
    given_ = {"samples": torch.randn(1, 16, 2, 3, 4), "noise_mask": None}
    before = given_["samples"].clone()
    (inside,) = WanVideoLatentReScale().encode(given_, "comfy_to_wrapper")
    channel = (before[:, 3] - WAN_MEAN[3]) / WAN_STD[3]
    torch.testing.assert_close(inside["samples"][:, 3], channel)
    (back,) = WanVideoLatentReScale().encode(inside, "wrapper_to_comfy")
    torch.testing.assert_close(back["samples"], before)
    assert torch.equal(given_["samples"], before)
    assert "noise_mask" in back
    with pytest.raises(InputError, match="expected \\(B, 16, T, h, w\\)"):
        WanVideoLatentReScale().encode({"samples": torch.zeros(1, 48, 1, 2, 2)})


def test_embeds_are_extended_in_a_copy():
    embeds: dict = {"target_h": 1}
    latent = {"samples": torch.zeros(1, 16, 1, 2, 2)}
    (once,) = WanVideoAddExtraLatent().add(embeds, latent, 0)
    (twice,) = WanVideoAddExtraLatent().add(once, latent, -1)
    assert embeds == {"target_h": 1}
    assert [entry["index"] for entry in once["extra_latents"]] == [0]
    assert [entry["index"] for entry in twice["extra_latents"]] == [0, -1]
    (noisy,) = WanVideoAddPusaNoise().add(embeds, [0.1, 0.2], 3)
    assert noisy == {"target_h": 1, "pusa_noise_multipliers": [0.1, 0.2], "pusa_noisy_steps": 3}


def test_the_dummy_model_knows_the_shifted_sigmas():
    """Formula: ``s t / (1 + (s - 1) t)`` for t = 1/1000 .. 1."""
    (model,) = DummyComfyWanModelObject().create(5.0)
    sampling = model.get_model_object("model_sampling")
    assert model.get_model_object("latent_format") is None
    times = np.arange(1, 1001) / 1000
    np.testing.assert_allclose(sampling.sigmas.numpy(), 5 * times / (1 + 4 * times), rtol=1e-6)
    assert float(sampling.sigma_max) == 1
    assert float(sampling.sigma(torch.tensor(500.0))) == pytest.approx(2.5 / 3)
    assert float(sampling.timestep(torch.tensor(0.5))) == 500
    assert [sampling.percent_to_sigma(p) for p in (-1, 0, 1, 2)] == [1, 1, 0, 0]
    with pytest.raises(UsageError, match="above 0"):
        DummyComfyWanModelObject().create(0.0)


def person(x: float, y: float, radius: float = 12) -> dict:
    """A face: 17 points of the jaw below, others above, all on a circle."""
    angles = np.concatenate([np.linspace(0, np.pi, 17), np.linspace(np.pi, 2 * np.pi, 53)])
    points = np.stack([x + radius * np.cos(angles), y + radius * np.sin(angles), np.ones(70)], axis=1)
    return {"face_keypoints_2d": points.ravel().tolist()}


def frame(*people: dict) -> dict:
    return {"canvas_width": 100, "canvas_height": 80, "people": list(people)}


def test_a_face_mask_is_the_inside_of_the_jaw():
    (mask,) = FaceMaskFromPoseKeypoints().createmask([frame(person(40, 30))])
    assert mask.shape == (1, 80, 100)
    assert set(mask.unique().tolist()) == {0.0, 1.0}
    assert mask[0, 35, 40] == 1
    assert mask[0, 25, 40] == 0, "above the jaw's ends"
    assert float(mask.sum()) == pytest.approx(np.pi * 12**2 / 2, rel=0.15)


def test_a_person_is_followed_also_through_frames_without_faces():
    frames = [frame(person(70, 30), person(20, 30)), frame(), frame(person(24, 32), person(66, 30))]
    (mask,) = FaceMaskFromPoseKeypoints().createmask(frames, 1)
    assert mask[0, 35, 20] == 1
    assert mask[1].sum() == 0
    assert mask[2, 37, 24] == 1
    assert mask[2, 35, 66] == 0
    (first,) = FaceMaskFromPoseKeypoints().createmask(frames, 7)
    assert first[0, 35, 70] == 1, "there is no eighth person: the first one"


def test_what_cannot_be_a_face_gives_no_mask():
    wrong = [person(40, 30, 0.5), person(50, 40, 200), {"face_keypoints_2d": []}, {}]
    (mask,) = FaceMaskFromPoseKeypoints().createmask([frame(one) for one in wrong])
    assert mask.sum() == 0
    with pytest.raises(InputError, match="empty"):
        FaceMaskFromPoseKeypoints().createmask([])
    with pytest.raises(InputError, match="canvases"):
        FaceMaskFromPoseKeypoints().createmask([frame(), frame() | {"canvas_width": 10}])
