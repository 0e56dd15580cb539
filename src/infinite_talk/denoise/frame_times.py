"""Latent frames that are known are asked at a time of their own: Pusa's vectorised timestep (arXiv 2507.16116).

A frame that is held clean has no noise, and the model is told so: its time is 0 while that of the others falls. With a
multiplier ``m`` it has the share ``m sigma`` of noise, and the time ``m t``. The scheduler ``flowmatch_pusa`` asks so.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch

from infinite_talk.denoise.denoiser import Denoiser, Question
from infinite_talk.denoise.extras import NOTHING, WithExtras
from infinite_talk.denoise.guidance import Branch
from infinite_talk.denoise.keeping import All, Keep, Motion, Pinned
from infinite_talk.models.dit import Condition, Extras, FrameTimes, TimeEmbedding, WanTransformer
from infinite_talk.types import Guide

Factors = Mapping[int, float]
"""By latent frame of the window the factor of its time; frames that are not there have 1."""


class TimesByFrame:
    """A source of extras: the times of frames that are known in the current window."""

    def __init__(self, embed_time: Callable[[torch.Tensor], TimeEmbedding]) -> None:
        """``embed_time``: of the transformer."""
        self._embed_time = embed_time
        self._factors: Callable[[int], Factors] = lambda _: {}
        self._step = -1
        self._embedded: dict[float, TimeEmbedding] = {}
        self._made: dict[tuple[float, ...], Extras] = {}

    def know(self, factors: Callable[[int], Factors]) -> None:
        """From now on these factors, by step."""
        self._factors, self._step = factors, -1

    def extras(self, latent: torch.Tensor, question: Question, steps: int) -> Extras:  # noqa: ARG002
        """The same object for all questions of a step about the same frames, so that branches know they are alike."""
        if question.step != self._step:
            self._step = question.step
            self._made.clear()
            self._embedded.clear()
        frames = range(latent.shape[1]) if question.frames is None else question.frames
        known = self._factors(question.step)
        factors = tuple(known.get(frame, 1.0) for frame in frames)
        if all(factor == 1 for factor in factors):
            return NOTHING
        if factors not in self._made:
            self._made[factors] = Extras(times=self._times(factors, question.time))
        return self._made[factors]

    def forget(self) -> None:
        self._embedded.clear()
        self._made.clear()

    def _times(self, factors: tuple[float, ...], time: torch.Tensor) -> FrameTimes:
        others = sorted({factor for factor in factors if factor != 1})
        for factor in others:
            if factor not in self._embedded:
                self._embedded[factor] = self._embed_time(time * factor)
        return FrameTimes(
            of_frame=tuple(0 if factor == 1 else 1 + others.index(factor) for factor in factors),
            others=tuple(self._embedded[factor] for factor in others),
        )


def factors_of(keep: Keep, frames: int) -> Callable[[int], Factors]:
    """The factors of a window of ``frames`` latent frames, by step, from what is known of its latent.

    Frames that only a mask holds, or that have the noise of the moment, are asked at the time of the others.
    """
    match keep:
        case Motion(known=known):
            clean = dict.fromkeys(range(known.shape[1]), 0.0)
            return lambda _: clean
        case Pinned():
            return lambda step: {frame: keep.factor(step) for frame in keep.places(frames)}
        case All(several=several):
            parts = [factors_of(one, frames) for one in several]
            return lambda step: {frame: factor for part in parts for frame, factor in part(step).items()}
        case _:
            return lambda _: {}


class KnowingMotion(WithExtras):
    """A denoiser that asks the motion frames of its guides at the time 0."""

    def __init__(self, inner: Denoiser, transformer: WanTransformer, steps: int) -> None:
        self._times = TimesByFrame(transformer.embed_time)
        super().__init__(inner, (self._times,), steps)

    def condition(self, guide: Guide, branch: Branch) -> Condition:
        self._times.know(factors_of(Motion(guide.motion), guide.reference.shape[1]))
        return super().condition(guide, branch)
