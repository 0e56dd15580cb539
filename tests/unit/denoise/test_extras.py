"""Sources of extras act in their steps and branches, together, in batches, around caches, and inside LoRA strengths."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from infinite_talk.denoise.caches.cache import OfBlocks, Planned, StepCache
from infinite_talk.denoise.denoiser import Plain, Question, batches
from infinite_talk.denoise.extras import (
    NOTHING,
    AwayFrom,
    Enhanced,
    Loudness,
    OtherKernels,
    Prompts,
    Skipped,
    WithExtras,
    merged,
    sources_of,
)
from infinite_talk.denoise.guidance import Branch
from infinite_talk.denoise.loop import denoise
from infinite_talk.denoise.strengths import WithStrengths
from infinite_talk.models.dit import AddedAttention, Everywhere, Extras, KeysValues, WanTransformer
from infinite_talk.ops.attention import eager, sdpa
from infinite_talk.sampling import EnhanceAVideo, NormalisedAttention, Sampling, Share, SkipLayers
from infinite_talk.types import Guide
from tests.unit.denoise.test_loop import sampler, some_guide, tiny_transformer

STEPS = 4
ENHANCED = Enhanced(EnhanceAVideo(weight=30.0, share=Share(start=0.25, end=0.5)))
SKIPPED = Skipped(SkipLayers(blocks=(1,), share=Share(start=0.5)))


@pytest.fixture(scope="module")
def transformer() -> WanTransformer:
    return tiny_transformer()


@pytest.fixture
def guide() -> Guide:
    return some_guide()


def start(guide: Guide) -> torch.Tensor:
    return torch.randn(guide.latent_shape, generator=torch.Generator().manual_seed(4))


def question(step: int = 0, branch: Branch = Branch.COND, condition=None) -> Question:
    return Question(step, torch.tensor([500.0]), branch, condition)


def text(seed: int, rows: int = 3) -> torch.Tensor:
    return torch.randn(rows, 8, generator=torch.Generator().manual_seed(seed))


def away(transformer: WanTransformer) -> AwayFrom:
    return AwayFrom(transformer, text(9), NormalisedAttention(scale=5.0))


def acts(source, branch: Branch = Branch.COND) -> list[bool]:
    latent = torch.zeros(16, 3, 4, 4)
    return [not source.extras(latent, question(step, branch), STEPS).alike(NOTHING) for step in range(STEPS)]


@torch.no_grad()
def test_each_source_acts_in_its_steps_and_branches(transformer: WanTransformer) -> None:
    assert acts(ENHANCED) == acts(ENHANCED, Branch.UNCOND) == [False, True, True, False]
    assert acts(SKIPPED) == acts(SKIPPED, Branch.DROP_AUDIO) == [False] * 4
    assert acts(SKIPPED, Branch.DROP_TEXT) == acts(SKIPPED, Branch.UNCOND) == [False, False, True, True]
    nag = away(transformer)
    assert acts(nag) == acts(nag, Branch.DROP_AUDIO) == [True] * 4
    assert acts(nag, Branch.UNCOND) == acts(nag, Branch.DROP_TEXT) == [False] * 4
    assert acts(Loudness(2.0), Branch.UNCOND) == [True] * 4
    prompts = Prompts(transformer, [text(1), text(2)], apart_in=[1])
    assert acts(prompts) == [True] * 4
    assert acts(prompts, Branch.UNCOND) == [False, True, False, False]
    assert acts(OtherKernels(eager, [0], 1, 2)) == [False, True, True, False]
    assert acts(OtherKernels(eager, [0], 3)) == [False, False, False, True]


@torch.no_grad()
def test_a_window_with_extras_is_single_passes_with_them(transformer: WanTransformer, guide: Guide) -> None:
    """Four steps of three branches; the slow twin puts the extras on by hand and asks one by one."""
    asked, sources = sampler(STEPS), [ENHANCED, SKIPPED, away(transformer), Loudness(1.5)]

    class ByHand(Plain):
        def velocities(self, latent, questions):
            return {q.branch: self.velocity(latent, q) for q in questions}

        def velocity(self, latent, question):
            extras = merged([source.extras(latent, question, STEPS) for source in sources])
            condition = replace(question.condition, extras=extras)
            return self.transformer(latent[None], question.time, condition)[0]

    found = denoise(WithExtras(Plain(transformer), sources, STEPS), asked, guide, start(guide))
    assert not torch.allclose(found, denoise(Plain(transformer), asked, guide, start(guide)), atol=1e-3)
    expected = denoise(ByHand(transformer), asked, guide, start(guide))
    torch.testing.assert_close(found, expected, atol=2e-5, rtol=0)


@torch.no_grad()
def test_without_sources_no_bit_changes(transformer: WanTransformer, guide: Guide) -> None:
    asked, noise = sampler(2), start(guide)
    plain = denoise(Plain(transformer), asked, guide, noise)
    silent = [Skipped(SkipLayers(blocks=())), Loudness(1.0)]
    for sources in ([], silent):
        assert torch.equal(denoise(WithExtras(Plain(transformer), sources, 2), asked, guide, noise), plain)


@torch.no_grad()
def test_batches_hold_what_is_alike(transformer: WanTransformer, guide: Guide) -> None:
    """Three branches are one batch; where the negative ones skip a block they are a batch of their own."""
    asked, sources = sampler(STEPS), [SKIPPED, Loudness(1.5)]
    plain = Plain(transformer, batched=True)
    passes: list[int] = []
    hook = transformer.register_forward_pre_hook(lambda _, inputs: passes.append(len(inputs[0])))
    found = denoise(WithExtras(plain, sources, STEPS), asked, guide, start(guide))
    hook.remove()
    assert passes == [3, 3, 1, 2, 1, 2]
    assert len(plain._batches) == 3, "what a step puts on a batch does not make another one"
    expected = denoise(WithExtras(Plain(transformer), sources, STEPS), asked, guide, start(guide))
    torch.testing.assert_close(found, expected, atol=2e-5, rtol=0)


def test_questions_are_batched_in_their_order(transformer: WanTransformer, guide: Guide) -> None:
    with torch.no_grad():
        condition = Plain(transformer).condition(guide, Branch.COND)
    loud = [replace(condition, extras=Extras(speech_scale=2.0)) for _ in range(2)]
    conditions = [condition, *loud, condition]
    order = (Branch.COND, Branch.DROP_TEXT, Branch.UNCOND, Branch.DROP_AUDIO)
    asked = [question(0, b, c) for b, c in zip(order, conditions, strict=True)]
    assert [[q.branch for q in batch] for batch in batches(asked)] == [
        [Branch.COND],
        [Branch.DROP_TEXT, Branch.UNCOND],
        [Branch.DROP_AUDIO],
    ]


@torch.no_grad()
def test_a_cache_that_never_skips_changes_no_bit(transformer: WanTransformer, guide: Guide) -> None:
    asked, sources = sampler(STEPS, audio=1.0), [ENHANCED, SKIPPED, away(transformer)]

    def cached(skips: list[bool]) -> WithExtras:
        plain = Plain(transformer)
        return WithExtras(StepCache(plain, Planned(skips), OfBlocks(plain)), sources, STEPS)

    plain = denoise(WithExtras(Plain(transformer), sources, STEPS), asked, guide, start(guide))
    never = denoise(cached([False] * STEPS), asked, guide, start(guide))
    torch.testing.assert_close(never, plain, atol=2e-5, rtol=0)
    some = denoise(cached([False, False, True, False]), asked, guide, start(guide))
    assert not torch.allclose(some, plain, atol=1e-5)


@torch.no_grad()
def test_a_skipped_step_repeats_what_the_blocks_did_with_the_extras_of_theirs(
    transformer: WanTransformer, guide: Guide
) -> None:
    """Added tokens are of the step that is asked, as the latent is; what blocks add is of the computed one."""
    states = torch.randn(STEPS, 1, 12, 24, generator=torch.Generator().manual_seed(3))

    class Moving:
        def extras(self, latent, question, steps):
            return Extras(tokens=states[question.step], speech_scale=1.0 + question.step)

        def forget(self):
            pass

    plain = Plain(transformer)
    denoiser = WithExtras(StepCache(plain, Planned([False, True]), OfBlocks(plain)), [Moving()], STEPS)
    condition = denoiser.condition(guide, Branch.COND)
    before, now = (
        torch.randn(guide.latent_shape, generator=torch.Generator().manual_seed(s)) for s in (1, 2)
    )
    denoiser.velocity(before, question(0, condition=condition))
    found = denoiser.velocity(now, question(1, condition=condition))
    e, e0 = transformer.embed_time(torch.tensor([500.0]))
    first = replace(condition, extras=Extras(tokens=states[0], speech_scale=1.0))
    tokens = transformer.embed(before[None], first)
    change = transformer.blocks_forward(tokens, e0, first) - tokens
    asked = transformer.embed(now[None], condition) + states[1]
    expected = transformer.head_forward(asked + change, e, condition)[0]
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


@torch.no_grad()
def test_texts_are_embedded_once_and_again_with_other_weights(guide: Guide) -> None:
    transformer = tiny_transformer()
    embedded: list[int] = []
    transformer.text_embedding.register_forward_hook(lambda *_: embedded.append(1))

    class EveryOther:
        varies = True

        def at_step(self, step: int) -> bool:
            with torch.no_grad():
                transformer.text_embedding[2].bias.fill_(float(step // 2))
            return step == 2

    nag = away(transformer)
    inner = WithExtras(Plain(transformer), [nag], STEPS)
    denoiser = WithStrengths(inner, EveryOther())
    condition = denoiser.condition(guide, Branch.COND)
    latent, found = start(guide), []
    for step in range(STEPS):
        found.append(denoiser.velocity(latent, question(step, condition=condition)))
    assert len(embedded) == 4, "the prompt and the text of NAG, for each of two strengths"
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[2], found[3])
    assert not torch.equal(found[1], found[2])
    fresh = WithExtras(Plain(transformer), [away(transformer)], STEPS)
    expected = fresh.velocity(latent, question(3, condition=fresh.condition(guide, Branch.COND)))
    assert torch.equal(found[3], expected)


def test_a_sampling_has_the_sources_that_it_asks_for(transformer: WanTransformer) -> None:
    assert sources_of(Sampling(), transformer, nag_text=text(1), prompts=[text(1)]) == ()
    full = Sampling(
        enhance=EnhanceAVideo(),
        skip_layers=SkipLayers(),
        nag=NormalisedAttention(),
        speech_scale=0.5,
        split_attention_steps=(0,),
    )
    found = sources_of(full, transformer, nag_text=text(1), prompts=[text(1), text(2)])
    assert [type(source) for source in found] == [Enhanced, Skipped, AwayFrom, Loudness, Prompts]


def test_merging_adds_what_can_be_added() -> None:
    one, two = torch.ones(1, 2, 3), 2 * torch.ones(1, 2, 3)
    heard = [AddedAttention(of_block=lambda _: KeysValues(one, one)) for _ in range(2)]
    kernels = [Everywhere(kernel) for kernel in (eager, sdpa)]
    found = merged(
        [
            Extras(skip=frozenset({1}), speech_scale=2.0, tokens=one, heard=(heard[0],), enhance=1.0),
            NOTHING,
            Extras(after=lambda i: one if i else None, attention={0: kernels[0], 1: kernels[0]}),
            Extras(
                skip=frozenset({2}),
                speech_scale=3.0,
                tokens=two,
                after=lambda _: two,
                heard=(heard[1],),
                attention={1: kernels[1]},
            ),
        ]
    )
    assert (found.enhance, found.skip, found.speech_scale) == (1.0, {1, 2}, 6.0)
    assert found.heard == tuple(heard)
    assert found.attention == {0: kernels[0], 1: kernels[1]}
    assert torch.equal(found.tokens, one + two)
    assert torch.equal(found.after(0), two)
    assert torch.equal(found.after(1), one + two)
    with pytest.raises(ValueError, match="enhance"):
        merged([found, Extras(enhance=2.0)])


def test_one_of_many_is_itself() -> None:
    """So that what is alike is known as such, and nothing stays nothing."""
    one = Extras(tokens=torch.ones(1, 2, 3))
    assert merged([NOTHING, one, Extras()]) is one
    assert merged([NOTHING, Extras()]) is NOTHING
