"""``Preset``: one word for how good and how fast, as the web page and the HTTP interface offer it.

A preset only fills in what a request leaves open, and counts from the model's own defaults, so that it means the same
for a model of 4 steps and one of 40.
"""

from __future__ import annotations

import math
from dataclasses import replace
from enum import StrEnum
from typing import Final

from infinite_talk import EasyCache, Engine, Request, Settings
from infinite_talk.jobs.node_options import NodeOptions

DRAFT_STEPS: Final = 0.4
"""Share of the model's own steps: lips and framing can be judged, details cannot."""
DRAFT_CACHE: Final = EasyCache(threshold=0.1)
"""Twice the usual threshold; of the step caches the one that needs no numbers measured for the model."""
QUALITY_STEPS: Final = 1.5
LOW_MEMORY: Final = 8.0
"""GiB of GPU memory: the smallest with which the 14B model is known to run (README)."""


class Preset(StrEnum):
    """How a video is made."""

    DRAFT = "draft"
    """Fewer steps, some of them skipped where little changes."""
    BALANCED = "balanced"
    """The model's own settings."""
    QUALITY = "quality"
    """More steps, and 720p where the model is at home in it."""
    LOW_MEMORY = "low-memory"
    """The model's own settings in little memory: blocks come from the host, the codec works in tiles. Same numbers."""


def apply_preset(
    preset: Preset, request: Request, settings: Settings, options: NodeOptions
) -> tuple[Request, Settings]:
    """Fill in what a request leaves open.

    Args:
        preset: the choice.
        request: what it says itself stays; ``distilled`` decides about steps itself.
        settings: of the machine; they name the model.
        options: of the nodes; they do not go with a step cache, which only makes way for them if nobody asked for it.

    Raises:
        CheckpointError: the model's ``model.json`` is damaged.
    """
    if preset is Preset.LOW_MEMORY:
        return request, _in_little_memory(settings)
    if preset is Preset.BALANCED:
        return request, settings
    defaults = Engine(settings).defaults
    share = DRAFT_STEPS if preset is Preset.DRAFT else QUALITY_STEPS
    if request.steps is None and request.distilled is None:
        request = replace(request, steps=max(2, math.ceil(defaults.steps * share)))
    if preset is Preset.DRAFT and request.step_cache is None and not options.wanted:
        request = replace(request, step_cache=DRAFT_CACHE)
    if preset is Preset.QUALITY and request.size is None and defaults.large_shift is not None:
        request = replace(request, size="720")  # only models made for it have a shift for it
    return request, settings


def _in_little_memory(settings: Settings) -> Settings:
    memory = replace(
        settings.memory,
        vae_tiling=True if settings.memory.vae_tiling is None else settings.memory.vae_tiling,
        keep_encoders=False if settings.memory.keep_encoders is None else settings.memory.keep_encoders,
    )
    return replace(settings, memory=memory, vram=min(settings.vram or LOW_MEMORY, LOW_MEMORY))
