"""What is put on a pass from outside: each technique against its written-out twin, and off is not there at all."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from infinite_talk.errors import UsageError
from infinite_talk.models.dit import (
    AddedAttention,
    Everywhere,
    Extras,
    FrameTimes,
    KeysValues,
    Nag,
    PromptChunks,
    WanTransformer,
    concatenate,
    techniques,
)
from infinite_talk.models.dit.extras import begin_alike
from infinite_talk.models.dit.techniques import between_frames, cut_between, normalised, share_of, shares
from infinite_talk.ops.attention import eager, sdpa
from infinite_talk.ops.pieces import cuts_of
from infinite_talk.sampling import NormalisedAttention
from tests.unit.slow_dit import slow_pass
from tests.unit.tiny_dit import CONFIG, TIMES, inputs, latent, model, noise

FRAMES, TOKENS = 3, 36
HEADS, WIDTH = CONFIG.num_heads, CONFIG.head_dim


def sharper(q, k, v):
    """Another kernel: one that the difference can be seen of."""
    return eager(2 * q, k, v)


def added(
    scale: float = 0.7, *, batch: int = 1, mask: bool = False, block: int | None = None
) -> AddedAttention:
    keys = 4
    made = [
        KeysValues(*(noise(batch * FRAMES, HEADS, keys, WIDTH, seed=40 + 2 * i + j) for j in range(2)))
        for i in range(CONFIG.num_layers)
    ]
    there = torch.arange(keys)[None] <= torch.arange(batch * FRAMES)[:, None] % keys
    return AddedAttention(
        of_block=lambda i: made[i] if block in (None, i) else None,
        scale=scale,
        mask=there if mask else None,
    )


def text(net: WanTransformer, seed: int) -> torch.Tensor:
    return net.embed_text(noise(1, 5, CONFIG.text_dim, seed=seed))


def extras_of(name: str, net: WanTransformer) -> Extras:
    match name:
        case "enhance":
            return Extras(enhance=4.0)
        case "skip":
            return Extras(skip=frozenset({1}))
        case "nag":
            return Extras(nag=Nag(text=text(net, 30), numbers=NormalisedAttention(scale=4.0, tau=1.5)))
        case "speech":
            return Extras(speech_scale=1.5)
        case "tokens":
            return Extras(tokens=noise(1, TOKENS, CONFIG.dim, seed=31))
        case "after":
            states = noise(2, 1, TOKENS, CONFIG.dim, seed=32)
            return Extras(after=lambda i: states[0] if i == 0 else None)
        case "heard":
            return Extras(heard=(added(), added(0.3, batch=2, mask=True, block=1)))
        case "attention":
            return Extras(attention={1: Everywhere(sharper)})
        case "texts":
            return Extras(chunks=PromptChunks(parts=2, texts=(text(net, 33), text(net, 34))))
        case "apart":
            return Extras(chunks=PromptChunks(parts=2, apart=True))
        case "times":
            others = (net.embed_time(torch.zeros(1)), net.embed_time(torch.tensor([300.0])))
            return Extras(times=FrameTimes(of_frame=(1, 0, 2), others=others))
    everything = [extras_of(one, net) for one in NAMES[:-1]]
    return Extras(
        enhance=everything[0].enhance,
        skip=frozenset({0}),
        nag=everything[2].nag,
        speech_scale=0.5,
        tokens=everything[4].tokens,
        after=lambda i: noise(1, TOKENS, CONFIG.dim, seed=50 + i),
        heard=everything[6].heard,
        attention=None,
        chunks=replace(everything[8].chunks, apart=True),
        times=everything[10].times,
    )


NAMES = [
    "enhance",
    "skip",
    "nag",
    "speech",
    "tokens",
    "after",
    "heard",
    "attention",
    "texts",
    "apart",
    "times",
    "all",
]


@pytest.fixture(scope="module")
def net() -> WanTransformer:
    return model()


def close(actual: torch.Tensor, expected: torch.Tensor, tolerance: float = 5e-5) -> None:
    torch.testing.assert_close(actual, expected, atol=tolerance, rtol=0)


@pytest.mark.parametrize("people", [1, 2])
@pytest.mark.parametrize("name", NAMES)
@torch.no_grad()
def test_each_is_its_formula(net: WanTransformer, name: str, people: int) -> None:
    condition, extras = net.condition(**inputs(people)), extras_of(name, net)
    plain = net(latent(), TIMES, condition)
    found = net(latent(), TIMES, replace(condition, extras=extras))
    expected = slow_pass(net, latent(), TIMES, condition, extras)
    assert not torch.allclose(found, plain, atol=1e-3), "it must do something"
    close(found, expected)


@pytest.mark.parametrize("people", [1, 2])
@torch.no_grad()
def test_nothing_is_bitwise_nothing(net: WanTransformer, people: int) -> None:
    condition = net.condition(**inputs(people))
    plain = net(latent(), TIMES, condition)
    for nothing in (Extras(), Extras(heard=(added(0.0),)), Extras(attention={0: Everywhere(sdpa)})):
        assert torch.equal(net(latent(), TIMES, replace(condition, extras=nothing)), plain)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("rows", [5, 12, 24])
@torch.no_grad()
def test_pieces_change_nothing(net: WanTransformer, name: str, rows: int) -> None:
    """Parts of a frame, whole frames, and frames of two prompts in what would be one piece."""
    condition = replace(net.condition(**inputs(2)), extras=extras_of(name, net))
    whole = net(latent(), TIMES, condition)
    net.rows_at_once = rows
    try:
        close(net(latent(), TIMES, condition), whole)
    finally:
        net.rows_at_once = None


@pytest.mark.parametrize("name", NAMES)
@torch.no_grad()
def test_a_batch_is_its_samples(net: WanTransformer, name: str) -> None:
    """Enhance-A-Video too: its factor is of each sample, not of the batch."""
    given, extras = inputs(), extras_of(name, net)
    if extras.heard:
        extras = replace(extras, heard=extras.heard[:1])  # the other one has rows of its own for both samples
    both = net(latent(), TIMES, replace(net.condition(**given), extras=extras))
    for i in range(2):
        own = net.condition(**{part: tensor[i : i + 1] for part, tensor in given.items()})
        found = net(latent()[i : i + 1], TIMES[i : i + 1], replace(own, extras=extras))
        close(both[i], found[0])


@pytest.mark.parametrize("kept", [True, False])
@pytest.mark.parametrize("name", NAMES)
@torch.no_grad()
def test_lockstep_branches_are_single_passes(name: str, kept: bool) -> None:
    """One branch with extras, one without, one with others: each as if it were alone."""
    net = model()
    net.keep_keys_values = kept
    given = inputs(2)
    first, silent = net.condition(**given), net.condition(**{**given, "speech": None})
    conditions = [
        replace(first, extras=extras_of(name, net)),
        silent,
        replace(silent, extras=Extras(skip=frozenset({0}))),
    ]
    together = net.forward_branches(latent(), TIMES, conditions)
    for found, condition in zip(together, conditions, strict=True):
        close(found, net(latent(), TIMES, condition))


@pytest.mark.parametrize("name", NAMES)
@torch.no_grad()
def test_the_same_extras_in_all_branches(net: WanTransformer, name: str) -> None:
    extras = extras_of(name, net)
    given = inputs(2)
    conditions = [replace(net.condition(**one), extras=extras) for one in (given, {**given, "speech": None})]
    together = net.forward_branches(latent(), TIMES, conditions)
    for found, condition in zip(together, conditions, strict=True):
        close(found, net(latent(), TIMES, condition))
    assert begin_alike(conditions) == (0 not in extras.skip)


@torch.no_grad()
def test_an_enhancement_never_weakens_and_one_frame_has_none(net: WanTransformer) -> None:
    """A weight so small that the formula is under 1 changes nothing, to the last bit but the gate's rounding."""
    condition = net.condition(**inputs())
    plain = net(latent(), TIMES, condition)
    close(net(latent(), TIMES, replace(condition, extras=Extras(enhance=-2.9))), plain, 1e-6)
    given = inputs()
    still = {
        **given,
        "speech": given["speech"][:, :, :1],
        "reference": given["reference"][:, :, :1],
    }
    alone = net.condition(**still)
    picture = latent()[:, :, :1]
    enhanced = net(picture, TIMES, replace(alone, extras=Extras(enhance=9.0)))
    assert torch.equal(enhanced, net(picture, TIMES, alone))


