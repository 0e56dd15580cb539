"""Guidance rules: which branches cost a pass, and that saving one changes nothing."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from infinite_talk.denoise.guidance import Branch, ClassifierFree, Projected, branches
from infinite_talk.request import APG, Compat

COND, DROP_TEXT, UNCOND, DROP_AUDIO, _DROP_FACE = Branch


def _answers(seed: int) -> dict[Branch, torch.Tensor]:
    values = torch.randn(4, 2, 3, 4, 5, generator=torch.Generator().manual_seed(seed))
    return dict(zip((COND, DROP_TEXT, UNCOND, DROP_AUDIO), values, strict=True))


@pytest.mark.parametrize(
    ("text", "audio", "fixed", "official"),
    [
        (5.0, 4.0, (COND, DROP_TEXT, UNCOND), (COND, DROP_TEXT, UNCOND)),
        (1.0, 4.0, (COND, DROP_AUDIO), (COND, DROP_AUDIO)),
        (5.0, 1.0, (COND, DROP_TEXT), (COND, DROP_TEXT, UNCOND)),
        (1.0, 1.0, (COND,), (COND, DROP_AUDIO)),
    ],
)
def test_a_scale_of_one_costs_no_pass(text, audio, fixed, official) -> None:
    assert branches(text, audio) == fixed
    assert branches(text, audio, Compat.OFFICIAL) == official


@settings(max_examples=25)
@given(text=st.sampled_from([1.0, 3.0, 5.0]), seed=st.integers(0, 99), apg=st.booleans())
def test_saved_passes_do_not_change_the_velocity(text: float, seed: int, apg: bool) -> None:
    answers = _answers(seed)
    results = []
    for compat in Compat:
        rule = Projected(text, 1.0, APG(), compat) if apg else ClassifierFree(text, 1.0, compat)
        results.append(rule.combine({branch: answers[branch] for branch in rule.branches}))
    torch.testing.assert_close(*results, atol=1e-5, rtol=1e-5)


@settings(max_examples=25)
@given(text=st.floats(0, 8), audio=st.floats(0, 8), seed=st.integers(0, 99))
def test_equal_answers_are_left_alone(text: float, audio: float, seed: int) -> None:
    """With nothing to pull away from, guidance has no effect at any scale."""
    answer = _answers(seed)[COND]
    for rule in (ClassifierFree(text, audio), Projected(text, audio, APG())):
        guided = rule.combine(dict.fromkeys(rule.branches, answer))
        torch.testing.assert_close(guided, answer, atol=1e-5, rtol=1e-5)


@settings(max_examples=25)
@given(seed=st.integers(0, 99), limit=st.floats(0.1, 100))
def test_projected_pull_is_orthogonal_and_bounded(seed: int, limit: float) -> None:
    rule = Projected(3.0, 1.0, APG(momentum=0.0, norm_threshold=limit))
    answers = _answers(seed)
    pull = (rule.combine({b: answers[b] for b in rule.branches}) - answers[COND]).double() / 2
    assert abs((pull * answers[COND].double()).sum()) < 1e-3
    assert pull.norm() <= limit * 1.001


def test_projected_guidance_remembers_the_steps_before() -> None:
    fresh, used = (Projected(3.0, 2.0, APG(momentum=-0.75)) for _ in range(2))
    used.combine({b: _answers(1)[b] for b in used.branches})
    answers = _answers(2)
    assert not torch.allclose(fresh.combine(answers), used.combine(answers))
