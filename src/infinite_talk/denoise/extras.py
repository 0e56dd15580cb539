"""What is put on the transformer's passes at each step: sources of ``Extras``, and the denoiser that asks them.

``WithExtras`` stands around the step cache, so that what a cache repeats is what the blocks did with the extras of the
step that was computed, and inside ``WithStrengths``, which makes conditions anew:

    denoiser = WithStrengths(WithExtras(StepCache(Plain(transformer), ...), sources, steps), strengths)
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from typing import Protocol

import torch

from infinite_talk.denoise.denoiser import Denoiser, Question, answers
from infinite_talk.denoise.guidance import Branch
from infinite_talk.models.dit import (
    Condition,
    Everywhere,
    Extras,
    Nag,
    PromptChunks,
    SelfKernel,
    WanTransformer,
)
from infinite_talk.ops.attention import AttentionCallable
from infinite_talk.sampling import EnhanceAVideo, NormalisedAttention, Sampling, SkipLayers
from infinite_talk.types import Guide

NOTHING = Extras()


class ExtrasSource(Protocol):
    """Something that puts extras on passes."""

    def extras(self, latent: torch.Tensor, question: Question, steps: int) -> Extras:
        """For one question of a step; ``NOTHING`` where it does not act. Asked once for each, in order.

        Args:
            latent: ``(16, T, h, w)``, what the model is asked about.
            steps: of the window.
        """
        ...

    def forget(self) -> None:
        """The transformer's weights have changed."""
        ...


class WithExtras:
    """A denoiser that puts on each question's condition what its sources say. Cheap; one for each window will do."""

    def __init__(self, inner: Denoiser, sources: Sequence[ExtrasSource], steps: int) -> None:
        """``steps``: of a window, of which the sources act in shares."""
        self._inner, self._sources, self._steps = inner, tuple(sources), steps

    def condition(self, guide: Guide, branch: Branch) -> Condition:
        return self._inner.condition(guide, branch)

    def velocity(self, latent: torch.Tensor, question: Question) -> torch.Tensor:
        return self._inner.velocity(latent, self._with(latent, question))

    def velocities(
        self, latent: torch.Tensor, questions: Sequence[Question]
    ) -> Mapping[Branch, torch.Tensor]:
        return answers(self._inner, latent, [self._with(latent, question) for question in questions])

    def forget(self) -> None:
        for source in self._sources:
            source.forget()
        self._inner.forget()

    def _with(self, latent: torch.Tensor, question: Question) -> Question:
        """The question with the extras of its step; those of another denoiser around this one stay."""
        asked = question.condition
        found = [source.extras(latent, question, self._steps) for source in self._sources]
        extras = merged([asked.extras or NOTHING, *found])
        return replace(question, condition=replace(asked, extras=None if extras is NOTHING else extras))


def merged(several: Iterable[Extras]) -> Extras:
    """All of them together. Sums of what is added, unions of blocks, products of factors."""
    return reduce(_both, several, NOTHING)


def _both(one: Extras, other: Extras) -> Extras:
    if other.alike(NOTHING):
        return one
    if one.alike(NOTHING):
        return other
    for name in ("enhance", "nag", "chunks", "times"):
        if getattr(one, name) is not None and getattr(other, name) is not None:
            raise ValueError(f"two sources of {name} for one pass")
    return Extras(
        enhance=other.enhance if one.enhance is None else one.enhance,
        skip=one.skip | other.skip,
        nag=one.nag or other.nag,
        speech_scale=one.speech_scale * other.speech_scale,
        tokens=_sum(one.tokens, other.tokens),
        after=_after(one.after, other.after),
        heard=one.heard + other.heard,
        attention={**(one.attention or {}), **(other.attention or {})} or None,
        chunks=one.chunks or other.chunks,
        times=one.times or other.times,
    )


After = Callable[[int], torch.Tensor | None]


def _after(one: After | None, other: After | None) -> After | None:
    if one is None or other is None:
        return one or other
    return lambda i: _sum(one(i), other(i))


def _sum(one: torch.Tensor | None, other: torch.Tensor | None) -> torch.Tensor | None:
    if one is None or other is None:
        return other if one is None else one
    return one + other


@dataclass(frozen=True, slots=True)
class Enhanced:
    """Enhance-A-Video in its share of the steps."""

    asked: EnhanceAVideo

    def extras(self, latent: torch.Tensor, question: Question, steps: int) -> Extras:  # noqa: ARG002
        return Extras(enhance=self.asked.weight) if self.asked.share.holds(question.step, steps) else NOTHING

    def forget(self) -> None:
        pass


@dataclass(frozen=True, slots=True)
class Skipped:
    """Skip-layer guidance: blocks left out where the negative prompt is asked, in its share of the steps."""

    asked: SkipLayers

    def extras(self, latent: torch.Tensor, question: Question, steps: int) -> Extras:  # noqa: ARG002
        if question.branch.has_text or not self.asked.share.holds(question.step, steps):
            return NOTHING
        return Extras(skip=frozenset(self.asked.blocks))

    def forget(self) -> None:
        pass


