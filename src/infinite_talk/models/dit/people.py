"""Who is who in the picture: class maps of the tokens and the positions that bind them to a voice.

With several people each voice gets a position of its own on a line, and each picture token the position of
the person it resembles, so that rotary attention favours the right voice (L-RoPE of MultiTalk). Resemblance
is read from the self-attention: how much a token looks at the first-frame tokens of each person's mask.
Person i owns positions ``20 i .. 20 i + 4``, its voice sits in the middle, the background at 12.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from infinite_talk.models.dit.config import DiTConfig
from infinite_talk.ops.attention import AttentionCallable
from infinite_talk.ops.rope import Rotation, line_rotation


def class_weights(token_masks: Tensor, rows: int, columns: int) -> Tensor:
    """Averaging weights of the classes over the first frame's tokens.

    Args:
        token_masks: ``(B, P + 1, h, w)``, positive where the class is: each person, then the background.

    Returns:
        ``(B, rows * columns, P + 1)`` float32; the columns sum to 1, or are 0 for a class without tokens
        (a face smaller than a token), which then no token belongs to.
    """
    present = (F.interpolate(token_masks.float(), size=(rows, columns), mode="nearest") > 0).float()
    present = present.flatten(2).transpose(1, 2)
    return present / present.sum(dim=1, keepdim=True).clamp(min=1)


def class_maps(q: Tensor, k: Tensor, classes: Tensor, attention: AttentionCallable) -> Tensor:
    """How much each token attends to each class of the first frame, ``(B, N, P + 1)`` float32, no gradient.

    Args:
        q, k: rotated queries and keys ``(B, heads, N, d)``.
        classes: weights of ``class_weights``, ``(B, S, P + 1)``.
        attention: an exact kernel.
    """
    # The published code averages two halves of the heads, so that the last of an odd number is not counted.
    heads = max(q.shape[1] - q.shape[1] % 2, 1)
    tokens, count = classes.shape[1:]
    # The weighted sum of attention weights is attention with the class weights as values. A kernel of our own that
    # sums three columns instead of a head's width took 2.5 ms on an H200 where FlashAttention 3 takes 1.5.
    values = F.pad(classes, (0, q.shape[-1] - count)).to(q.dtype)[:, None].expand(-1, heads, -1, -1)
    found = attention(q.detach()[:, :heads], k.detach()[:, :heads, :tokens], values)
    return found[..., :count].float().mean(dim=1)


def query_positions(maps: Tensor, config: DiTConfig) -> Tensor:
    """Position of every token, ``(B, N)``, from its class maps ``(B, N, P + 1)``.

    A person's map is spread over the person's positions by its smallest and largest value in the window.
    """
    people = maps.shape[-1] - 1
    person = maps[..., :people].transpose(1, 2).contiguous()  # (B, P, N): rows without gaps to look through
    low, high = person.aminmax(dim=2, keepdim=True)
    start = torch.arange(people, device=maps.device)[:, None] * _stride(config)
    spread = (person - low) / (high - low + 1e-8) * config.class_interval + start
    background = torch.full_like(spread[:, :1], config.class_range // 2)
    choice = maps.argmax(dim=-1)[:, None]
    return torch.cat((spread, background), dim=1).gather(1, choice).squeeze(1)


def voice_rotation(people: int, config: DiTConfig, device: torch.device) -> Rotation:
    """Rotation of the speech keys of all people, ``(P * context_tokens, d / 2)``."""
    middle = torch.arange(people, device=device) * _stride(config) + config.class_interval // 2
    return line_rotation(middle.repeat_interleave(config.context_tokens), config.head_dim)


def _stride(config: DiTConfig) -> int:
    """Distance between the positions of two people: 20, so that two people fill the range 0..24."""
    return config.class_range - config.class_interval
