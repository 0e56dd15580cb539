"""One block of the transformer: self-attention, text and image, speech, feed-forward."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from infinite_talk.models.dit.condition import BlockCondition, Condition, KeysValues
from infinite_talk.models.dit.config import DiTConfig
from infinite_talk.models.dit.people import class_maps, query_positions
from infinite_talk.models.dit.speech import SpeechAttention
from infinite_talk.ops.attention import AttentionCallable, exact
from infinite_talk.ops.norms import LayerNorm, RMSNorm, layer_norm
from infinite_talk.ops.rope import Rotation, line_rotation, rotate


class SelfAttention(nn.Module):
    """All tokens of the window attend to each other, with positions in time, height and width."""

    def __init__(self, config: DiTConfig, attention: AttentionCallable) -> None:
        super().__init__()
        self.heads = config.num_heads
        self.attention = attention
        self.q = nn.Linear(config.dim, config.dim)
        self.k = nn.Linear(config.dim, config.dim)
        self.v = nn.Linear(config.dim, config.dim)
        self.o = nn.Linear(config.dim, config.dim)
        self.norm_q = RMSNorm(config.dim, config.eps)
        self.norm_k = RMSNorm(config.dim, config.eps)

    def forward(self, x: Tensor, rotation: Rotation, classes: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """``x`` (B, N, D) -> its update (B, N, D) and, given ``classes``, the class maps (B, N, P + 1)."""
        q = rotate(self._split(self.norm_q(self.q(x))), rotation).transpose(1, 2)
        k = rotate(self._split(self.norm_k(self.k(x))), rotation).transpose(1, 2)
        v = self._split(self.v(x)).transpose(1, 2)
        found = self.attention(q, k, v)
        out: Tensor = self.o(found.transpose(1, 2).flatten(2))
        maps = None if classes is None else class_maps(q, k, classes, exact(self.attention))
        return out, maps

    def _split(self, x: Tensor) -> Tensor:
        return torch.unflatten(x, -1, (self.heads, -1))  # (B, N, heads, d)


class CrossAttention(nn.Module):
    """Tokens attend to the text and, with keys of its own, to the reference picture; the answers add up."""

    def __init__(self, config: DiTConfig, attention: AttentionCallable) -> None:
        super().__init__()
        self.heads = config.num_heads
        self.attention = attention
        self.q = nn.Linear(config.dim, config.dim)
        self.k = nn.Linear(config.dim, config.dim)
        self.v = nn.Linear(config.dim, config.dim)
        self.o = nn.Linear(config.dim, config.dim)
        self.norm_q = RMSNorm(config.dim, config.eps)
        self.norm_k = RMSNorm(config.dim, config.eps)
        self.k_img = nn.Linear(config.dim, config.dim)
        self.v_img = nn.Linear(config.dim, config.dim)
        self.norm_k_img = RMSNorm(config.dim, config.eps)

    def text_keys_values(self, text: Tensor) -> KeysValues:
        """Keys and values ``(B, heads, L, d)`` of embedded text ``(B, L, D)``."""
        return KeysValues(self._split(self.norm_k(self.k(text))), self._split(self.v(text)))

    def image_keys_values(self, image: Tensor) -> KeysValues:
        """Keys and values ``(B, heads, L, d)`` of embedded image features ``(B, L, D)``."""
        return KeysValues(self._split(self.norm_k_img(self.k_img(image))), self._split(self.v_img(image)))

    def forward(self, x: Tensor, text: KeysValues, image: KeysValues) -> Tensor:
        q = self._split(self.norm_q(self.q(x)))
        found = self.attention(q, text.k, text.v) + self.attention(q, image.k, image.v)
        out: Tensor = self.o(found.transpose(1, 2).flatten(2))
        return out

    def _split(self, x: Tensor) -> Tensor:
        return torch.unflatten(x, -1, (self.heads, -1)).transpose(1, 2)  # (B, heads, L, d)


class Block(nn.Module):
    """Modulated self-attention, plain cross-attentions, modulated feed-forward, each added to the stream."""

    def __init__(self, config: DiTConfig, attention: AttentionCallable) -> None:
        super().__init__()
        self.config = config
        self.self_attn = SelfAttention(config, attention)
        self.norm3 = LayerNorm(config.dim, eps=config.eps)
        self.cross_attn = CrossAttention(config, attention)
        self.norm_x = LayerNorm(config.dim, eps=config.eps)
        self.audio_cross_attn = SpeechAttention(config, attention)
        self.ffn = nn.Sequential(
            nn.Linear(config.dim, config.ffn_dim),
            nn.GELU(approximate="tanh"),
            nn.Linear(config.ffn_dim, config.dim),
        )
        self.modulation = nn.Parameter(torch.randn(1, 6, config.dim) / config.dim**0.5)

    def forward(self, x: Tensor, e0: Tensor, condition: Condition, own: BlockCondition) -> Tensor:
        """Advance the stream.

        Args:
            x: tokens ``(B, N, D)``.
            e0: modulation of the time step, float32 ``(B, 6, D)``.
            own: this block's keys and values, ``condition.blocks[i]``.
        """
        eps = self.config.eps
        m = (self.modulation.float() + e0).unsqueeze(2).unbind(1)  # six of (B, 1, D), float32
        update, maps = self.self_attn(modulate(x, m[0], m[1], eps), condition.rotation, condition.classes)
        x = gate(x, update, m[2])
        x = x + self.cross_attn(self.norm3(x), own.text, own.image)
        x = x + self.audio_cross_attn(self.norm_x(x), own.speech, condition.grid[0], self._who(maps))
        return gate(x, self.ffn(modulate(x, m[3], m[4], eps)), m[5])

    def _who(self, maps: Tensor | None) -> Rotation | None:
        """Rotation of the speech queries; one person needs none."""
        if maps is None:
            return None
        return line_rotation(query_positions(maps, self.config), self.config.head_dim)


def modulate(x: Tensor, shift: Tensor, scale: Tensor, eps: float) -> Tensor:
    """Normalise, then scale and shift in float32; the dtype of ``x`` comes back."""
    return (layer_norm(x, eps).float() * (1 + scale) + shift).to(x.dtype)


def gate(x: Tensor, update: Tensor, amount: Tensor) -> Tensor:
    """``x + update * amount`` in float32; the dtype of ``x`` comes back."""
    return (x.float() + update.float() * amount).to(x.dtype)