@dataclass(frozen=True, slots=True)
class Loudness:
    """The speech scale."""

    scale: float

    def extras(self, latent: torch.Tensor, question: Question, steps: int) -> Extras:  # noqa: ARG002
        return Extras(speech_scale=self.scale)

    def forget(self) -> None:
        pass


class Embedded:
    """Texts as tokens of a transformer, made when they are first needed and again when its weights have changed."""

    def __init__(self, transformer: WanTransformer, texts: Sequence[torch.Tensor]) -> None:
        """``texts``: each ``(L, D text)``, on the transformer's device."""
        self._transformer, self._texts = transformer, tuple(texts)
        self._made: tuple[torch.Tensor, ...] = ()

    def tokens(self) -> tuple[torch.Tensor, ...]:
        """Each ``(1, text_len, D)``, the same tensors until they are forgotten."""
        if not self._made:
            self._made = tuple(self._transformer.embed_text([text]) for text in self._texts)
        return self._made

    def forget(self) -> None:
        self._made = ()


class AwayFrom:
    """NAG wherever the prompt is asked: also without speech, or guidance by speech would amplify it."""

    def __init__(self, transformer: WanTransformer, text: torch.Tensor, numbers: NormalisedAttention) -> None:
        """``text``: ``(L, D text)``."""
        self._text, self._numbers = Embedded(transformer, [text]), numbers
        self._made: Extras | None = None

    def extras(self, latent: torch.Tensor, question: Question, steps: int) -> Extras:  # noqa: ARG002
        if not question.branch.has_text:
            return NOTHING
        if self._made is None:
            self._made = Extras(nag=Nag(text=self._text.tokens()[0], numbers=self._numbers))
        return self._made

    def forget(self) -> None:
        self._made = None
        self._text.forget()


class Prompts:
    """Several prompts, each for its share of the window's frames; in some steps these do not see each other."""

    def __init__(
        self, transformer: WanTransformer, texts: Sequence[torch.Tensor], apart_in: Iterable[int] = ()
    ) -> None:
        """
        Args:
            texts: each ``(L, D text)``; the negative prompt is one for all.
            apart_in: the steps in which self-attention is split too, in every branch.
        """
        self._texts, self._apart = Embedded(transformer, texts), frozenset(apart_in)
        self._made: dict[bool, PromptChunks] = {}

    def extras(self, latent: torch.Tensor, question: Question, steps: int) -> Extras:  # noqa: ARG002
        apart = question.step in self._apart
        if question.branch.has_text:
            return Extras(chunks=self._chunks(apart))
        return Extras(chunks=PromptChunks(parts=len(self._texts.tokens()), apart=True)) if apart else NOTHING

    def forget(self) -> None:
        self._made.clear()
        self._texts.forget()

    def _chunks(self, apart: bool) -> PromptChunks:
        if apart not in self._made:
            texts = self._texts.tokens()
            self._made[apart] = PromptChunks(parts=len(texts), texts=texts, apart=apart)
        return self._made[apart]


class OtherKernels:
    """Another kernel for the self-attention of some blocks in some steps."""

    def __init__(
        self,
        kernel: AttentionCallable | SelfKernel,
        blocks: Iterable[int],
        first: int = 0,
        last: int | None = None,
    ) -> None:
        """``first`` to ``last``: steps, both included; ``None`` is to the end."""
        own = kernel if isinstance(kernel, SelfKernel) else Everywhere(kernel)
        self._made = Extras(attention=dict.fromkeys(blocks, own))
        self._first, self._last = first, last

    def extras(self, latent: torch.Tensor, question: Question, steps: int) -> Extras:  # noqa: ARG002
        after_last = self._last is not None and question.step > self._last
        return NOTHING if question.step < self._first or after_last else self._made

    def forget(self) -> None:
        pass


def sources_of(
    sampling: Sampling,
    transformer: WanTransformer,
    *,
    nag_text: torch.Tensor | None = None,
    prompts: Sequence[torch.Tensor] = (),
) -> tuple[ExtrasSource, ...]:
    """What a sampling puts on passes.

    Args:
        nag_text: ``(L, D text)``, with ``sampling.nag``.
        prompts: several texts ``(L, D text)`` for one window, each for its share of the frames; one, or none, is
            what the guide says.
    """
    found: list[ExtrasSource] = []
    if sampling.enhance is not None:
        found.append(Enhanced(sampling.enhance))
    if sampling.skip_layers is not None:
        found.append(Skipped(sampling.skip_layers))
    if sampling.nag is not None and nag_text is not None:
        found.append(AwayFrom(transformer, nag_text, sampling.nag))
    if sampling.speech_scale != 1:
        found.append(Loudness(sampling.speech_scale))
    if len(prompts) > 1:
        found.append(Prompts(transformer, prompts, sampling.split_attention_steps))
    return tuple(found)
