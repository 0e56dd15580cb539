"""FantasyTalking and FantasyPortrait: keys and values of their own beside text and picture."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from infinite_talk.denoise.adapters import Heard
from infinite_talk.denoise.guidance import Branch
from infinite_talk.errors import CheckpointError, InputError
from infinite_talk.models.adapters.fantasy_portrait import FACE
from infinite_talk.models.dit import WanTransformer
from infinite_talk.ops.attention import eager
from infinite_talk.sampling import Share
from tests.unit import tiny_dit
from tests.unit.adapters import nets, run

HEADS = tiny_dit.CONFIG.num_heads


def features(latents: int = 3, count: int = 5, seed: int = 4) -> Tensor:
    return tiny_dit.noise(1, latents, count, nets.TALKING.context_dim, seed=seed)


def heard(model: WanTransformer, given: Tensor | None = None, **how) -> Heard:
    given = features() if given is None else given
    return Heard(nets.talking(), given, heads=HEADS, like=model.patch_embedding.weight, **how)


@torch.inference_mode()
def written_out(model: WanTransformer, given: Tensor, lengths: list[int], scale: float) -> Tensor:
    """Slow twin: the published cross-attention, latent frame by latent frame, put in the place of the model's own."""
    adapter = nets.talking()

    def replaced(i: int, block):
        attention, own = block.cross_attn, adapter.blocks[i].cross_attn

        def forward(x, text, image, steered=None):
            q = attention.norm_q(attention.q(x)).unflatten(-1, (HEADS, -1)).transpose(1, 2)
            answers = [eager(q, kv.k, kv.v).transpose(1, 2).flatten(2) for kv in (text, image)]
            frames = []
            for frame, asked in enumerate(q.chunk(given.shape[1], dim=2)):
                there = given[:, frame, : lengths[frame]]
                k, v = (
                    layer(there).unflatten(-1, (HEADS, -1)).transpose(1, 2)
                    for layer in (own.k_proj, own.v_proj)
                )
                frames.append(eager(asked, k, v).transpose(1, 2).flatten(2))
            return attention.o(answers[0] + answers[1] + scale * torch.cat(frames, dim=1))

        attention.forward = forward

    for i, block in enumerate(model.blocks):
        replaced(i, block)
    return run.one(model)


def test_the_answer_is_that_of_the_published_cross_attention():
    found = run.one(run.model(), [heard(run.model(), scale=0.8).for_window(0, 3)])
    torch.testing.assert_close(
        found, written_out(run.model(), features(), [5, 5, 5], 0.8), rtol=1e-4, atol=1e-5
    )


def test_zeros_that_fill_a_frame_are_passed_over():
    """As published (``k_lens``); the pack attends to them too, which weakens the first and last frame."""
    given, lengths = features(), [2, 5, 4]
    for frame, length in enumerate(lengths):
        given[:, frame, length:] = 0
    model = run.model()
    found = run.one(model, [heard(model, given, lengths=torch.tensor(lengths)).for_window(0, 3)])
    wanted = written_out(run.model(), given, lengths, 1.0)
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)


def test_a_window_hears_its_own_frames_and_nothing_after_the_end():
    model, given = run.model(), features(5)
    late = heard(model, given, lengths=torch.tensor([5, 5, 5, 5, 5])).for_window(3, 3)
    nothing = torch.cat([given[:, 3:], torch.zeros_like(given[:, :1])], dim=1)
    wanted = heard(model, nothing, lengths=torch.tensor([5, 5, 1])).for_window(0, 3)
    assert torch.equal(run.one(model, [late]), run.one(model, [wanted]))
    beyond = heard(model, given).for_window(9, 3)
    torch.testing.assert_close(run.one(model, [beyond]), run.one(model), rtol=1e-5, atol=1e-6)


def test_some_of_a_windows_frames_have_their_own_features():
    model, given = run.model(), features(5)
    some = heard(model, given).for_window(0, 5).at([4, 0, 2])
    wanted = heard(model, given[:, [4, 0, 2]]).for_window(0, 3)
    assert torch.equal(run.one(model, [some]), run.one(model, [wanted]))


def test_without_scale_or_outside_its_share_it_is_off_bit_by_bit():
    model = run.model()
    plain = run.one(model)
    assert torch.equal(run.one(model, [heard(model, scale=0.0).for_window(0, 3)]), plain)
    early = heard(model, share=Share(end=0.25)).for_window(0, 3)
    assert torch.equal(run.one(model, [early], step=2), plain)
    assert not torch.equal(run.one(model, [early], step=1), plain)


