"""Pictures for the sampler: the keys of the node pack, and the engine's own reference latents."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from infinite_talk.conditioning.image import encode_reference
from infinite_talk.errors import CapabilityError, InputError, UsageError
from infinite_talk.nodes import (
    WanVideoEmptyEmbeds,
    WanVideoImageToVideoEncode,
    WanVideoImageToVideoMultiTalk,
    WanVideoImageToVideoSkyreelsv3_audio,
    WanVideoVAELoader,
)
from infinite_talk.nodes.handles import Vae
from infinite_talk.rooms import Rooms
from tests.unit.nodes.conftest import pictures

KEYS = {
    *(
        "multitalk_sampling",
        "multitalk_start_image",
        "frame_window_size",
        "motion_frame",
        "target_h",
        "target_w",
    ),
    *("tiled_vae", "force_offload", "colormatch", "vae", "target_shape", "clip_context", "multitalk_mode"),
    "output_path",
}


@pytest.fixture
def vae(tiny_bundle: Path):
    return WanVideoVAELoader().loadmodel(str(tiny_bundle))[0]


def talk(vae, **more) -> tuple[dict, str]:
    small = {"width": 64, "height": 64, "frame_window_size": 17, "motion_frame": 5}
    return WanVideoImageToVideoMultiTalk().process(vae, **{**small, **more})


def test_a_long_video_is_told_by_the_keys_of_the_pack(vae) -> None:
    clip = {"clip_embeds": torch.rand(1, 5, 8), "negative_clip_embeds": None}
    shown = pictures(3)
    embeds, folder = talk(vae, start_image=shown, clip_embeds=clip, frame_window_size=20, colormatch="mkl")
    assert set(embeds) == KEYS
    assert (embeds["frame_window_size"], embeds["target_shape"]) == (17, (16, 5, 8, 8))
    assert embeds["multitalk_mode"] == "multitalk"
    assert embeds["clip_context"] is clip["clip_embeds"]
    assert folder == embeds["output_path"] == ""
    expected = (shown * 2 - 1).permute(3, 0, 1, 2)[None]
    torch.testing.assert_close(embeds["multitalk_start_image"], expected)


def test_pictures_of_another_size_are_stretched_by_lanczos(vae) -> None:
    levels = np.random.default_rng(0).integers(0, 255, (40, 100, 3), np.uint8)
    embeds, _ = talk(vae, start_image=torch.from_numpy(levels).float()[None] / 255)
    expected = np.asarray(Image.fromarray(levels).resize((64, 64), Image.Resampling.LANCZOS))
    found = (embeds["multitalk_start_image"][0, :, 0].permute(1, 2, 0) + 1) / 2 * 255
    np.testing.assert_allclose(found, expected, atol=1e-3)


def test_every_run_gets_a_folder_of_its_own(vae, tmp_path: Path) -> None:
    folders = [talk(vae, output_path=str(tmp_path / "out"), mode="infinitetalk")[1] for _ in range(3)]
    assert len(set(folders)) == 3
    assert all(Path(folder).is_dir() and "_infinitetalk_output" in folder for folder in folders)


@pytest.mark.parametrize(
    ("changed", "error", "said"),
    [
        ({"width": 72}, UsageError, r"72x64 .* nearest is 64x64"),
        ({"motion_frame": 17}, UsageError, "nothing would be new"),
        ({"clip_embeds": {"cond": 1}}, UsageError, "keys cond"),
        ({"start_image": torch.zeros(64, 64, 3)}, InputError, "IMAGE is a tensor"),
        ({"start_image": torch.zeros(0, 64, 64, 3)}, InputError, "no picture"),
        ({"mode": "both"}, UsageError, "choose one of auto"),
    ],
)
def test_what_cannot_be_sampled_is_refused_at_the_door(
    vae, changed: dict, error: type[Exception], said: str
) -> None:
    with pytest.raises(error, match=said):
        talk(vae, **changed)


def test_no_codec_and_a_codec_that_cannot_encode(vae) -> None:
    for missing in (None, Vae()):
        with pytest.raises(UsageError):
            talk(missing)
    with pytest.raises(UsageError, match="cannot encode"):
        talk(Vae(tiny=vae.exact))


def test_skyreels_says_what_it_is_and_the_sampler_may_refuse(vae) -> None:
    node = WanVideoImageToVideoSkyreelsv3_audio()
    embeds, _ = node.process(vae, 64, 64, 17, drop_frames=4)
    assert (embeds["multitalk_mode"], embeds["drop_frames"], embeds["motion_frame"]) == ("skyreelsv3", 4, 5)


def clip(vae, **more) -> dict:
    return WanVideoImageToVideoEncode().process(64, 64, 17, vae=vae, **more)[0]


def test_a_clip_from_a_picture_has_the_engines_reference(vae, engine_rooms: Rooms) -> None:
    shown = pictures()
    reference = encode_reference((shown[0] * 2 - 1).permute(2, 0, 1), 17, engine_rooms)
    embeds = clip(vae, start_image=shown)
    mixed = torch.cat([embeds["mask"], embeds["image_embeds"]])
    torch.testing.assert_close(mixed, reference.latents, atol=1e-5, rtol=1e-5)
    assert (embeds["num_frames"], embeds["lat_h"], embeds["target_shape"]) == (17, 8, (16, 5, 8, 8))
    assert embeds["clip_context"] is None


def test_known_frames_at_both_ends_are_in_the_video_and_in_the_mask(vae, engine_rooms: Rooms) -> None:
    first, last = pictures(2, seed=1), pictures(1, seed=2)
    embeds = clip(vae, start_image=first, end_image=last, start_latent_strength=0.5, end_latent_strength=2.0)
    video = torch.zeros(3, 17, 64, 64)
    video[:, :2], video[:, 16:] = (shown.permute(3, 0, 1, 2) * 2 - 1 for shown in (first, last))
    expected = engine_rooms.encode_video(video).clone()
    expected[:, :1] *= 0.5
    expected[:, -1:] *= 2
    torch.testing.assert_close(embeds["image_embeds"], expected, atol=1e-5, rtol=1e-5)
    known = torch.tensor([[1, 1, 1, 1], [1, 0, 0, 0], [0] * 4, [0] * 4, [0, 0, 0, 1]]).T
    assert torch.equal(embeds["mask"][:, :, 3, 3], known.float())


def test_a_last_picture_of_a_model_that_knows_none_is_a_latent_of_its_own(vae, engine_rooms: Rooms) -> None:
    shown = pictures(1, seed=4)
    embeds = clip(vae, start_image=pictures(), end_image=shown, fun_or_fl2v_model=False)
    assert embeds["target_shape"] == (16, 6, 8, 8)
    own = engine_rooms.encode_video(shown.permute(3, 0, 1, 2) * 2 - 1)
    torch.testing.assert_close(embeds["image_embeds"][:, -1:], own, atol=1e-5, rtol=1e-5)
    assert embeds["mask"][:, -1].eq(1).all()
    assert embeds["end_image"] is not None  # the decoder drops the frame


def test_masks_fillers_noise_and_extra_latents(vae) -> None:
    plain = clip(vae, start_image=pictures())
    masked = clip(vae, start_image=pictures(), temporal_mask=torch.ones(6, 64, 64))["mask"][:, :, 0, 0]
    assert torch.equal(masked.T.flatten(), torch.tensor([1.0] * 9 + [0] * 11))
    assert not torch.equal(
        clip(vae, start_image=pictures(), empty_frame_pad_image=pictures(seed=1))["image_embeds"],
        plain["image_embeds"],
    )
    noisy = clip(vae, start_image=pictures(), noise_aug_strength=0.5)["image_embeds"]
    assert (noisy - plain["image_embeds"]).std() == pytest.approx(0.5, rel=0.1)
    assert torch.equal(noisy, clip(vae, start_image=pictures(), noise_aug_strength=0.5)["image_embeds"])
    extra = {"samples": torch.zeros(1, 16, 1, 8, 8)}
    assert clip(vae, extra_latents=extra)["extra_latents"] == [{"samples": extra["samples"], "index": 0}]
    tiled = clip(vae, start_image=pictures(), tiled_vae=True)["image_embeds"]
    torch.testing.assert_close(tiled, plain["image_embeds"], atol=1e-4, rtol=1e-4)


def test_what_a_clip_cannot_be(vae) -> None:
    with pytest.raises(UsageError, match="VAE is not loaded; load models first"):
        clip(None)
    with pytest.raises(UsageError, match="do not fit into 17 frames"):
        clip(vae, start_image=pictures(18))
    with pytest.raises(CapabilityError, match="Fun"):
        clip(vae, augment_empty_frames=0.5)


def test_an_empty_clip_is_a_shape() -> None:
    (embeds,) = WanVideoEmptyEmbeds().process(128, 64, 20)
    assert embeds == {"target_shape": (16, 5, 8, 16), "num_frames": 17}
    with pytest.raises(CapabilityError):
        WanVideoEmptyEmbeds().process(128, 64, 20, control_embeds={})
