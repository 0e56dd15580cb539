"""Attention kernels by name. All compute ``softmax(q k^T / sqrt(d)) v`` without a mask, for every head apart.

A kernel is a plain callable that models receive in their constructor. ``eager`` is the slow, obvious twin
that every other kernel is tested against. ``resolve`` finds the one for a run.
"""

from infinite_talk.ops.attention.base import AttentionCallable, Kernel, Source
from infinite_talk.ops.attention.guarded import Dense, exact
from infinite_talk.ops.attention.native import eager, sdpa
from infinite_talk.ops.attention.registry import KERNELS
from infinite_talk.ops.attention.resolving import SUBSTITUTES, Resolved, attention_named, resolve

__all__ = [
    "KERNELS",
    "SUBSTITUTES",
    "AttentionCallable",
    "Dense",
    "Kernel",
    "Resolved",
    "Source",
    "attention_named",
    "eager",
    "exact",
    "resolve",
    "sdpa",
]
