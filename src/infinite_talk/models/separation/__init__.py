"""Vocal separation: the voice of a recording without its music."""

from infinite_talk.models.separation.config import SeparatorConfig
from infinite_talk.models.separation.model import MelBandRoFormer

__all__ = ["MelBandRoFormer", "SeparatorConfig"]
