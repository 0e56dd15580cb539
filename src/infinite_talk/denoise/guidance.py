"""Guidance: which questions to ask the model at a step, and how to combine its answers.

A *branch* is one question: the same latent with the text or the speech left out. ``branches`` lists what a
rule needs, so that the loop, the caches and a split over several devices all follow the same list. The pull
of the text is ``cond - drop_text``, that of the speech ``drop_text - uncond`` (or ``cond - drop_audio``
without text guidance).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from enum import StrEnum
from typing import Protocol

import torch

from infinite_talk.request import APG, Compat


class Branch(StrEnum):
    """One question to the model. The negative prompt stands in for "no text", zeros for "no speech"."""

    COND = "cond"
    """The prompt and the speech."""
    DROP_TEXT = "drop_text"
    """The negative prompt and the speech."""
    UNCOND = "uncond"
    """The negative prompt and no speech."""
    DROP_AUDIO = "drop_audio"
    """The prompt and no speech."""
    DROP_FACE = "drop_face"
    """The prompt and the speech, without the face that an adapter follows (``face.py``)."""

    @property
    def has_text(self) -> bool:
        return self in (Branch.COND, Branch.DROP_AUDIO, Branch.DROP_FACE)

    @property
    def has_speech(self) -> bool:
        return self in (Branch.COND, Branch.DROP_TEXT, Branch.DROP_FACE)


Answers = Mapping[Branch, torch.Tensor]


class Rule(Protocol):
    """What one step asks, and what becomes of the answers."""

    @property
    def branches(self) -> tuple[Branch, ...]:
        """Branches that ``combine`` needs, in the order in which they are asked. None: the step stands still."""
        ...

    def combine(self, answers: Answers) -> torch.Tensor:
        """The guided velocity from the velocity of each branch; call once per step, in order."""
        ...


class Guidance(Protocol):
    """The rules of one window; those with a memory (APG) start afresh in the next."""

    @property
    def branches(self) -> tuple[Branch, ...]:
        """Branches that any step asks, the one that all ask first."""
        ...

    def at(self, step: int) -> Rule:
        """The rule of a step."""
        ...


def branches(text: float, audio: float, compat: Compat = Compat.FIXED) -> tuple[Branch, ...]:
    """Branches needed for these scales. A scale of 1 is no guidance and costs no pass.

    The official program saves the text pass only: it still asks two or three times when ``audio`` is 1.
    """
    plain_text, plain_audio = math.isclose(text, 1.0), math.isclose(audio, 1.0)
    if compat is Compat.OFFICIAL:
        plain_audio = False
    if plain_text and plain_audio:
        return (Branch.COND,)
    if plain_text:
        return (Branch.COND, Branch.DROP_AUDIO)
    if plain_audio:
        return (Branch.COND, Branch.DROP_TEXT)
    return (Branch.COND, Branch.DROP_TEXT, Branch.UNCOND)


class ClassifierFree:
    """Classifier-free guidance with one scale for the text and one for the speech (1 = none)."""

    def __init__(self, text: float, audio: float, compat: Compat = Compat.FIXED) -> None:
        self._text, self._audio = text, audio
        self.branches = branches(text, audio, compat)

    def at(self, step: int) -> Rule:  # noqa: ARG002 - all steps alike
        return self

    def combine(self, answers: Answers) -> torch.Tensor:
        match self.branches:
            case (Branch.COND,):
                return answers[Branch.COND]
            case (Branch.COND, Branch.DROP_AUDIO):
                return _apart(answers[Branch.DROP_AUDIO], answers[Branch.COND], self._audio)
            case (Branch.COND, Branch.DROP_TEXT):
                return _apart(answers[Branch.DROP_TEXT], answers[Branch.COND], self._text)
        cond, drop_text, uncond = (answers[b] for b in self.branches)
        return uncond + self._text * (cond - drop_text) + self._audio * (drop_text - uncond)


class Projected:
    """Adaptive projected guidance (Sadat et al., 2024): each pull is averaged, clipped and made orthogonal.

    What is parallel to the conditional answer only saturates the picture, so it is left out altogether.
    """

    def __init__(self, text: float, audio: float, apg: APG, compat: Compat = Compat.FIXED) -> None:
        self._text, self._audio = text, audio
        self._text_pull, self._audio_pull = _Pull(apg), _Pull(apg)
        self.branches = branches(text, audio, compat)

    def at(self, step: int) -> Rule:  # noqa: ARG002 - all steps alike
        return self

    def combine(self, answers: Answers) -> torch.Tensor:
        cond = answers[Branch.COND]
        guided = cond
        if Branch.DROP_TEXT in answers:
            pull = self._text_pull.refine(cond - answers[Branch.DROP_TEXT], cond)
            guided = guided + (self._text - 1) * pull
        if Branch.UNCOND in answers:
            pull = self._audio_pull.refine(answers[Branch.DROP_TEXT] - answers[Branch.UNCOND], cond)
            guided = guided + (self._audio - 1) * pull
        if Branch.DROP_AUDIO in answers:
            pull = self._audio_pull.refine(cond - answers[Branch.DROP_AUDIO], cond)
            guided = guided + (self._audio - 1) * pull
        return guided


def guidance(text: float, audio: float, apg: APG | None, compat: Compat = Compat.FIXED) -> Guidance:
    """The rule for one window: projected guidance when ``apg`` is given, else classifier-free."""
    if apg is not None:
        return Projected(text, audio, apg, compat)
    return ClassifierFree(text, audio, compat)


class _Pull:
    """One guidance direction over the steps of a window, with its running average."""

    def __init__(self, apg: APG) -> None:
        self._apg = apg
        self._average: torch.Tensor | None = None

    def refine(self, pull: torch.Tensor, cond: torch.Tensor) -> torch.Tensor:
        """Average over the steps, clip the norm of the whole tensor, keep what is orthogonal to ``cond``."""
        self._average = pull if self._average is None else pull + self._apg.momentum * self._average
        # Clipping stays on the device: comparing norms on the host would stall every step.
        scale = (self._apg.norm_threshold / torch.linalg.vector_norm(self._average)).clamp(max=1.0)
        return _orthogonal(self._average * scale, cond)


def _apart(away_from: torch.Tensor, towards: torch.Tensor, scale: float) -> torch.Tensor:
    return away_from + scale * (towards - away_from)


def _orthogonal(vector: torch.Tensor, direction: torch.Tensor) -> torch.Tensor:
    """The part of ``vector`` orthogonal to ``direction``, both taken whole; in float64, as they nearly cancel."""
    wide, unit = vector.double(), direction.double()
    unit = unit / torch.linalg.vector_norm(unit).clamp(min=1e-12)
    apart: torch.Tensor = wide - (wide * unit).sum() * unit
    return apart.to(vector.dtype)
