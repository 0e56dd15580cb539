"""What CLIP sees: the engine's own features, crops, combinations and tiles."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from infinite_talk.errors import InputError, UsageError
from infinite_talk.nodes import CLIPVisionLoader, LoadWanVideoClipTextEncoder, WanVideoClipVisionEncode
from infinite_talk.rooms import Rooms
from tests.unit.nodes.conftest import pictures


@pytest.fixture
def clip(tiny_bundle: Path):
    return LoadWanVideoClipTextEncoder().loadmodel(str(tiny_bundle))[0]


def see(clip, picture: torch.Tensor, **more) -> torch.Tensor:
    return WanVideoClipVisionEncode().process(clip, picture, **more)[0]["clip_embeds"]


def test_a_picture_is_seen_as_the_engine_sees_it(clip, engine_rooms: Rooms) -> None:
    wide = pictures(1, 48, 80)
    with torch.inference_mode():
        stretched = engine_rooms.vision((wide * 2 - 1).permute(0, 3, 1, 2))
        square = engine_rooms.vision((wide[:, :, 16:64] * 2 - 1).permute(0, 3, 1, 2))
    torch.testing.assert_close(see(clip, wide, crop="disabled"), stretched)
    torch.testing.assert_close(see(clip, wide), square)


def test_several_pictures_are_combined_with_their_strengths(clip) -> None:
    one, two = pictures(seed=1), pictures(seed=2)
    first, second = see(clip, one), see(clip, two)
    combined = {
        how: see(clip, one, image_2=two, strength_1=0.5, strength_2=2.0, combine_embeds=how)
        for how in ("average", "sum", "concat", "batch")
    }
    total = 0.5 * first + 2 * second
    torch.testing.assert_close(combined["sum"], total)
    torch.testing.assert_close(combined["average"], total / 2)
    torch.testing.assert_close(combined["concat"], torch.cat([0.5 * first, 2 * second], 1))
    torch.testing.assert_close(combined["batch"], torch.cat([0.5 * first, 2 * second]))


def test_tiles_share_in_the_features_of_the_whole(clip) -> None:
    picture = pictures()
    whole, tiled = see(clip, picture), see(clip, picture, tiles=2, ratio=0.25)
    parts = [see(clip, picture[:, r : r + 32, c : c + 32]) for r in (0, 32) for c in (0, 32)]
    # 2 x 2 tiles of 2 x 2 tokens: each token of the whole is the mean of the four of its tile
    grid = torch.stack([part[0, 1:].mean(0) for part in parts])
    expected = torch.cat([torch.cat(parts)[:, 0].mean(0, keepdim=True), grid])[None]
    torch.testing.assert_close(tiled, 0.25 * whole + 0.75 * expected)


def test_comfyuis_own_encoder_is_asked_in_its_words() -> None:
    asked: list[torch.Size] = []

    def encode_image(image: torch.Tensor) -> SimpleNamespace:
        asked.append(image.shape)
        return SimpleNamespace(penultimate_hidden_states=torch.ones(1, 5, 8))

    found = see(SimpleNamespace(encode_image=encode_image), pictures(1, 48, 80), strength_1=2.0)
    assert torch.equal(found, 2 * torch.ones(1, 5, 8))
    assert asked == [(1, 48, 48, 3)]


def test_the_negative_picture_and_what_is_wrong(clip) -> None:
    (embeds,) = WanVideoClipVisionEncode().process(clip, pictures(), negative_image=pictures(seed=3))
    torch.testing.assert_close(embeds["negative_clip_embeds"], see(clip, pictures(seed=3)))
    assert not clip.resident.there  # force_offload
    with pytest.raises(UsageError, match="connect CLIPVisionLoader"):
        see("clip", pictures())
    with pytest.raises(InputError, match="image_1 is"):
        see(clip, torch.zeros(3, 64, 64))


def test_the_core_loader_has_a_stand_in(tiny_bundle: Path, clip) -> None:
    (own,) = CLIPVisionLoader().load_clip(str(tiny_bundle))
    assert own.opened.files == clip.opened.files
