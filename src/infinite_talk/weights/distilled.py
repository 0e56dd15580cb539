"""Whether the LoRA that ``Request.distilled`` needs is among the model's files, and where it is found."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from infinite_talk.errors import CheckpointError, UsageError
from infinite_talk.presets import DISTILLED
from infinite_talk.request import Distilled
from infinite_talk.settings import LoRA, Settings


def with_distilled(settings: Settings, distilled: Distilled | None, cache: Path | None = None) -> Settings:
    """The settings with the LoRA of a distilled preset, which is looked for in the models folders and what was pulled.

    Settings that have it already, as a LoRA or in the model, stay as they are.

    Args:
        cache: the hub's cache, instead of the one of this machine.

    Raises:
        CheckpointError: it is nowhere; says how to get it.
    """
    if distilled is None or _has(settings, distilled):
        return settings
    from infinite_talk.weights.find import find_lora

    few = DISTILLED[distilled]
    roots = (*([settings.model] if settings.model and settings.model.is_dir() else []), *settings.models_dirs)
    for name in few.loras:
        try:
            found = find_lora(LoRA(path=Path(name), strength=few.strength), roots, cache)
        except CheckpointError as error:
            if error.code == "checkpoint_ambiguous":
                raise
            continue
        return replace(settings, loras=(*settings.loras, found))
    raise CheckpointError(_advice(distilled, "was found in no models folder"), code="checkpoint_missing")


def check_distilled(distilled: Distilled | None, settings: Settings) -> None:
    """Refuse a distilled preset without its LoRA: the plain model makes noise of so few steps.

    Raises:
        UsageError: the settings have neither the LoRA nor a model that contains it.
    """
    if distilled in DISTILLED and not _has(settings, distilled):
        raise UsageError(_advice(distilled, "is not among the LoRAs of the settings"), code="distilled_lora")


def _has(settings: Settings, distilled: Distilled) -> bool:
    few = DISTILLED[distilled]
    wanted = {Path(name).stem.lower() for name in (*few.loras, *few.models)}
    return not wanted.isdisjoint(_names(settings))


def _names(settings: Settings) -> Iterator[str]:
    """Names of what could have it, without their endings."""
    for path in (settings.model, *settings.files.transformer, *(lora.path for lora in settings.loras)):
        if path is not None:
            yield path.stem.lower()


def _advice(distilled: Distilled, state: str) -> str:
    few = DISTILLED[distilled]
    return (
        f"The LoRA for {distilled} {state}: none of {', '.join(few.loras)}. Get it ({few.where}) and name it with "
        "--lora (Settings.loras), or put it into a models folder. For a LoRA under another name give its numbers "
        f"instead of the preset: steps {few.steps}, shift {few.shift:g}, guidance 1."
    )
