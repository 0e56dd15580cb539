"""The video transformer: one window of noisy latent, time and condition in, velocity out."""

from infinite_talk.models.dit.condition import Condition, concatenate
from infinite_talk.models.dit.config import DiTConfig
from infinite_talk.models.dit.model import WanTransformer

__all__ = ["Condition", "DiTConfig", "WanTransformer", "concatenate"]
