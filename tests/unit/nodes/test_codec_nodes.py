"""Encoding and decoding: both shapes of a sampler's result, and nothing that is handed in changes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from infinite_talk.errors import InputError, UsageError
from infinite_talk.media.encode import write_segment
from infinite_talk.nodes import (
    WanVideoDecode,
    WanVideoEncode,
    WanVideoEncodeLatentBatch,
    WanVideoPassImagesFromSamples,
    WanVideoTinyVAELoader,
    WanVideoVAELoader,
)
from infinite_talk.nodes.handles import Vae
from infinite_talk.rooms import Rooms
from tests.unit.nodes.conftest import pictures


@pytest.fixture
def vae(tiny_bundle: Path):
    return WanVideoVAELoader().loadmodel(str(tiny_bundle))[0]


def latents(frames: int = 3, seed: int = 0) -> torch.Tensor:
    return torch.randn(1, 16, frames, 8, 8, generator=torch.Generator().manual_seed(seed))


def decode(vae, samples, **more) -> torch.Tensor:
    return WanVideoDecode().decode(vae, samples, **more)[0]


def test_latents_become_the_engines_frames_as_often_as_they_are_asked_for(vae, engine_rooms: Rooms) -> None:
    samples = {"samples": latents(), "has_ref": False}
    before = samples["samples"].clone()
    first, second = decode(vae, samples), decode(vae, samples)
    expected = (engine_rooms.decode_video(before[0]).clamp(-1, 1) + 1) / 2
    torch.testing.assert_close(first, expected.permute(1, 2, 3, 0), atol=1e-4, rtol=1e-4)
    assert torch.equal(first, second)
    assert torch.equal(samples["samples"], before)
    assert first.shape == (9, 64, 64, 3)
    assert first.device.type == "cpu"


def test_finished_frames_need_no_codec_and_stay_as_they_are() -> None:
    video = torch.linspace(-1.5, 1.5, 2 * 4 * 4 * 3).reshape(2, 4, 4, 3)
    samples = {"video": video.clone(), "output_path": ""}
    for _ in range(2):
        torch.testing.assert_close(decode(None, samples), (video.clamp(-1, 1) + 1) / 2)
    assert torch.equal(samples["video"], video)
    images, path = WanVideoPassImagesFromSamples().decode(samples)
    torch.testing.assert_close(images, (video.clamp(-1, 1) + 1) / 2)
    assert path == ""


def test_normalisations() -> None:
    video = torch.tensor([-0.5, 0.0, 1.5]).reshape(1, 1, 1, 3)
    samples = {"video": video, "output_path": ""}
    assert torch.equal(decode(None, samples, normalization="minmax").flatten(), torch.tensor([0, 0.25, 1.0]))
    assert torch.equal(decode(None, samples, normalization="none"), video)


@pytest.mark.parametrize("form", ["pictures", "film"])
def test_frames_on_the_disk_are_read_back(tmp_path: Path, form: str) -> None:
    levels = np.zeros((3, 32, 32, 3), np.uint8)
    levels[:] = np.array([40, 120, 200])[:, None, None, None]
    if form == "pictures":
        for i, one in enumerate(levels):
            Image.fromarray(one).save(tmp_path / f"frame_{i:05}.png")
    else:
        write_segment(tmp_path / "video.mp4", levels, crf=1)
    for video in (None, torch.zeros(1, 64, 64, 3)):  # the pack hands a black picture over
        images, path = WanVideoPassImagesFromSamples().decode({"video": video, "output_path": str(tmp_path)})
        np.testing.assert_allclose(images * 255, levels, atol=2)
        assert path == str(tmp_path)


def test_a_folder_that_was_emptied_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no frames"):
        decode(None, {"video": None, "output_path": str(tmp_path)})
    (tmp_path / "frame_00000.png").write_bytes(b"damaged")
    with pytest.raises(InputError, match="cannot be read"):
        decode(None, {"video": None, "output_path": str(tmp_path)})


@pytest.mark.parametrize("missing", [None, Vae()])
def test_latents_without_a_codec_say_so(missing: Vae | None) -> None:
    with pytest.raises(UsageError, match="VAE is not loaded; load models first"):
        decode(missing, {"samples": latents()})


@pytest.mark.parametrize(
    ("samples", "said"),
    [
        ({"frames": 1, "path": 2}, r"keys frames, path; known are samples, .*video, output_path"),
        ({}, r"\(none\)"),
        (({"samples": 1},), "take its first entry"),
        (None, "is a NoneType"),
        ({"samples": [1]}, "latents are list"),
        ({"video": torch.zeros(2, 3, 4, 4)}, r"video is \(2, 3, 4, 4\)"),
    ],
)
def test_anything_else_is_an_error_that_lists_keys(vae, samples: object, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        decode(vae, samples)


def test_the_log_says_what_came_and_what_was_done(vae, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    decode(vae, {"samples": latents(), "looped": False})
    assert "samples (1, 16, 3, 8, 8), looped bool" in caplog.text
    assert "Latents (1, 16, 3, 8, 8) are decoded" in caplog.text
    decode(None, {"video": torch.zeros(2, 4, 4, 3), "output_path": ""})
    assert "Finished frames (2, 4, 4, 3) are passed on" in caplog.text


def test_references_and_last_latents_are_left_out(vae) -> None:
    given = latents(4)
    for flags, kept in (({"has_ref": True}, given[:, :, 1:]), ({"drop_last": True}, given[:, :, :-1])):
        torch.testing.assert_close(decode(vae, {"samples": given, **flags}), decode(vae, {"samples": kept}))
    shorter = decode(vae, {"samples": given, "end_image": torch.zeros(3, 1, 64, 64)})
    assert torch.equal(shorter, decode(vae, {"samples": given})[:-1])


def test_a_loop_is_closed_by_its_own_neighbours(vae) -> None:
    given = latents(6)
    frames = decode(vae, {"samples": given})
    seam = decode(vae, {"samples": torch.cat([given[:, :, -3:], given[:, :, :2]], 2)})
    looped = decode(vae, {"samples": given, "looped": True})
    torch.testing.assert_close(looped, torch.cat([seam[9:], frames[5:]]))


def test_tiles_give_the_same_frames_and_have_to_overlap(vae) -> None:
    whole = decode(vae, {"samples": latents()})
    tiled = decode(
        vae,
        {"samples": latents()},
        enable_vae_tiling=True,
        tile_x=40,
        tile_y=48,
        tile_stride_x=32,
        tile_stride_y=32,
    )
    torch.testing.assert_close(tiled, whole, atol=1e-3, rtol=0)
    with pytest.raises(UsageError, match="tile_x is 144"):
        decode(vae, {"samples": latents()}, enable_vae_tiling=True, tile_x=144)


def test_a_video_is_encoded_as_the_engine_encodes_it(vae, engine_rooms: Rooms) -> None:
    shown = pictures(7)
    (samples,) = WanVideoEncode().encode(vae, shown, latent_strength=0.5)
    expected = engine_rooms.encode_video((shown[:5] * 2 - 1).permute(3, 0, 1, 2)) / 2
    torch.testing.assert_close(samples["samples"], expected[None], atol=1e-5, rtol=1e-5)
    assert samples["noise_mask"] is None
    mask = torch.ones(1, 8, 8)
    (odd,) = WanVideoEncode().encode(vae, pictures(1, 70, 90), mask=mask)
    assert odd["samples"].shape == (1, 16, 1, 8, 10)
    assert odd["noise_mask"] is mask


def test_noise_leaves_black_alone(vae) -> None:
    black = torch.zeros(1, 64, 64, 3)
    plain, noisy = (
        WanVideoEncode().encode(vae, black, noise_aug_strength=s)[0]["samples"] for s in (0.0, 1.0)
    )
    assert torch.equal(plain, noisy)
    grey = black + 0.5
    assert not torch.equal(
        WanVideoEncode().encode(vae, grey)[0]["samples"],
        WanVideoEncode().encode(vae, grey, noise_aug_strength=1.0)[0]["samples"],
    )


def test_a_batch_of_pictures_is_one_latent_each(vae) -> None:
    shown = pictures(3)
    (samples,) = WanVideoEncodeLatentBatch().encode(vae, shown)
    assert samples["samples"].shape == (3, 16, 1, 8, 8)
    (alone,) = WanVideoEncode().encode(vae, shown[1:2])
    torch.testing.assert_close(samples["samples"][1:2], alone["samples"])


def test_the_embedded_model_has_no_tiny_decoder_and_its_codec_decodes() -> None:
    (vae,) = WanVideoTinyVAELoader().loadmodel("embedded")
    assert decode(vae, {"samples": latents(1)}).shape == (1, 64, 64, 3)
