"""Presets fill in what is open, counted from the model's own defaults."""

from __future__ import annotations

from dataclasses import replace

import pytest

from infinite_talk import Distilled, EasyCache, Engine, Memory, Request, Settings, TeaCache
from infinite_talk.frontends.presets import LOW_MEMORY, Preset, apply_preset

STEPS = Engine().defaults.steps  # of the embedded model


def test_balanced_is_the_models_own_choice():
    request, settings = Request(seed=3), Settings(crf=20)
    assert apply_preset(Preset.BALANCED, request, settings) == (request, settings)


def test_draft_takes_fewer_steps_and_quality_more():
    draft, _ = apply_preset(Preset.DRAFT, Request(), Settings())
    quality, _ = apply_preset(Preset.QUALITY, Request(), Settings())
    assert draft.steps is not None and quality.steps is not None
    assert draft.steps < STEPS < quality.steps
    assert isinstance(draft.step_cache, EasyCache) and quality.step_cache is None


@pytest.mark.parametrize("preset", Preset)
def test_what_a_request_says_itself_stays(preset: Preset):
    cache = TeaCache(threshold=0.3)
    said = Request(steps=7, step_cache=cache, size="256x256")
    request, _ = apply_preset(preset, said, Settings())
    assert request == said


def test_a_distilled_lora_keeps_its_number_of_steps():
    request, _ = apply_preset(Preset.QUALITY, Request(distilled=Distilled.LIGHTX2V_4STEP), Settings())
    assert request.steps is None


def test_the_embedded_model_is_not_asked_for_720p():
    assert apply_preset(Preset.QUALITY, Request(), Settings())[0].size is None


def test_low_memory_caps_memory_and_keeps_what_is_lower():
    _, settings = apply_preset(Preset.LOW_MEMORY, Request(), Settings())
    assert (
        settings.vram == LOW_MEMORY and settings.memory.vae_tiling and settings.memory.keep_encoders is False
    )
    lower = Settings(vram=6.0, memory=Memory(vae_tiling=False))
    _, kept = apply_preset(Preset.LOW_MEMORY, Request(), lower)
    assert kept == replace(lower, memory=Memory(vae_tiling=False, keep_encoders=False))
