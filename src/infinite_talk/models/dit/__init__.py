"""The video transformer: one window of noisy latent, time and condition in, velocity out."""

from infinite_talk.models.dit.condition import Condition, ConditionCache, KeysValues, concatenate
from infinite_talk.models.dit.config import DiTConfig
from infinite_talk.models.dit.extras import (
    AddedAttention,
    Everywhere,
    Extras,
    FrameTimes,
    Nag,
    PromptChunks,
    SelfKernel,
)
from infinite_talk.models.dit.model import TimeEmbedding, WanTransformer

__all__ = [
    "AddedAttention",
    "Condition",
    "ConditionCache",
    "DiTConfig",
    "Everywhere",
    "Extras",
    "FrameTimes",
    "KeysValues",
    "Nag",
    "PromptChunks",
    "SelfKernel",
    "TimeEmbedding",
    "WanTransformer",
    "concatenate",
]