@pytest.mark.parametrize("batched", [False, True])
def test_branches_that_drop_it_are_asked_without(batched: bool):
    model = run.model()
    dropped = frozenset({Branch.UNCOND, Branch.DROP_AUDIO})
    window = heard(model, dropped=dropped).for_window(0, 3)
    asked = (Branch.COND, Branch.DROP_TEXT, Branch.UNCOND)
    found = run.answered(model, [window], branches=asked, batched=batched)
    plain = run.answered(model, branches=asked, batched=batched)
    alone = {branch: run.answered(model, [window], branches=[branch])[branch] for branch in asked}
    torch.testing.assert_close(found[Branch.UNCOND], plain[Branch.UNCOND], rtol=1e-5, atol=1e-6)
    for branch in asked:
        torch.testing.assert_close(found[branch], alone[branch], rtol=1e-5, atol=1e-6)
    assert not torch.allclose(found[Branch.DROP_TEXT], plain[Branch.DROP_TEXT], rtol=1e-3)


def test_features_of_another_form_are_refused():
    model = run.model()
    with pytest.raises(InputError, match=r"shape \(1, 5, 10\)"):
        heard(model, features()[:, 0])
    with pytest.raises(InputError, match="3 latent frames of features and 2 lengths"):
        heard(model, lengths=torch.tensor([1, 2]))


def test_an_adapter_for_another_transformer_is_refused():
    model = run.model()
    with pytest.raises(
        CheckpointError, match="FantasyTalking is for a transformer of width 48; this one has 20"
    ):
        Heard(nets.talking(), features(), heads=HEADS, like=model.patch_embedding.weight[:20])


def test_speech_becomes_what_latent_frames_hear():
    """Formula: project, norm, then each latent frame's neighbourhood with 4 more on either side."""
    adapter, speech = nets.talking(), tiny_dit.noise(1, 19, nets.TALKING.speech_dim, seed=6)
    dealt = adapter.listen(speech, frames=9)
    assert dealt.features.shape == (1, 3, 2 * int(19 / 9 * 2) + 1 + 8, nets.TALKING.context_dim)
    hidden = torch.nn.functional.linear(speech, adapter.proj_model.proj.weight)
    norm = adapter.proj_model.norm
    wanted = torch.nn.functional.layer_norm(hidden, hidden.shape[-1:], norm.weight, norm.bias, 1e-5)
    centre = int((19 / 9 * 1 + 19 / 9 * 5) / 2) - 1
    begin = centre - int(19 / 9 * 2) - 4
    torch.testing.assert_close(
        dealt.features[:, 1, : dealt.lengths[1]], wanted[:, max(begin, 0) :][:, : dealt.lengths[1]]
    )


def test_a_face_becomes_what_latent_frames_see():
    """Formula: four parts, mouth tokens, mood tokens in each frame, the factors on their own tokens."""
    adapter = nets.portrait()
    face = tiny_dit.noise(1, 9, sum(FACE), seed=7)
    plain = adapter.watch(face)
    tokens = nets.PORTRAIT.tokens
    assert tokens == 9
    assert plain.features.shape == (1, 3, 2 * tokens * 2 + 1, nets.PORTRAIT.context_dim)
    assert torch.equal(adapter.lengths(3), plain.lengths)
    scaled = adapter.watch(face, whole=2.0, mouth=3.0, mood=0.0)
    # The second latent frame's neighbourhood begins in the middle of a frame; count its tokens.
    begin = int((tokens * 1 + tokens * 5) / 2) - 1 - 2 * tokens
    kinds = torch.tensor([2.0] * 4 + [3.0] * 3 + [0.0] * 2)
    factors = kinds[(torch.arange(4 * tokens + 1) + begin) % tokens]
    torch.testing.assert_close(scaled.features[0, 1], plain.features[0, 1] * factors[:, None])


def test_the_resampler_is_the_one_of_ip_adapter():
    """Slow twin: the published attention with its scale on both sides, and the residuals."""
    resampler = nets.portrait().mouth_proj_model
    x = tiny_dit.noise(2, 1, FACE[3], seed=2)
    hidden, latents = resampler.proj_in(x), resampler.latents.repeat(2, 1, 1)
    for attend, feed in resampler.layers:
        a, b = attend.norm1(hidden), attend.norm2(latents)
        q = attend.to_q(b)
        k, v = attend.to_kv(torch.cat([a, b], dim=1)).chunk(2, dim=-1)
        weight = ((q * 64**-0.25) @ (k * 64**-0.25).transpose(1, 2)).softmax(dim=-1)
        latents = attend.to_out(weight @ v) + latents
        latents = feed(latents) + latents
    wanted = resampler.norm_out(resampler.proj_out(latents))
    torch.testing.assert_close(resampler(x), wanted, rtol=1e-4, atol=1e-5)


def test_numbers_that_are_no_face_are_refused():
    with pytest.raises(InputError, match=r"shape \(1, 9, 3\); expected \(1, frames, 554\)"):
        nets.portrait().watch(torch.zeros(1, 9, 3))