def test_nag_of_nothing_is_nothing() -> None:
    """Where both texts answer nothing the ratio is 0 / 0."""
    zero = torch.zeros(1, 2, 4)
    assert torch.equal(normalised(zero, zero, NormalisedAttention()), zero)


def test_nag_with_alpha_0_or_the_same_text_is_the_prompt() -> None:
    a, b = noise(1, 6, 8, seed=1), noise(1, 6, 8, seed=2)
    close(normalised(a, b, NormalisedAttention(alpha=0.0)), a, 1e-6)
    close(normalised(a, a, NormalisedAttention()), a, 1e-5)


@pytest.mark.parametrize("frames", [1, 3, 7])
@pytest.mark.parametrize("count", [1, 2, 3, 5])
@pytest.mark.parametrize("at_once", [None, 2, 4, 9])
def test_shares_are_whole_frames_and_pieces_keep_to_them(
    frames: int, count: int, at_once: int | None
) -> None:
    grid = frames, 2, 2
    owned = shares(grid, count)
    lengths = [(share.stop - share.start) // 4 for share in owned]
    assert sum(lengths) == frames
    assert max(lengths) - min(lengths) <= 1
    assert lengths == sorted(lengths, reverse=True)
    cuts = cut_between(cuts_of(frames, 4, at_once), shares(grid, count))
    assert [row for cut in cuts for row in range(cut.start, cut.stop)] == list(range(4 * frames))
    for cut in cuts:
        _, share = share_of(cut, grid, count)
        assert share.start <= cut.start < cut.stop <= share.stop


def test_kernels_that_leave_places_out_cannot_be_split() -> None:
    net = model()

    class Places:
        places = True

        def __call__(self, q, k, v, rows, grid):
            return q

    extras = Extras(chunks=PromptChunks(parts=2, apart=True), attention={0: Places()})
    with torch.no_grad(), pytest.raises(UsageError, match="split between prompts"):
        net(latent(), TIMES, replace(net.condition(**inputs()), extras=extras))


def test_conditions_of_different_extras_share_no_batch() -> None:
    net = model()
    condition = net.condition(**inputs())
    with pytest.raises(ValueError, match="extras"):
        concatenate([condition, replace(condition, extras=Extras(enhance=1.0))])


def test_gradients_pass_through_extras() -> None:
    net = model()
    condition = replace(net.condition(**inputs()), extras=extras_of("heard", net))
    net(latent(), TIMES, condition).square().mean().backward()
    assert net.blocks[0].cross_attn.q.weight.grad.isfinite().all()


def test_many_tokens_pass_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = noise(2, 11, 8, seed=1), noise(2, 11, 8, seed=2)
    q, k = noise(1, 7, 12, 4, seed=3), noise(1, 7, 12, 4, seed=4)
    whole = normalised(a, b, NormalisedAttention()), between_frames(q, k, slice(0, 12), (3, 2, 2))
    monkeypatch.setattr(techniques, "_ROWS", 4)
    monkeypatch.setattr(techniques, "_HEADS", 3)
    assert torch.equal(normalised(a, b, NormalisedAttention()), whole[0])
    close(between_frames(q, k, slice(0, 12), (3, 2, 2)), whole[1], 1e-6)
