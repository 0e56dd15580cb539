"""FantasyTalking: a second voice for the transformer, heard in its cross-attention.

Layers and names: FantasyTalking (github.com/Fantasy-AMAP/fantasy-talking, Apache-2.0) for Wan2.1-I2V-14B, with the
speech encoder facebook/wav2vec2-base-960h.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from infinite_talk.models.adapters.added import project
from infinite_talk.models.adapters.frames import Dealt, deal
from infinite_talk.models.dit.condition import KeysValues
from infinite_talk.models.keymap import Entry, KeyMap
from infinite_talk.models.shapes import Shapes, count_layers, matrix
from infinite_talk.ops.norms import LayerNorm

MORE = 4
"""Features that a latent frame hears beyond its own on either side."""


@dataclass(frozen=True, slots=True)
class TalkingConfig:
    """Sizes; the defaults are the published ones."""

    speech_dim: int = 768
    context_dim: int = 2048
    dim: int = 5120  # width of the transformer
    num_layers: int = 40


class TalkingProjection(nn.Module):
    """Features of the speech encoder ``(B, L, speech_dim)`` -> ``(B, L, context_dim)``."""

    def __init__(self, config: TalkingConfig) -> None:
        super().__init__()
        self.proj = nn.Linear(config.speech_dim, config.context_dim, bias=False)
        self.norm = LayerNorm(config.context_dim, eps=1e-5)

    def forward(self, speech: Tensor) -> Tensor:
        normed: Tensor = self.norm(self.proj(speech))
        return normed


class _CrossAttention(nn.Module):
    def __init__(self, config: TalkingConfig) -> None:
        super().__init__()
        self.k_proj = nn.Linear(config.context_dim, config.dim, bias=False)
        self.v_proj = nn.Linear(config.context_dim, config.dim, bias=False)


class _Block(nn.Module):
    def __init__(self, config: TalkingConfig) -> None:
        super().__init__()
        self.cross_attn = _CrossAttention(config)


class FantasyTalking(nn.Module):
    """What the speech is to the blocks."""

    def __init__(self, config: TalkingConfig) -> None:
        super().__init__()
        self.config = config
        self.proj_model = TalkingProjection(config)
        self.blocks = nn.ModuleList(_Block(config) for _ in range(config.num_layers))

    @property
    def layers(self) -> int:
        return self.config.num_layers

    @property
    def width(self) -> int:
        return self.config.dim

    @torch.inference_mode()
    def listen(self, speech: Tensor, frames: int) -> Dealt:
        """Features ``(B, L, speech_dim)`` of ``frames`` video frames -> what each latent frame hears of them."""
        weight = self.proj_model.proj.weight
        return deal(self.proj_model(speech.to(weight.device, weight.dtype)), frames, MORE)

    def keys_values(self, block: int, features: Tensor, heads: int) -> KeysValues:
        """See ``GivesMore``."""
        own = cast("_Block", self.blocks[block]).cross_attn
        return project(features, own.k_proj, own.v_proj, heads)


def recognises(shapes: Shapes) -> bool:
    """Whether these are the names of this adapter."""
    return "proj_model.proj.weight" in shapes


def config_of(shapes: Shapes) -> TalkingConfig:
    """The sizes.

    Raises:
        CheckpointError: a tensor that tells one is missing or has another number of axes.
    """
    context, speech = matrix(shapes, "proj_model.proj.weight")
    return TalkingConfig(
        speech_dim=speech,
        context_dim=context,
        dim=matrix(shapes, "blocks.0.cross_attn.k_proj.weight")[0],
        num_layers=count_layers(shapes, "blocks."),
    )


def names(config: TalkingConfig) -> tuple[str, ...]:
    """All weights as published."""
    with torch.device("meta"):
        return tuple(FantasyTalking(config).state_dict())


def dialects(config: TalkingConfig) -> tuple[KeyMap, ...]:
    """The published names are ours."""
    entries = {name: Entry(name) for name in names(config)}
    return (KeyMap("fantasytalking", entries, part="speech adapter"),)
