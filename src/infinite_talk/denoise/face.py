"""A scale of its own for the face that an adapter follows (FantasyPortrait's ``portrait_cfg``).

``guided + (s - 1) (c - f)``: ``c`` the full answer, ``f`` the one without the face. Without other guidance that is the
node pack's ``f + s (c - f)``; with text guidance the pack takes no notice of the scale.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from infinite_talk.denoise.guidance import Answers, Branch, Guidance, Rule
from infinite_talk.denoise.stepwise import Stepwise
from infinite_talk.sampling import GuidanceChoice, Share


def rules_of(choice: GuidanceChoice, steps: int) -> Guidance:
    """All rules of a window of so many steps: text, speech and face."""
    return with_face(Stepwise(choice, steps), choice.face, choice.face_share, steps)


def with_face(guidance: Guidance, scales: Sequence[float], share: Share, steps: int) -> Guidance:
    """The guidance with a scale of the face at each step; the last one of ``scales`` holds on, 1 is none."""
    found = [scales[min(step, len(scales) - 1)] for step in range(steps)]
    acting = {
        step: scale
        for step, scale in enumerate(found)
        if share.holds(step, steps) and not math.isclose(scale, 1.0)
    }
    return _WithFace(guidance, acting) if acting else guidance


class _WithFace:
    def __init__(self, inner: Guidance, acting: dict[int, float]) -> None:
        self._inner, self._acting = inner, acting
        self.branches = (*inner.branches, Branch.DROP_FACE)

    def at(self, step: int) -> Rule:
        rule = self._inner.at(step)
        scale = self._acting.get(step)
        # A step that stands still asks nothing.
        return rule if scale is None or not rule.branches else _FaceRule(rule, scale)


@dataclass(frozen=True, slots=True)
class _FaceRule:
    inner: Rule
    scale: float

    @property
    def branches(self) -> tuple[Branch, ...]:
        return (*self.inner.branches, Branch.DROP_FACE)

    def combine(self, answers: Answers) -> torch.Tensor:
        pull = answers[Branch.COND] - answers[Branch.DROP_FACE]
        return self.inner.combine(answers) + (self.scale - 1) * pull
