"""Fused operations of the transformer, and which ones a machine runs."""

from infinite_talk.ops.fused.base import FusedOps
from infinite_talk.ops.fused.choosing import fused_ops
from infinite_talk.ops.fused.eager import EAGER

__all__ = ["EAGER", "FusedOps", "fused_ops"]
