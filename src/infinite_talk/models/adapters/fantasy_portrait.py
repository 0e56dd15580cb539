"""FantasyPortrait: the head, eyes, mouth and mood of a face that is to be followed, heard in the cross-attention.

Layers and names: FantasyPortrait (github.com/Fantasy-AMAP/fantasy-portrait, Apache-2.0) for Wan2.1-I2V-14B; the
resampler is that of IP-Adapter (github.com/tencent-ailab/IP-Adapter, Apache-2.0), after Perceiver and OpenFlamingo.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate
from typing import cast

import torch
from torch import Tensor, nn

from infinite_talk.errors import InputError
from infinite_talk.models.adapters.added import project
from infinite_talk.models.adapters.frames import Dealt, deal, lengths_of
from infinite_talk.models.dit.condition import KeysValues
from infinite_talk.models.keymap import Entry, KeyMap
from infinite_talk.models.shapes import Shapes, count_layers, matrix
from infinite_talk.ops.attention import sdpa
from infinite_talk.ops.norms import LayerNorm
from infinite_talk.types import TEMPORAL_STRIDE

FACE = (6, 6, 30, 512)
"""Numbers of a face: head pose, eyes, mood, mouth (PD-FGC's motion encoder)."""
ENCODER = "pd_fpg."
"""Beginning of the face encoder's weights, which some files hold as well; it works on pictures, before this."""
_HEAD_DIM = 64


@dataclass(frozen=True, slots=True)
class PortraitConfig:
    """Sizes; the defaults are the published ones."""

    context_dim: int = 2048
    inner_dim: int = 1280  # of the resamplers
    depth: int = 4
    mouth_tokens: int = 16
    mood_tokens: int = 4
    num_heads: int = 20
    dim: int = 5120  # width of the transformer
    num_layers: int = 40

    @property
    def tokens(self) -> int:
        """Tokens of a video frame: one for each part of a face, and those of mouth and mood."""
        return len(FACE) + self.mouth_tokens + self.mood_tokens


class FaceProjection(nn.Module):
    """Numbers of a face -> one token for each of its parts."""

    def __init__(self, config: PortraitConfig) -> None:
        super().__init__()
        head, eyes, mood, mouth = FACE
        self.eye_proj = nn.Linear(eyes, config.context_dim, bias=False)
        self.emo_proj = nn.Linear(mood, config.context_dim, bias=False)
        self.mouth_proj = nn.Linear(mouth, config.context_dim, bias=False)
        self.headpose_proj = nn.Linear(head, config.context_dim, bias=False)
        self.norm = LayerNorm(config.context_dim, eps=1e-5)

    def forward(self, face: Tensor) -> Tensor:
        """``(B, F, 554)`` -> ``(B, F, 4, context_dim)``."""
        head, eyes, mood, mouth = parts_of(face)
        parts = (self.headpose_proj(head), self.eye_proj(eyes), self.emo_proj(mood), self.mouth_proj(mouth))
        return torch.stack([self.norm(part) for part in parts], dim=-2)


def parts_of(face: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Head pose, eyes, mood and mouth of numbers ``(..., 554)``."""
    ends = list(accumulate(FACE))
    head, eyes, mood, mouth = torch.tensor_split(face, ends[:-1], dim=-1)
    return head, eyes, mood, mouth


class _Perceiver(nn.Module):
    """Learned tokens attend to the input and to themselves."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1 = LayerNorm(dim, eps=1e-5)
        self.norm2 = LayerNorm(dim, eps=1e-5)
        self.to_q = nn.Linear(dim, heads * _HEAD_DIM, bias=False)
        self.to_kv = nn.Linear(dim, 2 * heads * _HEAD_DIM, bias=False)
        self.to_out = nn.Linear(heads * _HEAD_DIM, dim, bias=False)

    def forward(self, x: Tensor, latents: Tensor) -> Tensor:
        x, latents = self.norm1(x), self.norm2(latents)
        k, v = self.to_kv(torch.cat((x, latents), dim=1)).chunk(2, dim=-1)
        q, k, v = (
            torch.unflatten(t, -1, (self.heads, -1)).transpose(1, 2) for t in (self.to_q(latents), k, v)
        )
        out: Tensor = self.to_out(sdpa(q, k, v).transpose(1, 2).flatten(2))
        return out


class Resampler(nn.Module):
    """One vector ``(N, 1, inputs)`` -> ``(N, queries, outputs)``."""

    def __init__(self, config: PortraitConfig, inputs: int, queries: int) -> None:
        super().__init__()
        dim = config.inner_dim
        self.latents = nn.Parameter(torch.randn(1, queries, dim) / dim**0.5)
        self.proj_in = nn.Linear(inputs, dim)
        self.proj_out = nn.Linear(dim, config.context_dim)
        self.norm_out = LayerNorm(config.context_dim, eps=1e-5)
        self.layers = nn.ModuleList(
            nn.ModuleList([_Perceiver(dim, config.num_heads), _feed_forward(dim)])
            for _ in range(config.depth)
        )

    def forward(self, x: Tensor) -> Tensor:
        latents = self.latents.expand(len(x), -1, -1)
        x = self.proj_in(x)
        for layer in self.layers:
            attend, feed = cast("nn.ModuleList", layer)
            latents = attend(x, latents) + latents
            latents = feed(latents) + latents
        out: Tensor = self.norm_out(self.proj_out(latents))
        return out


def _feed_forward(dim: int) -> nn.Sequential:
    return nn.Sequential(
        LayerNorm(dim, eps=1e-5),
        nn.Linear(dim, 4 * dim, bias=False),
        nn.GELU(),
        nn.Linear(4 * dim, dim, bias=False),
    )


class _CrossAttention(nn.Module):
    def __init__(self, config: PortraitConfig) -> None:
        super().__init__()
        self.ip_adapter_single_stream_k_proj = nn.Linear(config.context_dim, config.dim, bias=False)
        self.ip_adapter_single_stream_v_proj = nn.Linear(config.context_dim, config.dim, bias=False)


class _Block(nn.Module):
    def __init__(self, config: PortraitConfig) -> None:
        super().__init__()
        self.cross_attn = _CrossAttention(config)


class _Blocks(nn.Module):
    def __init__(self, config: PortraitConfig) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(_Block(config) for _ in range(config.num_layers))


class FantasyPortrait(nn.Module):
    """What a moving face is to the blocks."""

    def __init__(self, config: PortraitConfig) -> None:
        super().__init__()
        self.config = config
        self.proj_model = FaceProjection(config)
        self.mouth_proj_model = Resampler(config, FACE[3], config.mouth_tokens)
        self.emo_proj_model = Resampler(config, FACE[2], config.mood_tokens)
        self.ip_adapter = _Blocks(config)

    @property
    def layers(self) -> int:
        return self.config.num_layers

    @property
    def width(self) -> int:
        return self.config.dim

    @torch.inference_mode()
    def watch(self, face: Tensor, *, whole: float = 1.0, mouth: float = 1.0, mood: float = 1.0) -> Dealt:
        """Numbers of a face ``(B, F, 554)`` -> what each latent frame sees of it.

        Args:
            whole, mouth, mood: factors of the four parts' own tokens, and of those that mouth and mood have besides.

        Raises:
            InputError: not the numbers of a face.
        """
        if face.dim() != 3 or face.shape[-1] != sum(FACE):
            raise InputError(
                f"The numbers of a face have the shape {tuple(face.shape)}; expected (1, frames, {sum(FACE)}): head "
                f"pose, eyes, mood and mouth of each frame, {FACE} of them."
            )
        batch, frames, _ = face.shape
        weight = self.proj_model.eye_proj.weight
        face = face.to(weight.device, weight.dtype)
        _, _, moods, mouths = (part.flatten(0, 1)[:, None] for part in parts_of(face))
        parts = (
            self.proj_model(face) * whole,
            torch.unflatten(self.mouth_proj_model(mouths) * mouth, 0, (batch, frames)),
            torch.unflatten(self.emo_proj_model(moods) * mood, 0, (batch, frames)),
        )
        return deal(torch.cat(parts, dim=2).flatten(1, 2), frames)

    def lengths(self, latents: int) -> Tensor:
        """How many of its features each of so many latent frames has (``watch``); the others fill up."""
        frames = TEMPORAL_STRIDE * (latents - 1) + 1
        return lengths_of(frames * self.config.tokens, frames)

    def keys_values(self, block: int, features: Tensor, heads: int) -> KeysValues:
        """See ``GivesMore``."""
        own = cast("_Block", self.ip_adapter.blocks[block]).cross_attn
        layers = own.ip_adapter_single_stream_k_proj, own.ip_adapter_single_stream_v_proj
        return project(features, *layers, heads)


_FIRST = "ip_adapter.blocks.0.cross_attn.ip_adapter_single_stream_k_proj.weight"


def recognises(shapes: Shapes) -> bool:
    """Whether these are the names of this adapter."""
    return _FIRST in shapes


def config_of(shapes: Shapes) -> PortraitConfig:
    """The sizes.

    Raises:
        CheckpointError: a tensor that tells one is missing or has another number of axes.
    """
    inner = matrix(shapes, "mouth_proj_model.proj_in.weight")[0]
    return PortraitConfig(
        context_dim=matrix(shapes, "proj_model.norm.weight", 1)[0],
        inner_dim=inner,
        depth=count_layers(shapes, "mouth_proj_model.layers."),
        mouth_tokens=matrix(shapes, "mouth_proj_model.latents", 3)[1],
        mood_tokens=matrix(shapes, "emo_proj_model.latents", 3)[1],
        num_heads=matrix(shapes, "mouth_proj_model.layers.0.0.to_q.weight")[0] // _HEAD_DIM,
        dim=matrix(shapes, _FIRST)[0],
        num_layers=count_layers(shapes, "ip_adapter.blocks."),
    )


def names(config: PortraitConfig) -> tuple[str, ...]:
    """All weights as published, without the face encoder's."""
    with torch.device("meta"):
        return tuple(FantasyPortrait(config).state_dict())


def dialects(config: PortraitConfig) -> tuple[KeyMap, ...]:
    """The published names are ours; the face encoder that some files hold is passed over."""
    entries = {name: Entry(name) for name in names(config)}
    return (KeyMap("fantasyportrait", entries, ignored=(ENCODER,), part="portrait adapter"),)
