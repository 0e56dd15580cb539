"""UniAnimate: poses become tokens; windows see what the whole sequence would give them."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from infinite_talk.denoise.adapters import Poses
from infinite_talk.denoise.adapters.window import WindowExtras
from infinite_talk.denoise.denoiser import Question
from infinite_talk.denoise.guidance import Branch
from infinite_talk.errors import InputError
from infinite_talk.models.dit import WanTransformer
from infinite_talk.sampling import Share
from tests.unit import tiny_dit
from tests.unit.adapters import nets, run

SIZE = (8 * run.HEIGHT, 8 * run.WIDTH)  # 48 x 64


def pictures(frames: int, seed: int = 3) -> torch.Tensor:
    return tiny_dit.noise(1, 3, frames, *SIZE, seed=seed).sigmoid()


def poses(model: WanTransformer, frames: int = 9, **given) -> Poses:
    patches = model.patch_embedding.weight
    return Poses(nets.uni_animate(), pictures(frames), patches=patches, size=SIZE, **given)


@torch.inference_mode()
def whole_sequence(frames: int) -> torch.Tensor:
    """The published way: the first pose three times before, everything embedded at once; ``(1, T h w, D)``."""
    given = pictures(frames)
    sequence = torch.cat([given[:, :, :1].repeat(1, 1, 3, 1, 1), given], dim=2)
    return nets.uni_animate().dwpose_embedding(sequence).permute(0, 2, 3, 4, 1).flatten(1, 3)


def tokens_of(window: WindowExtras) -> torch.Tensor:
    extras = window.extras(run.latent(), question(), 4)
    assert extras.tokens is not None
    return extras.tokens


def question(step: int = 0):
    return Question(step, run.TIME, Branch.COND, None)  # type: ignore[arg-type]


def test_the_tokens_are_those_of_the_whole_sequence():
    wanted = whole_sequence(9)
    torch.testing.assert_close(tokens_of(poses(run.model()).for_window(0, 3)), wanted)


@pytest.mark.parametrize(("first", "latents"), [(0, 5), (3, 11)])
def test_a_window_is_embedded_alone_with_the_same_result(first: int, latents: int):
    """Pieces with a margin; 53 poses are 14 latent frames."""
    wanted = torch.unflatten(whole_sequence(53), 1, (14, -1))[:, first : first + latents].flatten(1, 2)
    found = tokens_of(poses(run.model(), 53).for_window(first, latents))
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)


def test_after_the_last_pose_it_stands_still():
    """The pack fails here (issue 1286: 15 and 21 latents)."""
    model = run.model()
    window = tokens_of(poses(model, 9).for_window(2, 6))
    still = torch.cat([pictures(9), pictures(9)[:, :, -1:].repeat(1, 1, 32, 1, 1)], dim=2)
    patches = model.patch_embedding.weight
    longer = Poses(nets.uni_animate(), still, patches=patches, size=SIZE).for_window(2, 6)
    end = slice(
        0, 5 * 12
    )  # the very last latent frame of the shorter one ends with zeros of the convolutions
    torch.testing.assert_close(window[:, end], tokens_of(longer)[:, end], rtol=1e-4, atol=1e-5)


def test_tokens_are_added_before_the_first_block():
    """Formula: the pass over ``embed(x) + strength tokens``."""
    model = run.model()
    found = run.one(model, [poses(model, strength=0.5).for_window(0, 3)])
    with torch.inference_mode():
        condition = model.condition(**tiny_dit.inputs(batch=1))
        e, e0 = model.embed_time(run.TIME)
        tokens = model.embed(run.latent()[None], condition) + 0.5 * whole_sequence(9)
        wanted = model.head_forward(model.blocks_forward(tokens, e0, condition), e, condition)[0]
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)


def test_a_reference_pose_is_added_to_the_reference_pictures_channels():
    """Formula: the published program adds it to all 20 channels of every latent frame before the patch embedding."""
    model, pose = run.model(), pictures(1, seed=8)[:, :, 0]
    made = poses(model, reference=pose, strength=0.7)
    found = run.one(model, [made.for_window(0, 3)])
    with torch.inference_mode():
        given = tiny_dit.inputs(batch=1)
        added = nets.uni_animate().randomref_embedding_pose(pose)[:, :, None]
        given["reference"] = given["reference"] + 0.7 * added
        condition = model.condition(**given)
        e, e0 = model.embed_time(run.TIME)
        tokens = model.embed(run.latent()[None], condition) + 0.7 * whole_sequence(9)
        wanted = model.head_forward(model.blocks_forward(tokens, e0, condition), e, condition)[0]
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)


def test_without_strength_or_outside_its_share_it_is_off_bit_by_bit():
    model = run.model()
    plain = run.one(model)
    assert torch.equal(run.one(model, [poses(model, strength=0.0).for_window(0, 3)]), plain)
    late = poses(model, share=Share(start=0.5)).for_window(0, 3)
    assert torch.equal(run.one(model, [late], step=1), plain)
    assert not torch.equal(run.one(model, [late], step=2), plain)


def test_some_of_a_windows_frames_have_their_own_tokens():
    window = poses(run.model(), 17).for_window(0, 5)
    found = tokens_of(window.at([4, 0, 1]))
    wanted = torch.unflatten(tokens_of(window), 1, (5, -1))[:, [4, 0, 1]].flatten(1, 2)
    assert torch.equal(found, wanted)


def test_poses_of_another_size_are_refused():
    model = run.model()
    other = F.interpolate(pictures(9)[0], size=(32, 32))[None]
    with pytest.raises(InputError, match=r"\(1, 3, 9, 32, 32\); expected \(1, 3, F, 48, 64\)"):
        Poses(nets.uni_animate(), other, patches=model.patch_embedding.weight, size=SIZE)
