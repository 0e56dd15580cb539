"""The video transformer: one window of noisy latent, time and condition in, velocity out."""

from infinite_talk.models.dit.condition import Condition, ConditionCache, concatenate
from infinite_talk.models.dit.config import DiTConfig
from infinite_talk.models.dit.model import TimeEmbedding, WanTransformer

__all__ = ["Condition", "ConditionCache", "DiTConfig", "TimeEmbedding", "WanTransformer", "concatenate"]
