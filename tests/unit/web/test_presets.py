"""Presets fill in what is open, counted from the model's own defaults."""

from __future__ import annotations

from dataclasses import replace

import pytest

from infinite_talk import Distilled, EasyCache, Engine, Memory, Request, Settings, TeaCache, UsageError
from infinite_talk.frontends.presets import LOW_MEMORY, Preset, apply_preset
from infinite_talk.jobs.node_options import NodeOptions

PLAIN = NodeOptions()
STEPS = Engine().defaults.steps  # of the embedded model


def test_balanced_is_the_models_own_choice():
    request, settings = Request(seed=3), Settings(crf=20)
    assert apply_preset(Preset.BALANCED, request, settings, PLAIN) == (request, settings)


def test_draft_takes_fewer_steps_and_quality_more():
    draft, _ = apply_preset(Preset.DRAFT, Request(), Settings(), PLAIN)
    quality, _ = apply_preset(Preset.QUALITY, Request(), Settings(), PLAIN)
    assert draft.steps is not None and quality.steps is not None
    assert draft.steps < STEPS < quality.steps
    assert isinstance(draft.step_cache, EasyCache) and quality.step_cache is None


def test_a_step_cache_that_nobody_chose_makes_way_for_options_of_the_nodes():
    options = NodeOptions(fps=24)
    assert apply_preset(Preset.DRAFT, Request(), Settings(), options)[0].step_cache is None
    chosen = Request(step_cache=EasyCache(threshold=0.2))
    with pytest.raises(UsageError, match="step_cache"):
        options.check(apply_preset(Preset.DRAFT, chosen, Settings(), options)[0])


@pytest.mark.parametrize("preset", Preset)
def test_what_a_request_says_itself_stays(preset: Preset):
    cache = TeaCache(threshold=0.3)
    said = Request(steps=7, step_cache=cache, size="256x256")
    request, _ = apply_preset(preset, said, Settings(), PLAIN)
    assert request == said


def test_a_distilled_lora_keeps_its_number_of_steps():
    request, _ = apply_preset(Preset.QUALITY, Request(distilled=Distilled.LIGHTX2V_4STEP), Settings(), PLAIN)
    assert request.steps is None


def test_the_embedded_model_is_not_asked_for_720p():
    assert apply_preset(Preset.QUALITY, Request(), Settings(), PLAIN)[0].size is None


def test_low_memory_caps_memory_and_keeps_what_is_lower():
    _, settings = apply_preset(Preset.LOW_MEMORY, Request(), Settings(), PLAIN)
    assert (
        settings.vram == LOW_MEMORY and settings.memory.vae_tiling and settings.memory.keep_encoders is False
    )
    lower = Settings(vram=6.0, memory=Memory(vae_tiling=False))
    _, kept = apply_preset(Preset.LOW_MEMORY, Request(), lower, PLAIN)
    assert kept == replace(lower, memory=Memory(vae_tiling=False, keep_encoders=False))
