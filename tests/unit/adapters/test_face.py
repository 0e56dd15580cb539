"""The face that an adapter follows has a scale of its own."""

from __future__ import annotations

import torch

from infinite_talk.denoise.face import with_face
from infinite_talk.denoise.guidance import Branch, ClassifierFree
from infinite_talk.denoise.stepwise import Stepwise
from infinite_talk.sampling import WHOLE, GuidanceChoice, Share
from tests.unit import tiny_dit

ANSWERS = {branch: tiny_dit.noise(16, 2, 2, 2, seed=i) for i, branch in enumerate(Branch)}


def test_without_other_guidance_it_is_the_packs_formula():
    rule = with_face(ClassifierFree(1.0, 1.0), [2.5], WHOLE, 4).at(0)
    assert rule.branches == (Branch.COND, Branch.DROP_FACE)
    cond, plain = ANSWERS[Branch.COND], ANSWERS[Branch.DROP_FACE]
    torch.testing.assert_close(rule.combine(ANSWERS), plain + 2.5 * (cond - plain))


def test_with_text_guidance_it_is_added():
    guided = with_face(ClassifierFree(4.0, 1.0), [2.5], WHOLE, 4)
    cond, plain, negative = (ANSWERS[b] for b in (Branch.COND, Branch.DROP_FACE, Branch.DROP_TEXT))
    wanted = negative + 4 * (cond - negative) + 1.5 * (cond - plain)
    torch.testing.assert_close(guided.at(3).combine(ANSWERS), wanted)
    assert guided.branches == (Branch.COND, Branch.DROP_TEXT, Branch.DROP_FACE)


def test_it_costs_nothing_where_it_does_not_act():
    plain = ClassifierFree(1.0, 1.0)
    assert with_face(plain, [1.0], WHOLE, 4) is plain
    guided = with_face(plain, [1.0, 3.0], Share(end=0.5), 4)
    asked = [guided.at(step).branches for step in range(4)]
    assert asked == [(Branch.COND,), *[(Branch.COND, Branch.DROP_FACE)] * 2, (Branch.COND,)]


def test_a_step_that_stands_still_asks_nothing():
    still = Stepwise(GuidanceChoice(text=(5.0,), zero_star=True, zero_steps=1), 2)
    assert with_face(still, [2.0], WHOLE, 2).at(0).branches == ()


def test_the_branch_hears_and_reads_as_the_full_one():
    assert Branch.DROP_FACE.has_text
    assert Branch.DROP_FACE.has_speech
