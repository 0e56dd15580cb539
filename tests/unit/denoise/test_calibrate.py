"""What is measured for the caches, on laws that are known."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from infinite_talk.denoise.caches.calibrate import APART, Measured, Pair, Recorder
from infinite_talk.denoise.denoiser import Plain
from infinite_talk.denoise.loop import denoise
from infinite_talk.presets import Defaults
from infinite_talk.weights.manifest import EMBEDDED, read_manifest
from tests.unit.denoise.test_loop import sampler, some_guide, tiny_transformer


@settings(max_examples=30)
@given(st.floats(-5, 5), st.floats(0.5, 3))
def test_a_polynomial_through_the_origin_is_found_again(square: float, line: float) -> None:
    pairs = tuple(Pair(x, line * x + square * x * x) for x in np.linspace(0.01, 0.08, 12))
    measured = Measured((1.0,), pairs)
    assert measured.polynomial() == pytest.approx((square, line, 0.0), rel=1e-3, abs=1e-3)


def test_the_recorder_answers_as_the_plain_denoiser_and_sees_each_step() -> None:
    transformer, rule, guide = tiny_transformer(), sampler(6), some_guide()
    noise = torch.randn(guide.latent_shape, generator=torch.Generator().manual_seed(0))
    recorder = Recorder(transformer, rule)
    for _window in range(2):
        assert torch.equal(
            denoise(recorder, rule, guide, noise), denoise(Plain(transformer), rule, guide, noise)
        )
    measured = recorder.measured()
    assert len(measured.ratios) == 6 and measured.ratios[0] == 1.0
    assert all(ratio > 0 and ratio != 1.0 for ratio in measured.ratios[1:])
    assert len(measured.pairs) == 2 * sum(min(step, APART) for step in range(6))
    once = Recorder(transformer, rule)
    denoise(once, rule, guide, noise)
    assert once.measured().ratios == measured.ratios  # the second window did not see the first


def test_ratios_are_those_of_the_blocks_work() -> None:
    """The slow twin: blocks that add a known multiple of the tokens."""
    transformer, rule, guide = tiny_transformer(), sampler(4, 1.0, 1.0), some_guide()
    factors = iter([1.0, 0.9, 0.45, 0.9])
    transformer.embed = lambda *_: torch.ones(1, 12, 24)
    transformer.blocks_forward = lambda tokens, *_: tokens * (1 + next(factors))
    recorder = Recorder(transformer, rule)
    denoise(recorder, rule, guide, torch.zeros(guide.latent_shape))
    measured = recorder.measured()
    assert measured.ratios == pytest.approx((1.0, 0.9, 0.5, 2.0))
    assert [pair.changed for pair in measured.pairs] == pytest.approx([0.1, 0.5, 0.55, 1.0, 0.0, 0.1])


def test_the_embedded_model_was_measured() -> None:
    defaults: Defaults = read_manifest(EMBEDDED).defaults
    assert len(defaults.magcache) == 20 and defaults.magcache[0] == 1.0 and defaults.magcache_shift == 3.0
    assert defaults.step_cache[-1] == 0.0 and defaults.step_cache[-2] > 0
