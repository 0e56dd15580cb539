"""Guidance with scales of its own at each step, and with what may be done to answers and differences.

The node pack's formula, ``c`` being the full answer, ``n`` the negative prompt with the speech, ``a`` no speech:

| text | audio | asked | velocity |
|---|---|---|---|
| 1 | 1 | c | c |
| 1 | g | c, a with the prompt | a + g (c - a) |
| w | 1 | c, n | n + w (c - n) |
| w | g | c, n, a with the negative prompt | a + w ((c - n) + g (n - a)) |

All are ``base + scale * pull``. CFG-Zero* and TCFG change ``n`` and ``a``, then RAAG the scale, then FreSca the pull.
With three answers both unconditional ones are brought to the conditional one in the same way. (The pack leaves all of
this out with three answers.)
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from infinite_talk.denoise.differences import (
    adaptive_scale,
    rescaled_frequencies,
    tangential,
    zero_star_scale,
)
from infinite_talk.denoise.guidance import Answers, Branch, Rule, branches
from infinite_talk.sampling import GuidanceChoice


def factor_of(text: float, official: float) -> float:
    """The audio factor inside the text guidance that does what the official ``audio_guide_scale`` does.

    Official: ``a + w (c - n) + g (n - a)``. So ``g / w`` where the text is guided, and ``g`` itself where it is not.
    """
    return official if math.isclose(text, 1.0) else official / text


def at_step(scales: tuple[float, ...], step: int) -> float:
    """The scale of a step; the last one holds on."""
    return scales[min(step, len(scales) - 1)]


class Stepwise:
    """The rules of one window."""

    def __init__(self, choice: GuidanceChoice, steps: int) -> None:
        still = range(choice.zero_steps if choice.zero_star else 0)
        self._rules = [Still() if step in still else _rule(choice, step) for step in range(steps)]
        asked = {branch for rule in self._rules for branch in rule.branches}
        self.branches = tuple(branch for branch in Branch if branch in asked) or (Branch.COND,)

    def at(self, step: int) -> Rule:
        return self._rules[step]


@dataclass(frozen=True, slots=True)
class Still:
    """A step that does not move (zero-init of CFG-Zero*), and asks nothing."""

    branches: tuple[Branch, ...] = ()

    def combine(self, answers: Answers) -> torch.Tensor:  # noqa: ARG002
        raise AssertionError("a step that stands still has no answers")


@dataclass(frozen=True, slots=True)
class Guided:
    """One step's rule; ``audio`` is the factor inside the text guidance."""

    branches: tuple[Branch, ...]
    text: float
    audio: float
    choice: GuidanceChoice

    def combine(self, answers: Answers) -> torch.Tensor:
        cond = answers[Branch.COND]
        if len(self.branches) == 1:
            fresca = self.choice.fresca
            return cond if fresca is None else rescaled_frequencies(cond, fresca)
        others = [self._towards(cond, answers[branch]) for branch in self.branches[1:]]
        (base, alpha), (near, _) = others[-1], others[0]
        if len(others) == 1:
            scale, pull = self.audio if Branch.DROP_AUDIO in self.branches else self.text, cond - base
        else:
            scale, pull = self.text, (cond - near) + self.audio * (near - base)
        weight: torch.Tensor | float = scale
        if self.choice.raag_alpha > 0:
            weight = adaptive_scale(cond, base, scale, self.choice.raag_alpha)
        if self.choice.fresca is not None:
            pull = alpha * rescaled_frequencies(pull, self.choice.fresca)
        return base + weight * pull

    def _towards(self, cond: torch.Tensor, other: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | float]:
        """An unconditional answer after CFG-Zero* and TCFG, and the factor of the former."""
        alpha: torch.Tensor | float = 1.0
        if self.choice.zero_star:
            alpha = zero_star_scale(cond, other)
            other = alpha * other
        return (tangential(cond, other) if self.choice.tangential else other), alpha


def _rule(choice: GuidanceChoice, step: int) -> Guided:
    text, audio = at_step(choice.text, step), at_step(choice.audio, step)
    # Which branches an official scale needs is decided before it is divided: 4 of 4 is guidance, and 1 is none.
    asked = branches(text, audio)
    return Guided(asked, text, factor_of(text, audio) if choice.official_audio else audio, choice)
