"""Properties of the transformer that hold for any size: caching, batching, gradients, people, precision."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch

from infinite_talk.errors import CheckpointError
from infinite_talk.models.dit import DiTConfig, concatenate
from infinite_talk.models.dit.keys import our_names
from infinite_talk.models.dit.people import class_maps, class_weights, query_positions
from infinite_talk.models.dit.speech import group_windows
from infinite_talk.ops.attention import eager
from infinite_talk.ops.rope import line_rotation, rotate
from tests.unit.tiny_dit import CONFIG, GRID, TIMES, inputs, latent, model, noise

PEOPLE = [1, 2, 3]


def close(actual: torch.Tensor, expected: torch.Tensor, tolerance: float = 2e-5) -> None:
    torch.testing.assert_close(actual, expected, atol=tolerance, rtol=0)


def one(values: dict[str, torch.Tensor], i: int) -> dict[str, torch.Tensor]:
    return {name: tensor[i : i + 1] for name, tensor in values.items()}


@pytest.mark.parametrize("people", PEOPLE)
@torch.no_grad()
def test_fused_attention_agrees_with_the_slow_twin(people: int) -> None:
    fast, slow, given = model(), model(eager), inputs(people)
    slow.load_state_dict(fast.state_dict())
    close(fast(latent(), TIMES, fast.condition(**given)), slow(latent(), TIMES, slow.condition(**given)))


@pytest.mark.parametrize("people", PEOPLE)
@torch.no_grad()
def test_a_condition_serves_all_steps(people: int) -> None:
    """A step changes nothing in it: the last of three steps is as if its condition were new."""
    net, given = model(), inputs(people)
    kept = net.condition(**given)
    for seed, t in ((1, 900.0), (2, 500.0)):
        net(latent(seed=seed), torch.full((2,), t), kept)
    close(net(latent(seed=3), TIMES, kept), net(latent(seed=3), TIMES, net.condition(**given)), 0)


@pytest.mark.parametrize("people", PEOPLE)
@torch.no_grad()
def test_a_batch_is_its_samples(people: int) -> None:
    net, given = model(), inputs(people)
    both = net(latent(), TIMES, net.condition(**given))
    assert not torch.allclose(both[0], both[1], atol=1e-2)
    singles = [net.condition(**one(given, i)) for i in range(2)]
    for i, condition in enumerate(singles):
        close(both[i], net(latent()[i : i + 1], TIMES[i : i + 1], condition)[0])
    close(both, net(latent(), TIMES, concatenate(singles)))


def test_conditions_of_different_people_share_no_batch() -> None:
    net = model()
    with pytest.raises(ValueError, match="numbers of people"):
        concatenate([net.condition(**inputs(1)), net.condition(**inputs(2))])


@torch.no_grad()
def test_forward_is_its_three_parts() -> None:
    net = model()
    condition = net.condition(**inputs())
    e, e0 = net.embed_time(TIMES)
    assert e0.shape == (2, 6, CONFIG.dim)
    close(net.modulation(TIMES), e0, 0)
    tokens = net.blocks_forward(net.embed(latent(), condition), e0, condition)
    close(net.head_forward(tokens, e, condition), net(latent(), TIMES, condition), 0)


@torch.no_grad()
def test_patches_are_a_strided_convolution() -> None:
    net, given = model(), inputs()
    whole = torch.cat((latent(), given["reference"]), dim=1)
    expected = net.patch_embedding(whole).flatten(2).transpose(1, 2)
    close(net.embed(latent(), net.condition(**given)), expected)


@torch.no_grad()
def test_text_is_padded_and_the_padding_attended_to() -> None:
    net, given = model(), inputs()
    rows = [given["text"][0, :3], given["text"][1]]
    padded = torch.zeros(2, CONFIG.text_len, CONFIG.text_dim)
    padded[0, :3], padded[1, :5] = rows
    ragged = net(latent(), TIMES, net.condition(**{**given, "text": rows}))
    close(ragged, net(latent(), TIMES, net.condition(**{**given, "text": padded})), 0)
    with pytest.raises(ValueError, match="at most 8"):
        net.condition(**{**given, "text": noise(2, 9, CONFIG.text_dim, seed=0)})


@torch.no_grad()
def test_no_speech_is_one_silent_person() -> None:
    net, given = model(), inputs(people=2)
    silent = net.condition(**{**given, "speech": None})
    zeros = net.condition(**{**given, "speech": torch.zeros_like(given["speech"][:, :1])})
    assert silent.people == 1
    assert silent.classes is None
    close(net(latent(), TIMES, silent), net(latent(), TIMES, zeros), 0)


@torch.no_grad()
def test_speech_reaches_its_own_latent_frame_alone_in_the_speech_attention() -> None:
    net, given = model(), inputs()
    tokens = net.audio_proj(given["speech"])
    louder = given["speech"].clone()
    louder[:, :, -2, 2] += 1  # the centre of a frame of the last group
    changed = (net.audio_proj(louder) - tokens).abs().amax(dim=(0, 2, 3)) > 1e-6
    assert changed.tolist() == [False, False, True]
    attention = net.blocks[0].audio_cross_attn
    x = noise(2, 36, CONFIG.dim, seed=5)
    before = attention(x, attention.keys_values(tokens, None), GRID[0], None)
    after = attention(x, attention.keys_values(net.audio_proj(louder), None), GRID[0], None)
    moved = (after - before).abs().amax(dim=(0, 2)) > 1e-6
    assert moved.tolist() == [False] * 24 + [True] * 12


def test_windows_of_a_group_are_the_vectors_around_it() -> None:
    """Away from the ends the eight entries are the frames from two before to two after the group."""
    frames = 13
    track = torch.arange(-2, frames + 2).float()
    windows = torch.stack([track[f : f + 5] for f in range(frames)])[None, None, :, :, None, None]
    first, groups = group_windows(windows, replace(CONFIG, audio_blocks=1, audio_channels=1))
    assert first.flatten().tolist() == [-2, -1, 0, 1, 2]
    assert groups[0, 0].tolist() == [[float(f) for f in range(g - 2, g + 6)] for g in (1, 5, 9)]
    with pytest.raises(ValueError, match="4n"):
        group_windows(windows[:, :, :12], CONFIG)


@pytest.mark.parametrize("people", PEOPLE)
def test_gradients_are_finite_and_reach_every_weight(people: int) -> None:
    net = model()
    net(latent(), TIMES, net.condition(**inputs(people))).square().mean().backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        # A bias of keys shifts all scores alike: its gradient may vanish.
        assert parameter.grad.any() or name.endswith(("k.bias", "k_img.bias")), name


@pytest.mark.parametrize("people", [2, 3])
def test_class_maps_are_averages_of_attention_weights(people: int) -> None:
    q, k = noise(2, 4, 36, 8, seed=0), noise(2, 4, 36, 8, seed=1)
    masks = inputs(people)["token_masks"]
    maps = class_maps(q, k, class_weights(masks, 3, 4), eager)
    weights = (q @ k[:, :, :12].transpose(-1, -2) / 8**0.5).softmax(-1).mean(dim=1)  # (B, N, S)
    for c in range(people + 1):
        chosen = (masks[:, c, ::2, ::2] > 0).flatten(1)
        for b in range(2):
            close(maps[b, :, c], weights[b][:, chosen[b]].mean(dim=-1), 1e-6)


def test_an_odd_last_head_is_not_counted() -> None:
    q, k = noise(1, 3, 36, 8, seed=0), noise(1, 3, 36, 8, seed=1)
    classes = class_weights(inputs(2, batch=1)["token_masks"], 3, 4)
    close(class_maps(q, k, classes, eager), class_maps(q[:, :2], k[:, :2], classes, eager), 0)
    alone = class_maps(q[:, :1], k[:, :1], classes, eager)
    assert alone.isfinite().all()
    assert alone.any()


def test_no_gradient_flows_through_who_is_who() -> None:
    q, k = (noise(1, 2, 36, 8, seed=seed).requires_grad_() for seed in (0, 1))
    assert not class_maps(q, k, class_weights(inputs(2, batch=1)["token_masks"], 3, 4), eager).requires_grad


def test_positions_lie_in_the_range_of_the_person() -> None:
    maps = torch.rand(2, 50, 4, generator=torch.Generator().manual_seed(0))
    positions, winner = query_positions(maps, CONFIG), maps.argmax(-1)
    for person in range(3):
        own = positions[winner == person]
        assert ((own >= 20 * person) & (own <= 20 * person + 4)).all()
        best = maps[0, :, person].argmax()
        if winner[0, best] == person:
            assert positions[0, best].item() == pytest.approx(20 * person + 4, abs=1e-4)
    assert (positions[winner == 3] == 12).all()


@pytest.mark.parametrize("empty", [(0,), (1,), (2,), (0, 1, 2)])
@torch.no_grad()
def test_an_empty_mask_is_nobody(empty: tuple[int, ...]) -> None:
    net, given = model(), inputs(people=2)
    given["token_masks"][:, list(empty)] = 0
    assert net(latent(), TIMES, net.condition(**given)).isfinite().all()
    if len(empty) == 1:
        q, k = noise(1, 2, 36, 16, seed=0), noise(1, 2, 36, 16, seed=1)
        maps = class_maps(q, k, class_weights(given["token_masks"][:1], 3, 4), eager)
        assert (maps.argmax(-1) != empty[0]).all()


@torch.no_grad()
def test_voices_are_bound_to_people_by_the_masks() -> None:
    """Exchanging both the voices and the masks is not the same as exchanging the voices alone."""
    net, given = model(), inputs(people=2, batch=1)
    plain = net(latent(1), TIMES[:1], net.condition(**given))
    voices = net(latent(1), TIMES[:1], net.condition(**{**given, "speech": given["speech"].flip(1)}))
    assert not torch.allclose(plain, voices, atol=1e-4)
    with pytest.raises(ValueError, match="token masks"):
        net.condition(**{**given, "token_masks": None})
    with pytest.raises(ValueError, match="token masks"):
        net.condition(**{**given, "token_masks": given["token_masks"][:, :2]})


@torch.no_grad()
def test_speech_keys_of_several_people_are_turned_to_their_positions() -> None:
    net, given = model(), inputs(people=2)
    own = net.blocks[0].audio_cross_attn
    tokens = net.audio_proj(given["speech"])
    plain = own.keys_values(tokens, None).k.transpose(1, 2)
    positions = torch.tensor([2.0] * CONFIG.context_tokens + [22.0] * CONFIG.context_tokens)
    expected = rotate(plain, line_rotation(positions, CONFIG.head_dim)).transpose(1, 2)
    close(net.condition(**given).blocks[0].speech.k, expected, 1e-6)


@torch.no_grad()
def test_low_precision_stays_close() -> None:
    net, given = model(), inputs()
    exact = net(latent(), TIMES, net.condition(**given))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        condition = net.condition(**given)
        assert condition.blocks[0].text.k.dtype == torch.bfloat16
        assert net.embed(latent(), condition).dtype == torch.float32
        mixed = net(latent(), TIMES, condition)
    assert mixed.dtype == torch.float32
    halved = copy.deepcopy(net).bfloat16()
    condition = halved.condition(**given)
    assert halved.embed(latent(), condition).dtype == torch.bfloat16
    assert halved.modulation(TIMES).dtype == torch.float32
    plain = halved(latent(), TIMES, condition)
    assert plain.dtype == torch.float32
    for approximate in (mixed, plain):
        assert (approximate - exact).norm() < 0.02 * exact.norm()


@pytest.mark.parametrize("people", [1, 2])
@torch.no_grad()
def test_it_is_one_graph(people: int) -> None:
    """No break and no data-dependent branch, so that it compiles whole."""
    net, given = model(), inputs(people)
    condition = torch.compile(net.condition, backend="eager", fullgraph=True)(**given)
    whole = torch.compile(net, backend="eager", fullgraph=True)
    close(whole(latent(), TIMES, condition), net(latent(), TIMES, net.condition(**given)))


def test_training_starts_at_zero_and_is_repeatable() -> None:
    first, second = model(), model()
    for net, seed in ((first, 3), (second, 3)):
        net.init_weights(torch.Generator().manual_seed(seed))
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))
    assert not first(latent(), TIMES, first.condition(**inputs())).any()
    assert first.text_embedding[0].weight.std().item() == pytest.approx(0.02, rel=0.2)
    assert first.blocks[1].modulation.std().item() == pytest.approx(CONFIG.dim**-0.5, rel=0.2)


def test_reference_of_another_shape_is_refused() -> None:
    given = inputs()
    for reference in (given["reference"][:, :16], given["reference"][..., :7]):
        with pytest.raises(ValueError, match="reference"):
            model().condition(**{**given, "reference": reference})


def test_configurations() -> None:
    assert (
        DiTConfig.from_json({"dim": 64, "num_heads": 2, "patch_size": [1, 2, 2], "humans": 2}).head_dim == 32
    )
    for broken in ({"qk_norm": False}, {"model_type": "t2v"}, {"num_heads": 7}, {"in_dim": 16}):
        with pytest.raises(CheckpointError):
            DiTConfig.from_json(broken)


def test_prefixes_of_other_programs_are_taken_off() -> None:
    names = list(model().state_dict())
    for prefix in ("", "model.diffusion_model.", "diffusion_model.", "module."):
        found = our_names(prefix + name for name in names)
        assert found == {name: prefix + name for name in names}
    assert our_names(["model.a", "b"]) == {"model.a": "model.a", "b": "b"}
