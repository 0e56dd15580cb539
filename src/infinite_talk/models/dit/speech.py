"""Speech in the transformer: windows of encoder features become a few tokens per latent frame."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from infinite_talk.models.dit.condition import KeysValues
from infinite_talk.models.dit.config import DiTConfig
from infinite_talk.ops.attention import AttentionCallable
from infinite_talk.ops.fused import FusedOps
from infinite_talk.ops.norms import LayerNorm
from infinite_talk.ops.rope import Rotation, rotate


class SpeechProjection(nn.Module):
    """Windows of speech features -> ``context_tokens`` tokens per person and latent frame."""

    def __init__(self, config: DiTConfig) -> None:
        super().__init__()
        self.config = config
        vector = config.audio_blocks * config.audio_channels
        hidden = config.intermediate_dim
        self.proj1 = nn.Linear(config.audio_window * vector, hidden)
        self.proj1_vf = nn.Linear(config.audio_window_group * vector, hidden)
        self.proj2 = nn.Linear(hidden, hidden)
        self.proj3 = nn.Linear(hidden, config.context_tokens * config.output_dim)
        self.norm = LayerNorm(config.output_dim, eps=1e-5)

    def forward(self, speech: Tensor) -> Tensor:
        """``(B, P, F, window, K, Ds)`` -> ``(B, T, P * context_tokens, output_dim)``, person after person."""
        first, groups = group_windows(speech, self.config)
        hidden = torch.cat((self.proj1(first), self.proj1_vf(groups)), dim=2).relu()  # (B, P, T, hidden)
        hidden = self.proj2(hidden).relu()
        shape = (self.config.context_tokens, self.config.output_dim)
        tokens = torch.unflatten(self.proj3(hidden), -1, shape)
        normed: Tensor = self.norm(tokens)
        return normed.transpose(1, 2).flatten(2, 3)


def group_windows(speech: Tensor, config: DiTConfig) -> tuple[Tensor, Tensor]:
    """Flatten the windows of the first frame and of each following group of ``vae_scale`` frames.

    A group keeps the left half and the centre of its first frame's window, the centres of the frames between,
    and the centre and right half of its last frame's window: consecutive vectors around the group.

    Returns:
        ``(B, P, 1, window * K * Ds)`` and ``(B, P, T - 1, (window + vae_scale - 1) * K * Ds)``.
    """
    frames, centre = speech.shape[2], config.audio_window // 2
    if (frames - 1) % config.vae_scale or speech.shape[3] != config.audio_window:
        raise ValueError(
            f"speech windows must be (B, P, {config.vae_scale}n + 1, {config.audio_window}, K, Ds), "
            f"not {tuple(speech.shape)}"
        )
    first = speech[:, :, :1].flatten(3)
    rest = torch.unflatten(speech[:, :, 1:], 2, ((frames - 1) // config.vae_scale, config.vae_scale))
    left = rest[:, :, :, 0, : centre + 1]
    between = rest[:, :, :, 1:-1, centre]
    right = rest[:, :, :, -1, centre:]
    return first, torch.cat((left, between, right), dim=3).flatten(3)


class SpeechAttention(nn.Module):
    """Picture tokens of a latent frame attend to the speech tokens of the same frame."""

    def __init__(self, config: DiTConfig, attention: AttentionCallable, ops: FusedOps) -> None:
        super().__init__()
        self.heads = config.num_heads
        self.attention, self.ops = attention, ops
        self.q_linear = nn.Linear(config.dim, config.dim)
        self.kv_linear = nn.Linear(config.output_dim, 2 * config.dim)
        self.proj = nn.Linear(config.dim, config.dim)

    def keys_values(self, speech: Tensor, rotation: Rotation | None) -> KeysValues:
        """Keys and values ``(B * T, heads, L, d)`` of speech tokens ``(B, T, L, output_dim)``."""
        both = torch.unflatten(self.kv_linear(speech.flatten(0, 1)), -1, (2, self.heads, -1))
        k, v = both.unbind(2)
        if rotation is not None:
            # Without a copy the values would keep the unrotated keys in memory, which lie beside them.
            k, v = rotate(k, rotation), v.contiguous()
        return KeysValues(k.transpose(1, 2), v.transpose(1, 2))

    def forward(self, x: Tensor, speech: KeysValues, frames: int, rotation: Rotation | None) -> Tensor:
        """``x`` (B, N, D) with N tokens in ``frames`` latent frames; ``rotation`` of queries (B, N, d/2)."""
        if not torch.is_grad_enabled() and self._few(x.shape[1] // frames, speech.k):
            turn = None if rotation is None else Rotation(*(_by_frame(part, frames) for part in rotation))
            layers = self.q_linear, self.proj
            found = self.ops.grouped_attention(_by_frame(x, frames), speech.k, speech.v, *layers, turn)
            return found.reshape(x.shape)
        q = torch.unflatten(self.q_linear(x), -1, (self.heads, -1))  # (B, N, heads, d)
        if rotation is not None:
            q = rotate(q, rotation)
        q = _by_frame(q, frames).transpose(1, 2)  # (B * T, heads, S, d)
        found = self.attention(q, speech.k, speech.v).transpose(1, 2).flatten(2)  # (B * T, S, D)
        out: Tensor = self.proj(found.reshape(x.shape))
        return out

    def _few(self, tokens: int, keys: Tensor) -> bool:
        """Whether it is less work to carry a frame's keys back through the layers than its tokens to them.

        For each layer ``S D^2`` multiplications against ``S D H L`` and ``L D^2`` for the keys. At 480p, 1560
        tokens of a frame and 32 keys, that is a quarter: 0.1 of 1.83 PFLOP of a pass. With several people only
        the second layer can be spared.
        """
        heads, count, d = keys.shape[1:]
        width = heads * d
        return tokens * heads * count + count * width < tokens * width


def _by_frame(x: Tensor, frames: int) -> Tensor:
    """``(B, T * S, ...)`` as ``(B * T, S, ...)``."""
    return torch.unflatten(x, 1, (frames, -1)).flatten(0, 1)
