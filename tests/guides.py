"""Guides of windows on another device."""

from __future__ import annotations

from dataclasses import fields, replace

import torch

from infinite_talk.types import Guide


def moved(guide: Guide, device: torch.device | str) -> Guide:
    """All of it on ``device``; what is missing stays missing."""
    parts = {field.name: getattr(guide, field.name) for field in fields(guide)}
    return replace(guide, **{name: part.to(device) for name, part in parts.items() if part is not None})
