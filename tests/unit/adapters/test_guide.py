"""Uni3C: a small transformer follows the guide and adds to the first blocks."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from infinite_talk.denoise.adapters import GuideVideo, fitted, frames_from
from infinite_talk.denoise.adapters.guide import States
from infinite_talk.denoise.guidance import Branch
from infinite_talk.errors import InputError
from infinite_talk.models.adapters import Uni3C
from infinite_talk.models.dit import Extras, WanTransformer
from infinite_talk.ops.rope import grid_rotation, rotate_real
from infinite_talk.sampling import Share
from tests.unit import tiny_dit
from tests.unit.adapters import nets, run

GUIDE = tiny_dit.noise(16, *tiny_dit.GRID, seed=12)


def guided(model: WanTransformer, network: Uni3C | None = None, **how) -> GuideVideo:
    return GuideVideo(
        network or nets.uni3c(),
        embed_time=lambda times: model.embed_time(times)[0],
        **{"offload": False} | how,
    )


def window(model: WanTransformer, **how):
    return guided(model, **how).for_window(GUIDE, run.guide().reference[:4])


@torch.inference_mode()
def written_out(network: Uni3C, latent: Tensor, mask: Tensor, guide: Tensor, e: Tensor) -> list[Tensor]:
    """Slow twin of ``states``: the published controlnet, head by head."""
    config = network.config
    x = network.controlnet_patch_embedding(torch.cat([latent, mask, guide])[None])
    grid = (x.shape[2], x.shape[3], x.shape[4])
    x = network.proj_in(x.flatten(2).transpose(1, 2))
    width = config.dim // config.num_heads
    rotation = grid_rotation(grid, width)
    found = []
    for block, out in zip(network.controlnet_blocks, network.proj_out, strict=True):

        def modulated(part, x=x):
            shift, scale, gate = part.linear(F.silu(e)).chunk(3, dim=1)
            normed = F.layer_norm(x, x.shape[-1:], part.norm.weight, part.norm.bias, 1e-5)
            return normed * (1 + scale)[:, None] + shift[:, None], gate[:, None]

        h, gate = modulated(block.norm1, x)
        own = block.self_attn
        q, k, v = own.norm_q(own.to_q(h)), own.norm_k(own.to_k(h)), own.to_v(h)
        heads = []
        for i in range(config.num_heads):
            a, b, c = (part[..., i * width : (i + 1) * width] for part in (q, k, v))
            a, b = (rotate_real(part[:, :, None], rotation)[:, :, 0] for part in (a, b))
            heads.append((a @ b.transpose(1, 2) * width**-0.5).softmax(-1) @ c)
        x = x + gate * own.to_out[0](torch.cat(heads, dim=-1))
        h, gate = modulated(block.norm2, x)
        x = x + gate * block.ffn(h)
        found.append(out(x))
    return found


def test_states_are_those_of_the_published_controlnet():
    network, model = nets.uni3c(), run.model()
    mask = run.guide().reference[:4]
    with torch.inference_mode():
        e = model.embed_time(run.TIME)[0]
        found = list(network.states(run.latent()[None], mask[None], GUIDE[None], e))
    wanted = written_out(network, run.latent(), mask, GUIDE, e)
    assert len(found) == nets.LAYERS
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_each_state_is_added_after_its_block():
    """Formula: ``x += weight * state`` after block b, for as many blocks as there are states."""
    model, network = run.model(), nets.uni3c()
    found = run.one(model, [window(model, strength=0.6)])
    with torch.inference_mode():
        condition = model.condition(**tiny_dit.inputs(batch=1))
        e, e0 = model.embed_time(run.TIME)
        states = written_out(network, run.latent(), run.guide().reference[:4], GUIDE, e)
        x = model.embed(run.latent()[None], condition)
        for i, block in enumerate(model.blocks):
            x = block(x, e0, condition, condition.blocks[i]) + 0.6 * states[i]
        wanted = model.head_forward(x, e, condition)[0]
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)


def test_without_strength_or_outside_its_share_it_is_off_bit_by_bit():
    model = run.model()
    plain = run.one(model)
    assert torch.equal(run.one(model, [window(model, strength=0.0)]), plain)
    late = window(model, share=Share(start=0.5))
    assert torch.equal(run.one(model, [late], step=1), plain)
    assert not torch.equal(run.one(model, [late], step=2), plain)


@pytest.mark.parametrize("batched", [False, True])
def test_branches_share_one_pass_of_the_network(batched: bool, monkeypatch: pytest.MonkeyPatch):
    """All branches of a step ask about one latent; each answers as if it were asked alone."""
    model, network, passes = run.model(), nets.uni3c(), []
    plain = Uni3C.states
    monkeypatch.setattr(Uni3C, "states", lambda self, *given: passes.append(1) or plain(self, *given))
    asked = (Branch.COND, Branch.DROP_TEXT, Branch.DROP_AUDIO)
    source = guided(model, network).for_window(GUIDE, run.guide().reference[:4])
    found = run.answered(model, [source], branches=asked, batched=batched)
    assert len(passes) == 1
    for branch in asked:
        alone = run.answered(model, [window(model)], branches=[branch])[branch]
        torch.testing.assert_close(found[branch], alone, rtol=1e-5, atol=1e-6)


def test_a_later_step_sees_its_own_latent_and_time():
    model = run.model()
    source = window(model)
    first, second = run.one(model, [source], step=0), run.one(model, [source], step=1)
    assert torch.equal(first, second), "the same latent and time"
    asked = run.answered(model, [source], step=2)
    assert torch.equal(asked[Branch.COND], first)


def test_the_network_goes_back_to_the_host_after_its_last_block(monkeypatch: pytest.MonkeyPatch):
    model, network = run.model(), nets.uni3c()
    moved: list[str] = []
    monkeypatch.setattr(network, "to", lambda device: moved.append(str(device)))
    source = GuideVideo(network, embed_time=lambda times: model.embed_time(times)[0])
    extras: Extras = source.for_window(GUIDE, run.guide().reference[:4]).extras(run.latent(), _question(), 4)
    assert extras.after is not None
    with torch.inference_mode():
        for block in range(nets.LAYERS):
            extras.after(block)
        assert extras.after(nets.LAYERS) is None, "blocks after it have no state"
    assert moved == ["cpu", "cpu"]
    assert len(list(network.parameters())) > 0


def _question():
    from infinite_talk.denoise.denoiser import Question

    return Question(0, run.TIME, Branch.COND, None)  # type: ignore[arg-type]


@given(st.lists(st.sets(st.integers(0, 6)), min_size=1, max_size=4), st.integers(1, 5))
def test_states_come_in_whatever_order_branches_ask(passes: list[set[int]], layers: int):
    """Passes one after another, each leaving some blocks out; every answer is the block's own state."""

    def make() -> Iterator[Tensor]:
        yield from (torch.tensor(i) for i in range(layers))

    states = States(make, layers)
    for asked in passes:
        for block in sorted(asked):
            for _ in range(2):  # two branches at once
                found = states(block)
                assert (found is None) == (block >= layers)
                assert found is None or int(found) == block


def test_a_guide_of_another_shape_is_refused():
    model = run.model()
    with pytest.raises(InputError, match=r"\(16, 2, 6, 8\); expected \(16, 3, 6, 8\)"):
        guided(model).for_window(GUIDE[:, :2], run.guide().reference[:4])


def test_a_guide_is_fitted_as_the_pack_does_it_and_left_alone_where_it_fits():
    assert fitted(GUIDE, (3, 6, 8)) is GUIDE
    wanted = F.interpolate(GUIDE[None], size=(5, 6, 8), mode="trilinear", align_corners=False)[0]
    assert torch.equal(fitted(GUIDE, (5, 6, 8)), wanted)


@given(st.integers(1, 9), st.integers(0, 12), st.integers(1, 9))
def test_frames_of_a_window_end_with_the_last_one(there: int, first: int, count: int):
    video = torch.arange(float(there))[None, :, None, None].expand(3, -1, 1, 1)
    found = frames_from(video, first, count)[0, :, 0, 0].tolist()
    assert found == [float(min(first + i, there - 1)) for i in range(count)]
